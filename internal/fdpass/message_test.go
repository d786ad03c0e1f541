package fdpass

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A message of more bytes and descriptors than one packet holds arrives whole
// and in order, in both directions.
func TestManyDescriptors(t *testing.T) {
	t.Parallel()
	c := serve(t, func(_ context.Context, r *Request) (Response, error) {
		var in string
		if err := r.Decode(&in); err != nil {
			return Response{}, err
		}
		fds := r.Take()
		return Response{Result: strings.ToUpper(in), FDs: fds, After: func() { CloseFDs(fds) }}, nil
	})
	if h := c.Hello(); h.Protocol != 7 || h.Build != "b" {
		t.Errorf("hello %+v", h)
	}
	for _, n := range []int{0, 1, 200, 201, 1000} {
		files := make([]*os.File, n)
		for i := range files {
			f, err := os.CreateTemp(t.TempDir(), "f")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			fmt.Fprint(f, i)
			files[i] = f
		}
		text := strings.Repeat("x", n*100)
		var out string
		fds, err := c.Call(t.Context(), "echo", text, files, &out)
		if err != nil {
			t.Fatal(err)
		}
		if len(fds) != n || out != strings.ToUpper(text) {
			t.Fatalf("%d descriptors and %d bytes came back, want %d and %d", len(fds), len(out), n, len(text))
		}
		for i, fd := range fds {
			b := make([]byte, 10)
			k, err := unix.Pread(fd, b, 0)
			if err != nil || string(b[:k]) != fmt.Sprint(i) {
				t.Fatalf("descriptor %d reads %q, %v", i, b[:k], err)
			}
		}
		CloseFDs(fds)
	}
}

// Passing a non-blocking file leaves it non-blocking for the sender too.
func TestDescriptorsKeepNonblock(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	fds, err := Descriptors(r, w)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK == 0 {
			t.Errorf("flags %#x, %v", flags, err)
		}
	}
}

// Descriptors of a message that is cut off half way are not leaked.
func TestTruncatedMessage(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	defer b.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fds, err := Descriptors(w)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.sendPacket([]byte("half"), fds, false); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	_ = a.Close()
	if _, _, err := b.Receive(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	_ = r.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the pipe's writing end is still open somewhere: %v", err)
	}
}

// The sockets of all ports of both families go in one message. They are closed here as
// they come: a process of the test's may have fewer.
func TestAllPorts(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	defer b.Close()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	one, err := Descriptors(f)
	if err != nil {
		t.Fatal(err)
	}
	const all = 2 * 65535
	sent := make(chan error, 1)
	go func() {
		sent <- a.Send([]byte("hold"), slices.Repeat(one, all))
		_ = a.Close()
	}()
	got := 0
	for {
		_, n, _, _, err := b.conn.ReadMsgUnix(b.data, b.oob)
		fds, _ := parseRights(b.oob[:n])
		CloseFDs(fds)
		if got += len(fds); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := <-sent; err != nil || got != all {
		t.Errorf("%d descriptors came, want %d: %v", got, all, err)
	}
}

func pair(t *testing.T) (a, b *Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out [2]*Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if out[i], err = NewConn(c.(*net.UnixConn)); err != nil {
			t.Fatal(err)
		}
	}
	return out[0], out[1]
}
