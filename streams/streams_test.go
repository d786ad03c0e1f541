package streams

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/internal/lab"
)

// Clients that come before the container is there, and one that comes later, get
// both outputs to the end, and the log has them line by line.
func TestOutput(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	box := newContainer(t, "a")
	both := attach(t, c, AttachSpec{ID: "a", Stdout: true, Stderr: true})
	onlyErr := attach(t, c, AttachSpec{ID: "a", Stderr: true})
	must(t, c.Open(t.Context(), box.spec))
	must(t, c.Open(t.Context(), box.spec)) // once more is no error
	// Nobody writes yet: that is not the end.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Drained(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("drained before it began: %v", err)
	}
	box.connect()
	fmt.Fprint(box.stdout, "one\ntwo")
	fmt.Fprint(box.stderr, "oops\n")
	fmt.Fprint(box.stdout, "-and-a-half\nthree")
	box.exit()
	drained(t, c, "a")
	late := attach(t, c, AttachSpec{ID: "a", Stdout: true})

	const want = "one\ntwo-and-a-half\nthree"
	if out, e := demultiplex(t, both); out != want || e != "oops\n" {
		t.Errorf("client got %q and %q", out, e)
	}
	if out, e := demultiplex(t, onlyErr); out != "" || e != "oops\n" {
		t.Errorf("client of stderr got %q and %q", out, e)
	}
	if b, err := io.ReadAll(late); len(b) != 0 || err != nil {
		t.Errorf("client after the end got %q, %v", b, err)
	}
	if got := box.log("stdout"); got != want {
		t.Errorf("log has %q", got)
	}
	if got := box.log("stderr"); got != "oops\n" {
		t.Errorf("log has %q of stderr", got)
	}
	must(t, c.Close(t.Context(), "a"))
	must(t, c.Close(t.Context(), "a"))
	if err := c.Drained(t.Context(), "a"); !errdefs.IsNotFound(err) {
		t.Errorf("drained after close: %v", err)
	}
	if l, err := c.List(t.Context()); len(l) != 0 || err != nil {
		t.Errorf("list %v, %v", l, err)
	}
}

func TestTerminalIsRaw(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	box := newContainer(t, "a")
	box.spec.Terminal, box.spec.Stderr = true, ""
	must(t, c.Open(t.Context(), box.spec))
	conn := attach(t, c, AttachSpec{ID: "a", Stdout: true, Terminal: true})
	w := box.open(box.spec.Stdout)
	fmt.Fprint(w, "\x1b[1mbold\r\n")
	box.exit()
	if b, err := io.ReadAll(conn); string(b) != "\x1b[1mbold\r\n" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	box := newContainer(t, "a")
	must(t, c.Open(t.Context(), box.spec))
	other := box.spec
	other.Log = ""
	if err := c.Open(t.Context(), other); !errdefs.IsConflict(err) {
		t.Errorf("open with other paths: %v", err)
	}
	for name, spec := range map[string]Spec{
		"no id":           {},
		"terminal stderr": {ID: "b", Terminal: true, Stderr: box.spec.Stderr},
	} {
		if err := c.Open(t.Context(), spec); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	plain := filepath.Join(t.TempDir(), "plain")
	must(t, os.WriteFile(plain, nil, 0o600))
	for name, spec := range map[string]Spec{
		"absent": {ID: "b", Stdout: plain + "-absent"},
		"plain":  {ID: "b", Stdout: plain},
		"log":    {ID: "b", Stdout: box.spec.Stdout, Log: plain + "/log"},
	} {
		if err := c.Open(t.Context(), spec); err == nil {
			t.Errorf("%s was opened", name)
		}
	}
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	defer w.Close()
	if err := c.Attach(t.Context(), AttachSpec{ID: "a"}, w); !errdefs.IsInvalidArgument(err) {
		t.Errorf("attach of a pipe: %v", err)
	}
	l, err := c.List(t.Context())
	if err != nil || len(l) != 1 || !reflect.DeepEqual(l[0].Spec, box.spec) || !l[0].Opened || l[0].Drained {
		t.Errorf("list %+v, %v", l, err)
	}
}

// A client that reads nothing stalls the container for the time set, not for
// ever, and costs the others nothing.
func TestClientThatNeverReads(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "short-stall")
	box := newContainer(t, "a")
	must(t, c.Open(t.Context(), box.spec))
	box.connect()
	attach(t, c, AttachSpec{ID: "a", Stdout: true})
	good := attach(t, c, AttachSpec{ID: "a", Stdout: true})
	want := strings.Repeat(strings.Repeat("x", 99)+"\n", 80_000) // 8 MB
	go func() {
		_, _ = io.WriteString(box.stdout, want)
		box.exit()
	}()
	if out, _ := demultiplex(t, good); out != want {
		t.Errorf("the client that reads got %d bytes of %d", len(out), len(want))
	}
	drained(t, c, "a")
	if got := box.log("stdout"); got != want {
		t.Errorf("the log has %d bytes of %d", len(got), len(want))
	}
	if l, _ := c.List(t.Context()); l[0].Clients != 0 {
		t.Errorf("%d clients are left", l[0].Clients)
	}
}

