package jsonlog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// follower reads in the background.
type follower struct {
	lines chan string
	err   chan error
}

func follow(ctx context.Context, path string, o Options) follower {
	f := follower{make(chan string, 10_000), make(chan error, 1)}
	o.Follow, o.Stdout, o.Stderr = true, true, true
	go func() {
		f.err <- Read(ctx, path, o, func(_ string, _ time.Time, line []byte) error {
			f.lines <- string(line)
			return nil
		})
	}()
	return f
}

func (f follower) next(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-f.lines:
		f.is(t, got, want)
	case err := <-f.err:
		f.err <- err // it may have ended long before its lines are looked at
		select {
		case got := <-f.lines:
			f.is(t, got, want)
		default:
			t.Fatalf("ended with %v before %q", err, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("no %q", want)
	}
}

func (follower) is(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func (f follower) end(t *testing.T, want error) {
	t.Helper()
	select {
	case err := <-f.err:
		if !errors.Is(err, want) {
			t.Fatalf("ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("does not end")
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	stop := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	f := follow(ctx, path, Options{Tail: -1, Stop: stop}) // nothing is there yet
	other := follow(ctx, path, Options{Tail: -1})
	time.Sleep(20 * time.Millisecond)
	w, err := OpenWriter(path, WriterOptions{})
	must(t, err)
	defer w.Close()
	for i := range 50 {
		must(t, w.Write(Stdout, at(0), fmt.Appendf(nil, "line %d\n", i)))
		f.next(t, fmt.Sprintf("line %d\n", i))
		other.next(t, fmt.Sprintf("line %d\n", i))
	}
	must(t, w.Write(Stdout, at(0), []byte("last\n")))
	close(stop)
	f.next(t, "last\n")
	f.end(t, nil)
	other.next(t, "last\n")
	cancel()
	other.end(t, context.Canceled)
}

func TestFollowEnds(t *testing.T) {
	t.Parallel()
	t.Run("truncated", func(t *testing.T) {
		t.Parallel()
		w, path := newWriter(t)
		must(t, w.Write(Stdout, at(0), []byte("a long line before\n")))
		stop := make(chan struct{})
		f := follow(t.Context(), path, Options{Tail: -1, Stop: stop})
		f.next(t, "a long line before\n")
		must(t, os.Truncate(path, 0))
		time.Sleep(50 * time.Millisecond)
		must(t, w.Write(Stdout, at(0), []byte("x\n")))
		f.next(t, "x\n")
		close(stop)
		f.end(t, nil)
	})
	t.Run("removed", func(t *testing.T) {
		t.Parallel()
		w, path := newWriter(t)
		must(t, w.Write(Stdout, at(0), []byte("x\n")))
		f := follow(t.Context(), path, Options{Tail: -1})
		f.next(t, "x\n")
		must(t, os.RemoveAll(filepath.Dir(path)))
		f.end(t, nil)
	})
	t.Run("until", func(t *testing.T) {
		t.Parallel()
		_, path := newWriter(t)
		f := follow(t.Context(), path, Options{Tail: -1, Until: time.Now().Add(30 * time.Millisecond)})
		f.end(t, nil)
	})
	t.Run("no folder", func(t *testing.T) {
		t.Parallel()
		f := follow(t.Context(), "/nonexistent/log", Options{})
		f.end(t, os.ErrNotExist)
	})
}

// Both streams at once, with a reader: no entry is lost, torn or out of order.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	w, path := newWriter(t)
	const n = 500
	stop := make(chan struct{})
	f := follow(t.Context(), path, Options{Tail: -1, Stop: stop})
	var wg sync.WaitGroup
	for _, s := range []string{Stdout, Stderr} {
		wg.Go(func() {
			for i := range n {
				if err := w.Write(s, time.Now(), fmt.Appendf(nil, "%s %d\n", s, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	f.end(t, nil)
	close(f.lines)
	next := map[string]int{}
	for line := range f.lines {
		var s string
		var i int
		if _, err := fmt.Sscanf(line, "%s %d", &s, &i); err != nil || i != next[s] {
			t.Fatalf("%q out of order, want %d", line, next[s])
		}
		next[s]++
	}
	if next[Stdout] != n || next[Stderr] != n {
		t.Errorf("got %v", next)
	}
}
