package streams

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/internal/lab"
)

// numbered writes lines "0\n", "1\n", … in uneven pieces until told to stop, and
// returns all of it.
func numbered(w io.Writer, stop <-chan struct{}) string {
	var all, piece bytes.Buffer
	for i := 0; ; i++ {
		fmt.Fprintf(&piece, "%d %s\n", i, strings.Repeat("x", i%200))
		if piece.Len() > i%1500 {
			cut := piece.Len() - i%7
			b := piece.Next(max(cut, 1))
			all.Write(b)
			if _, err := w.Write(b); err != nil {
				return err.Error()
			}
		}
		select {
		case <-stop:
			b := piece.Next(piece.Len())
			all.Write(b)
			_, _ = w.Write(b)
			return all.String()
		default:
		}
	}
}

// awaitExit waits for a process that was replaced.
func awaitExit(t *testing.T, pid int) {
	t.Helper()
	for range 1000 {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || bytes.Contains(b, []byte(") Z ")) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process %d is still there", pid)
	_ = lab.Signal(pid, syscall.SIGKILL)
}

// same says where two texts differ.
func same(t *testing.T, what, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	t.Errorf("%s: %d bytes, want %d; they differ from %d on", what, len(got), len(want), i)
}

// Through several replacements by other builds, while the container writes and
// is written to as fast as it goes, the log, two clients and stdin have every
// byte, once and in order.
func TestHandover(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c := ensure(t, root, "one")
	box := newContainer(t, "a")
	box.spec.OpenStdin, box.spec.StdinOnce = true, true
	must(t, c.Open(t.Context(), box.spec))
	stdin := box.open(box.spec.Stdin) // the shim's ends
	in := box.ends[1]
	box.connect()
	typist := attach(t, c, AttachSpec{ID: "a", Stdin: true, Stdout: true})
	watcher := attach(t, c, AttachSpec{ID: "a", Stdout: true, Stderr: true})
	waiting := attach(t, c, AttachSpec{ID: "b", Stdin: true, Stdout: true, Preread: []byte("early ")})

	var wg, writing sync.WaitGroup
	stop := make(chan struct{})
	var wroteOut, wroteIn, gotIn, gotTypist, gotWatcher string
	writing.Go(func() {
		wroteOut = numbered(box.stdout, stop)
		fmt.Fprint(box.stderr, "bye")
	})
	wg.Go(func() {
		wroteIn = numbered(typist, stop)
		_ = typist.CloseWrite()
	})
	wg.Go(func() {
		b, _ := io.ReadAll(in)
		gotIn = string(b)
	})
	wg.Go(func() { gotTypist, _ = demultiplex(t, typist) })
	wg.Go(func() { gotWatcher, _ = demultiplex(t, watcher) })

	for _, build := range []string{"two", "three", "four"} {
		time.Sleep(100 * time.Millisecond)
		next := ensure(t, root, build)
		if next.Build() != build || next.PID() == c.PID() {
			t.Fatalf("build %s answers, process %d", next.Build(), next.PID())
		}
		<-c.Done()
		awaitExit(t, c.PID())
		c = next
	}
	time.Sleep(100 * time.Millisecond)
	close(stop)
	must(t, c.StdinClosed(t.Context(), "a"))
	_ = stdin.Close() // the task's CloseIO
	writing.Wait()
	for _, f := range box.ends[2:] { // not stdin's
		_ = f.Close()
	}
	drained(t, c, "a")
	wg.Wait()
	t.Logf("%d bytes out, %d in", len(wroteOut), len(wroteIn))
	same(t, "log", box.log("stdout"), wroteOut)
	same(t, "stderr", box.log("stderr"), "bye")
	same(t, "typist", gotTypist, wroteOut)
	same(t, "watcher", gotWatcher, wroteOut)
	same(t, "stdin", gotIn, wroteIn)

	// The client that waits has come along.
	earlyBird(t, c, waiting)
}

// earlyBird opens what a client waits for that has sent "early " and checks that
// it gets through.
func earlyBird(t *testing.T, c *Client, waiting *net.UnixConn) {
	t.Helper()
	second := newContainer(t, "b")
	second.spec.OpenStdin, second.spec.StdinOnce = true, true
	_, err := io.WriteString(waiting, "bird")
	must(t, err)
	must(t, waiting.CloseWrite())
	must(t, c.Open(t.Context(), second.spec))
	f, err := os.OpenFile(second.spec.Stdin, os.O_RDONLY, 0)
	must(t, err)
	defer f.Close()
	if b, err := io.ReadAll(f); string(b) != "early bird" || err != nil {
		t.Errorf("stdin had %q, %v", b, err)
	}
}

// A line that was begun, and detach keys that were begun, go on in the next
// process.
func TestHandoverInTheMiddle(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c := ensure(t, root, "one")
	box := newContainer(t, "a")
	box.spec.OpenStdin, box.spec.Terminal, box.spec.Stderr = true, true, ""
	must(t, c.Open(t.Context(), box.spec))
	in, err := os.OpenFile(box.spec.Stdin, os.O_RDWR, 0)
	must(t, err)
	defer in.Close()
	out := box.open(box.spec.Stdout)
	conn := attach(t, c, AttachSpec{ID: "a", Stdin: true, Stdout: true, Terminal: true, DetachKeys: []byte{16, 17}})
	fmt.Fprint(out, "half a ")
	_, err = conn.Write([]byte{'k', 16})
	must(t, err)
	b := make([]byte, 20)
	_, err = io.ReadFull(conn, b[:7])
	must(t, err)
	if n, err := in.Read(b); string(b[:n]) != "k" || err != nil {
		t.Fatalf("stdin had %q, %v", b[:n], err)
	}
	if box.log("stdout") != "" {
		t.Fatal("the log has a line that has not ended")
	}
	next := ensure(t, root, "two")
	fmt.Fprint(out, "line\n")
	_, err = io.ReadFull(conn, b[:5])
	must(t, err)
	_, err = conn.Write([]byte{17})
	must(t, err)
	if rest, err := io.ReadAll(conn); len(rest) != 0 || err != nil {
		t.Errorf("after the keys: %q, %v", rest, err)
	}
	box.exit()
	drained(t, next, "a")
	if got := box.log("stdout"); got != "half a line\n" {
		t.Errorf("log has %q", got)
	}
	// What is drained is known to the next one too.
	third := ensure(t, root, "three")
	drained(t, third, "a")
	must(t, third.Close(t.Context(), "a"))
}

// A successor that dies leaves everything as it was.
func TestHandoverFails(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c := ensure(t, root, "one")
	box := newContainer(t, "a")
	must(t, c.Open(t.Context(), box.spec))
	box.connect()
	conn := attach(t, c, AttachSpec{ID: "a", Stdout: true})
	kept, err := Ensure(t.Context(), Options{ExecRoot: root, Env: environ("broken"), Build: "two", Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	if kept.PID() != c.PID() {
		t.Errorf("process %d answers, want %d", kept.PID(), c.PID())
	}
	_ = kept.Disconnect()

	// One that got everything and dies before it says so.
	rpc := c.rpc
	if _, err := rpc.Call(t.Context(), "handed-over", nil, nil, nil); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("handed over without a handover: %v", err)
	}
	thief, err := Dial(t.Context(), root)
	must(t, err)
	fds, err := thief.rpc.Call(t.Context(), "handover", nil, nil, nil)
	must(t, err)
	if err := c.Open(t.Context(), Spec{ID: "b"}); !errdefs.IsUnavailable(err) {
		t.Errorf("a change during a handover: %v", err)
	}
	fmt.Fprint(box.stdout, "waits\n")
	for _, fd := range fds {
		must(t, syscall.Close(fd))
	}
	_ = thief.Disconnect()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for { // it notices, and goes on
		err := c.Open(ctx, Spec{ID: "b"})
		if err == nil {
			break
		}
		if !errdefs.IsUnavailable(err) || errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	}
	again, err := Dial(ctx, root) // accepts again, too
	must(t, err)
	_ = again.Disconnect()
	box.exit()
	if out, _ := demultiplex(t, conn); out != "waits\n" {
		t.Errorf("client got %q", out)
	}
}
