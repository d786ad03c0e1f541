package streams

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/streams/jsonlog"
)

// The test binary is the process too: Ensure starts it again with this variable,
// whose value is the build it says it is of.
const envServe = "FAIRLEAD_TEST_STREAMS"

// testStall is short, so that a test can see it pass.
const testStall = time.Second

func TestMain(m *testing.M) {
	var err error
	switch build := os.Getenv(envServe); build {
	case "":
		goleak.VerifyTestMain(m)
	case "broken":
		os.Exit(1)
	case "command":
		cmd := Command()
		cmd.SetArgs(os.Args[2:])
		err = cmd.Execute()
	default:
		err = Serve(context.Background(), ServeOptions{ExecRoot: os.Args[3], Build: build, Stall: testStall})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// environ makes the test binary a streams process, which under the race detector
// would otherwise sleep for a second before it exits.
func environ(build string) []string {
	return []string{envServe + "=" + build, "GORACE=atexit_sleep_ms=0"}
}

// ensure starts or finds the process of root, and stops it at the test's end.
func ensure(t *testing.T, root, build string) *Client {
	t.Helper()
	o := Options{ExecRoot: root, Env: environ(build), Logger: slog.New(slog.DiscardHandler)}
	if build != "command" {
		o.Build = build
	}
	c, err := Ensure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			t.Error(err)
		}
		_ = c.Disconnect()
		log, _ := os.ReadFile(root + "/streams.log")
		if strings.Contains(string(log), "panic") || strings.Contains(string(log), "DATA RACE") {
			t.Error("the process broke")
		}
		if t.Failed() {
			t.Logf("log of the process:\n%s", log)
		}
	})
	return c
}

// container stands for a container and its shim: it holds both ends of its
// output FIFOs, as containerd's shim does, so that a dead reader does no harm.
type container struct {
	t      *testing.T
	spec   Spec
	stdout *os.File
	stderr *os.File
	ends   []*os.File
}

// newContainer makes the FIFOs and the Spec; connect opens the shim's ends.
func newContainer(t *testing.T, id string) *container {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"stdin", "stdout", "stderr"} {
		if err := unix.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &container{t: t, spec: Spec{
		ID: id, Stdin: dir + "/stdin", Stdout: dir + "/stdout", Stderr: dir + "/stderr", Log: dir + "/json.log",
	}}
}

func (c *container) connect() {
	c.t.Helper()
	c.stdout, c.stderr = c.open(c.spec.Stdout), c.open(c.spec.Stderr)
	c.t.Cleanup(c.exit)
}

func (c *container) open(path string) *os.File {
	c.t.Helper()
	// Opened for both first, so that neither open waits for the other side.
	both, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	defer both.Close()
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	r, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	c.ends = append(c.ends, w, r)
	return w
}

// exit closes the shim's ends.
func (c *container) exit() {
	for _, f := range c.ends {
		_ = f.Close()
	}
}