// A client that is slow, but not as slow as that, gets everything, though it takes longer.
func TestSlowClient(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "slow-stall")
	box := newContainer(t, "a")
	box.spec.Log = ""
	must(t, c.Open(t.Context(), box.spec))
	box.connect()
	slow := attach(t, c, AttachSpec{ID: "a", Stdout: true})
	want := strings.Repeat("0123456789", 400_000) // 4 MB
	go func() {
		_, _ = io.WriteString(box.stdout, want)
		box.exit()
	}()
	began := time.Now()
	if out, _ := demultiplex(t, slowly{slow}); out != want {
		t.Errorf("got %d bytes of %d", len(out), len(want))
	}
	if took := time.Since(began); took < slowStall {
		t.Errorf("it took all in %s: this has shown nothing", took)
	}
}

// slowly reads at most 64 KiB every 100 ms.
type slowly struct{ r io.Reader }

func (s slowly) Read(b []byte) (int, error) {
	if len(b) > 8 {
		time.Sleep(100 * time.Millisecond)
	}
	return s.r.Read(b[:min(len(b), 64<<10)])
}

// A client that goes away is noticed without any output.
func TestClientGone(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	box := newContainer(t, "a")
	box.spec.OpenStdin, box.spec.StdinOnce = true, true
	must(t, c.Open(t.Context(), box.spec))
	box.connect()
	watcher := attach(t, c, AttachSpec{ID: "a", Stdout: true})
	must(t, watcher.CloseWrite())
	typist := attach(t, c, AttachSpec{ID: "a", Stdin: true, Stdout: true})
	clients := func() int {
		l, err := c.List(t.Context())
		must(t, err)
		return l[0].Clients
	}
	time.Sleep(30 * time.Millisecond)
	if n := clients(); n != 2 {
		t.Fatalf("%d clients: a half-close is not the end", n)
	}
	_ = watcher.Close()
	_ = typist.Close()
	for range 500 {
		if clients() == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := clients(); n != 0 {
		t.Errorf("%d clients are left", n)
	}
	must(t, c.StdinClosed(t.Context(), "a")) // its client is gone
}

// Close does not wait for a container that holds its FIFOs open; what is in them
// is in the log.
func TestCloseBeforeEnd(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	box := newContainer(t, "a")
	must(t, c.Open(t.Context(), box.spec))
	box.connect()
	conn := attach(t, c, AttachSpec{ID: "a", Stdout: true})
	waits := attach(t, c, AttachSpec{ID: "never-opened", Stdin: true, Stdout: true})
	fmt.Fprint(box.stdout, "last words")
	must(t, c.Close(t.Context(), "a"))
	if got := box.log("stdout"); got != "last words" {
		t.Errorf("log has %q", got)
	}
	if out, _ := demultiplex(t, conn); out != "last words" {
		t.Errorf("client got %q", out)
	}
	must(t, c.Drop(t.Context(), "never-opened"))
	if b, err := io.ReadAll(waits); len(b) != 0 || (err != nil && !errors.Is(err, syscall.ECONNRESET)) {
		t.Errorf("client of what never was got %q, %v", b, err)
	}
	// The same ID again, as after a restart.
	must(t, c.Open(t.Context(), box.spec))
	fmt.Fprint(box.stdout, ", again")
	box.exit()
	drained(t, c, "a")
	if got := box.log("stdout"); got != "last words, again" {
		t.Errorf("log has %q", got)
	}
	must(t, c.Open(t.Context(), box.spec)) // what is drained is replaced
	must(t, c.Drop(t.Context(), "a"))
}

// Killed, the process is replaced by another that goes on with the same FIFOs:
// what the container writes meanwhile waits in them.
func TestKilled(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c := ensure(t, root, "command")
	box := newContainer(t, "a")
	must(t, c.Open(t.Context(), box.spec))
	box.connect()
	fmt.Fprint(box.stdout, "before\n")
	for box.log("stdout") == "" {
		time.Sleep(time.Millisecond)
	}
	must(t, lab.Signal(c.PID(), syscall.SIGKILL))
	<-c.Done()
	if err := c.Open(t.Context(), box.spec); !errdefs.IsUnavailable(err) {
		t.Errorf("open: %v", err)
	}
	fmt.Fprint(box.stdout, "meanwhile\n")
	next := ensure(t, root, "command")
	must(t, next.Open(t.Context(), box.spec))
	fmt.Fprint(box.stdout, "after\n")
	box.exit()
	drained(t, next, "a")
	if got := box.log("stdout"); got != "before\nmeanwhile\nafter\n" {
		t.Errorf("log has %q", got)
	}
}

func TestHundredAtOnce(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	boxes := make([]*container, 100)
	for i := range boxes {
		boxes[i] = newContainer(t, fmt.Sprint("box", i))
	}
	var wg sync.WaitGroup
	for _, box := range boxes {
		wg.Go(func() {
			id := box.spec.ID
			conn := attach(t, c, AttachSpec{ID: id, Stdout: true, Stderr: true})
			if err := c.Open(t.Context(), box.spec); err != nil {
				t.Error(err)
				return
			}
			box.connect()
			fmt.Fprintf(box.stdout, "I am %s\n", id)
			fmt.Fprintf(box.stderr, "not %s\n", id)
			box.exit()
			if err := c.Drained(t.Context(), id); err != nil {
				t.Error(err)
			}
			if out, e := demultiplex(t, conn); out != "I am "+id+"\n" || e != "not "+id+"\n" {
				t.Errorf("%s: %q, %q", id, out, e)
			}
			if err := c.Close(t.Context(), id); err != nil {
				t.Error(err)
			}
			if got := box.log("stdout"); got != "I am "+id+"\n" {
				t.Errorf("%s: log has %q", id, got)
			}
		})
	}
	wg.Wait()
}
