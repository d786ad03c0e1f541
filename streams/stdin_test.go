package streams

import (
	"fmt"
	"io"
	"os"
	"testing"
	"time"
)

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