// log is what the log has of a stream.
func (c *container) log(stream string) string {
	c.t.Helper()
	var b strings.Builder
	err := jsonlog.Read(context.Background(), c.spec.Log, jsonlog.Options{Tail: -1, Stdout: true, Stderr: true}, func(s string, _ time.Time, line []byte) error {
		if s == stream {
			b.Write(line)
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return b.String()
}

// attach gives one end of a new connection to the process.
func attach(t *testing.T, c *Client, spec AttachSpec) *net.UnixConn {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	defer theirs.Close()
	defer ours.Close()
	if err := c.Attach(t.Context(), spec, theirs); err != nil {
		t.Fatal(err)
	}
	conn, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.UnixConn)
}

// demultiplex reads frames to the end of the connection.
func demultiplex(t *testing.T, r io.Reader) (stdout, stderr string) {
	t.Helper()
	var out [3]bytes.Buffer
	for {
		var h [8]byte
		if _, err := io.ReadFull(r, h[:]); errors.Is(err, io.EOF) {
			return out[1].String(), out[2].String()
		} else if err != nil {
			t.Fatal(err)
		}
		if h[0] != 1 && h[0] != 2 || h[1]|h[2]|h[3] != 0 {
			t.Fatalf("header % x", h)
		}
		if _, err := io.CopyN(&out[h[0]], r, int64(binary.BigEndian.Uint32(h[4:]))); err != nil {
			t.Fatal(err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func drained(t *testing.T, c *Client, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	must(t, c.Drained(ctx, id))
}

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
	if err != nil || len(l) != 1 || l[0].Spec != box.spec || !l[0].Opened || l[0].Drained {
		t.Errorf("list %+v, %v", l, err)
	}
}

// What one client sends and ends, before there is a container, reaches it, and
// then its stdin is closed.
func TestStdinOnce(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	box := newContainer(t, "a")
	box.spec.OpenStdin, box.spec.StdinOnce = true, true
	conn := attach(t, c, AttachSpec{ID: "a", Stdin: true, Stdout: true, Preread: []byte("hello ")})
	_, err := io.WriteString(conn, "there")
	must(t, err)
	must(t, conn.CloseWrite())
	must(t, c.Open(t.Context(), box.spec))
	time.Sleep(20 * time.Millisecond) // nobody reads stdin yet: it must wait
	in, err := os.OpenFile(box.spec.Stdin, os.O_RDONLY, 0)
	must(t, err)
	defer in.Close()
	box.connect()
	if b, err := io.ReadAll(in); string(b) != "hello there" || err != nil {
		t.Errorf("stdin had %q, %v", b, err)
	}
	must(t, c.StdinClosed(t.Context(), "a"))
	fmt.Fprint(box.stdout, "still here\n")
	box.exit()
	if out, _ := demultiplex(t, conn); out != "still here\n" {
		t.Errorf("after its stdin ended the client got %q", out)
	}
}

// Without StdinOnce stdin stays open from one client to the next, and the end of
// a client's input is the end of the client, as Docker has it.
func TestStdinStaysOpen(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	box := newContainer(t, "a")
	box.spec.OpenStdin = true
	must(t, c.Open(t.Context(), box.spec))
	in, err := os.OpenFile(box.spec.Stdin, os.O_RDWR, 0)
	must(t, err)
	defer in.Close()
	box.connect()
	for _, text := range []string{"one", "two"} {
		conn := attach(t, c, AttachSpec{ID: "a", Stdin: true, Stdout: true})
		_, err := io.WriteString(conn, text)
		must(t, err)
		must(t, conn.CloseWrite())
		b := make([]byte, 10)
		if n, err := in.Read(b); string(b[:n]) != text || err != nil {
			t.Errorf("stdin had %q, %v", b[:n], err)
		}
		if b, err := io.ReadAll(conn); len(b) != 0 || err != nil {
			t.Errorf("client got %q, %v", b, err)
		}
	}
	if l, _ := c.List(t.Context()); l[0].StdinClosed || l[0].Clients != 0 {
		t.Errorf("%+v", l[0])
	}
}

func TestDetachKeys(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	box := newContainer(t, "a")
	box.spec.OpenStdin, box.spec.StdinOnce, box.spec.Terminal, box.spec.Stderr = true, true, true, ""
	must(t, c.Open(t.Context(), box.spec))
	in, err := os.OpenFile(box.spec.Stdin, os.O_RDWR, 0)
	must(t, err)
	defer in.Close()
	out := box.open(box.spec.Stdout)
	defer box.exit()
	spec := AttachSpec{ID: "a", Stdin: true, Stdout: true, Terminal: true, DetachKeys: []byte{16, 17}}
	leaves, stays := attach(t, c, spec), attach(t, c, spec)
	_, err = leaves.Write([]byte{'x', 16, 'y', 16, 17, 'z'})
	must(t, err)
	if b, err := io.ReadAll(leaves); len(b) != 0 || err != nil {
		t.Errorf("after the keys: %q, %v", b, err)
	}
	_ = leaves.Close()
	b := make([]byte, 10)
	if n, err := in.Read(b); string(b[:n]) != "x\x10y" || err != nil {
		t.Errorf("stdin had %q, %v", b[:n], err)
	}
	fmt.Fprint(out, "on")
	if _, err := io.ReadFull(stays, b[:2]); string(b[:2]) != "on" || err != nil {
		t.Errorf("the other client got %q, %v", b[:2], err)
	}
	if l, _ := c.List(t.Context()); l[0].StdinClosed {
		t.Error("detaching closed stdin")
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

// A client that is slow, but not as slow as that, gets everything.
func TestSlowClient(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "short-stall")
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
	if out, _ := demultiplex(t, slowly{slow}); out != want {
		t.Errorf("got %d bytes of %d", len(out), len(want))
	}
}

// slowly reads at most 64 KiB every 20 ms.
type slowly struct{ r io.Reader }

func (s slowly) Read(b []byte) (int, error) {
	if len(b) > 8 {
		time.Sleep(20 * time.Millisecond)
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
	must(t, syscall.Kill(c.PID(), syscall.SIGKILL))
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
