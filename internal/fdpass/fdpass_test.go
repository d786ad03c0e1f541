package fdpass

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a server on a fresh socket and returns a client of it.
func serve(t *testing.T, h Handler) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Hello: Hello{Protocol: 7, Build: "b"}, Handler: h, Logger: slog.New(slog.DiscardHandler)}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Serve(l); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.Close()
		wg.Wait()
	})
	return connect(t, path)
}

func connect(t *testing.T, path string) *Client {
	t.Helper()
	conn, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestListenIsPrivate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	for range 2 { // the second replaces the first
		l, err := Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(path)
		if err != nil || fi.Mode().Perm() != 0o600 {
			t.Fatalf("mode %v, %v", fi.Mode(), err)
		}
		_ = l.Close()
	}
	if _, err := Dial(t.Context(), path); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("dial of a dead socket: %v", err)
	}
	if _, err := Dial(t.Context(), path+"-absent"); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("dial of no socket: %v", err)
	}
}

func TestErrorKinds(t *testing.T) {
	t.Parallel()
	c := serve(t, func(_ context.Context, r *Request) (Response, error) {
		for _, k := range kinds {
			if k.name == r.Method {
				return Response{}, fmt.Errorf("port 80: %w", k.sentinel)
			}
		}
		return Response{}, errors.New("plain")
	})
	for _, k := range kinds {
		_, err := c.Call(t.Context(), k.name, nil, nil, nil)
		if !errors.Is(err, k.sentinel) || !strings.HasPrefix(err.Error(), "port 80: ") {
			t.Errorf("%s came back as %v", k.name, err)
		}
	}
	if _, err := c.Call(t.Context(), "other", nil, nil, nil); err == nil || err.Error() != "plain" {
		t.Errorf("got %v", err)
	}
}

func TestCancelReachesServer(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	c := serve(t, func(ctx context.Context, r *Request) (Response, error) {
		if r.Method == "ping" {
			return Response{}, nil
		}
		<-ctx.Done()
		ended <- ctx.Err()
		return Response{}, ctx.Err()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Call(ctx, "wait", nil, nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("the server was not told")
	}
	if _, err := c.Call(t.Context(), "ping", nil, nil, nil); err != nil {
		t.Errorf("the connection is of no more use: %v", err)
	}
}

func TestConcurrentCalls(t *testing.T) {
	t.Parallel()
	c := serve(t, func(_ context.Context, r *Request) (Response, error) {
		var n int
		err := r.Decode(&n)
		return Response{Result: n + 1}, err
	})
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			var got int
			if _, err := c.Call(t.Context(), "add", i, nil, &got); err != nil || got != i+1 {
				t.Errorf("%d: got %d, %v", i, got, err)
			}
		})
	}
	wg.Wait()
}

// A server that goes away fails the calls that wait and those that come.
func TestServerGone(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	go func() { // a greeting, then silence, then nothing
		_ = a.Send([]byte(`{"hello":{"protocol":1}}`), nil)
		_, _, _ = a.Receive()
		_ = a.Close()
	}()
	c, err := NewClient(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := c.Call(t.Context(), "x", nil, nil, nil); !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	}
	<-c.Done()
}

func TestPathTooLong(t *testing.T) {
	t.Parallel()
	path := "/tmp/" + strings.Repeat("x", 110)
	if _, err := Listen(path); !errdefs.IsInvalidArgument(err) {
		t.Errorf("listen: %v", err)
	}
	if _, err := Dial(t.Context(), path); !errdefs.IsInvalidArgument(err) {
		t.Errorf("dial: %v", err)
	}
}

func TestNoHello(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	defer a.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := NewClient(ctx, b); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkCall(b *testing.B) {
	path := filepath.Join(b.TempDir(), "s")
	l, err := Listen(path)
	if err != nil {
		b.Fatal(err)
	}
	s := &Server{Handler: func(context.Context, *Request) (Response, error) { return Response{}, nil }, Logger: slog.New(slog.NewTextHandler(&bytes.Buffer{}, nil))}
	done := make(chan error)
	go func() { done <- s.Serve(l) }()
	conn, err := Dial(b.Context(), path)
	if err != nil {
		b.Fatal(err)
	}
	c, err := NewClient(b.Context(), conn)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := c.Call(b.Context(), "x", nil, nil, nil); err != nil {
			b.Fatal(err)
		}
	}
	_ = c.Close()
	_ = l.Close()
	s.Close()
	<-done
}

// TestGivenUpCallIsNotOvertaken: what a caller does after a call that it gave up, to
// undo it say, comes after what the server did of it.
func TestGivenUpCallIsNotOvertaken(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var done []string
	c := serve(t, func(_ context.Context, r *Request) (Response, error) {
		if r.Method == "do" {
			time.Sleep(100 * time.Millisecond) // it does not look whether it is to give up
		}
		mu.Lock()
		defer mu.Unlock()
		done = append(done, r.Method)
		return Response{}, nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := c.Call(ctx, "do", nil, nil, nil); err != nil {
		t.Errorf("it was done in the end, and says %v", err)
	}
	if _, err := c.Call(t.Context(), "undo", nil, nil, nil); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"do", "undo"}; !slices.Equal(done, want) {
		t.Errorf("done %v, want %v", done, want)
	}
}
