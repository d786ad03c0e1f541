package fdpass

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// TestNoRoomForDescriptors: a message with more descriptors than the process may still
// open fails its own call alone, the request's and the answer's. It is not parallel: the
// limit is that of every test.
func TestNoRoomForDescriptors(t *testing.T) {
	const many = 2*maxPacketFDs + 1
	proceed := make(chan struct{})
	var pass []int
	c := serve(t, func(_ context.Context, r *Request) (Response, error) {
		switch r.Method {
		case "wait":
			<-proceed
		case "many":
			return Response{FDs: slices.Repeat(pass, many)}, nil
		}
		return Response{Result: r.Count()}, nil
	})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if pass, err = Descriptors(w); err != nil {
		t.Fatal(err)
	}
	raise := leaveRoom(t, 40)
	waited := make(chan error, 1)
	go func() {
		_, err := c.Call(t.Context(), "wait", nil, nil, nil)
		waited <- err
	}()
	long := strings.Repeat("x", 5*maxPacketData)
	way := fmt.Sprintf("prlimit --pid %d --nofile=", os.Getpid())
	for _, call := range []struct {
		method string
		sent   []int
	}{{"take", slices.Repeat(pass, many)}, {"many", nil}} {
		_, err := c.CallFDs(t.Context(), call.method, long, call.sent, nil)
		if !errdefs.IsResourceExhausted(err) || !strings.Contains(err.Error(), "too many open files") || !strings.Contains(err.Error(), way) {
			t.Errorf("%s without room: %v", call.method, err)
		}
	}
	var n int
	if _, err := c.CallFDs(t.Context(), "take", nil, pass, &n); err != nil || n != 1 {
		t.Errorf("the next call, of %d descriptors: %v", n, err)
	}
	close(proceed)
	if err := <-waited; err != nil {
		t.Errorf("a call that had nothing to do with it: %v", err)
	}
	raise()
	if _, err := c.CallFDs(t.Context(), "take", long, slices.Repeat(pass, many), &n); err != nil || n != many {
		t.Errorf("with room again %d descriptors: %v", n, err)
	}
	_ = w.Close()
	_ = r.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the pipe's writing end is still open somewhere: %v", err)
	}
}

// leaveRoom lowers this process's limit so that it may open n more files, about, until
// the function it returns is called.
func leaveRoom(t *testing.T, n uint64) (raise func()) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	tight := unix.Rlimit{Cur: uint64(f.Fd()) + n, Max: old.Max}
	_ = f.Close()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &tight); err != nil {
		t.Fatal(err)
	}
	raise = func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(raise)
	return raise
}
