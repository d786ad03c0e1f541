package jsonlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Options say what of a log to read.
type Options struct {
	// Follow goes on with what is written later, until Stop is closed or the
	// context ends.
	Follow bool
	// Since leaves out what is older, Until what is younger; zero is no bound.
	// A Follow ends when Until has come.
	Since, Until time.Time
	// Tail is how many entries of the end to start with; negative is all.
	Tail int
	// Stdout and Stderr say which streams to emit.
	Stdout, Stderr bool
	// Timestamps puts the time (RFC 3339 with nine digits, and a space) before
	// each line.
	Timestamps bool
	// Stop ends a Follow in order: the container has ended and its log is
	// complete; what is there is emitted before Read returns.
	Stop <-chan struct{}
}

// Emit takes one entry: its line, with the newline unless the line goes on in
// the next entry of the stream or never ended.
type Emit func(stream string, t time.Time, line []byte) error

// timestamp is Docker's form in `docker logs -t`.
const timestamp = "2006-01-02T15:04:05.000000000Z07:00"

// Read calls emit for the entries of the log at path, in order. A log that does
// not exist is an empty one. It ends with nil at the end of the log, or of the
// following; else with emit's error or the context's.
func Read(ctx context.Context, path string, o Options, emit Emit) error {
	r := &reader{options: o, emit: emit}
	var w *watch
	if o.Follow {
		var err error
		if w, err = newWatch(path); err != nil {
			return err
		}
		defer w.close()
	}
	f, err := openLog(ctx, path, o, w)
	if f == nil || err != nil {
		return err
	}
	defer f.Close()
	if o.Tail >= 0 {
		at, err := tailOffset(f, o.Tail)
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		r.offset = at
	}
	if !o.Follow {
		return ended(r.drain(ctx, f))
	}
	return ended(r.follow(ctx, f, w))
}

// errUntil ends the reading: everything that follows is younger.
var errUntil = errors.New("past the time asked for")

func ended(err error) error {
	if errors.Is(err, errUntil) {
		return nil
	}
	return err
}

// openLog waits for the file if it is to be followed; nil is no file.
func openLog(ctx context.Context, path string, o Options, w *watch) (*os.File, error) {
	last := w == nil
	for {
		f, err := os.Open(path)
		switch {
		case err == nil:
			return f, nil
		case !errors.Is(err, os.ErrNotExist):
			return nil, fmt.Errorf("open log: %w", err)
		case last || !exists(filepath.Dir(path)):
			return nil, nil
		}
		why, err := w.wait(ctx, o)
		if why == cancelled {
			return nil, err
		}
		last = why == stopped
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// reader is one Read.
type reader struct {
	options Options
	emit    Emit
	offset  int64  // of the file, up to which it is in partial or emitted
	partial []byte // the beginning of a line
	buf     [64 << 10]byte
	// within says that the stream's last entry did not end its line.
	within map[string]bool
}

// follow reads what comes until the context, Stop or Until end it.
func (r *reader) follow(ctx context.Context, f *os.File, w *watch) error {
	for {
		if err := r.drain(ctx, f); err != nil {
			return err
		}
		why, err := w.wait(ctx, r.options)
		if why == stopped {
			return r.drain(ctx, f)
		}
		if why != changed {
			return err
		}
		fi, err := f.Stat()
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		if fi.Sys().(*syscall.Stat_t).Nlink == 0 { // the container was removed
			return r.drain(ctx, f)
		}
		if fi.Size() < r.offset { // somebody truncated it
			r.offset, r.partial = 0, r.partial[:0]
		}
	}
}

// drain emits up to the end of the file.
func (r *reader) drain(ctx context.Context, f *os.File) error {
	for {
		n, err := f.ReadAt(r.buf[:], r.offset)
		r.offset += int64(n)
		if err := r.lines(ctx, r.buf[:n]); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
	}
}

func (r *reader) lines(ctx context.Context, b []byte) error {
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			r.partial = append(r.partial, b...)
			return nil
		}
		line := b[:i]
		if len(r.partial) > 0 {
			r.partial = append(r.partial, line...)
			line = r.partial
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.line(line); err != nil {
			return err
		}
		r.partial = r.partial[:0]
		b = b[i+1:]
	}
}

// line emits one entry if it was asked for. One that is not JSON is passed over:
// a crash of the machine may leave such a line.
func (r *reader) line(b []byte) error {
	e, err := parse(b)
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	o := r.options
	if !o.Until.IsZero() && e.Time.After(o.Until) {
		return errUntil
	}
	if (e.Stream == Stdout && !o.Stdout) || (e.Stream == Stderr && !o.Stderr) || e.Time.Before(o.Since) {
		return nil
	}
	log := []byte(e.Log)
	if o.Timestamps {
		if r.within == nil {
			r.within = make(map[string]bool)
		}
		if !r.within[e.Stream] {
			log = append(e.Time.AppendFormat(nil, timestamp+" "), log...)
		}
		r.within[e.Stream] = !bytes.HasSuffix(log, []byte("\n"))
	}
	return r.emit(e.Stream, e.Time, log)
}

// tailOffset is where the last n entries begin.
func tailOffset(f *os.File, n int) (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	at := fi.Size()
	if n == 0 {
		return at, nil
	}
	buf := make([]byte, 64<<10)
	newlines := 0 // the last one ends the last entry
	for at > 0 {
		size := min(at, int64(len(buf)))
		if _, err := f.ReadAt(buf[:size], at-size); err != nil {
			return 0, err
		}
		for b := buf[:size]; len(b) > 0; {
			i := bytes.LastIndexByte(b, '\n')
			if i < 0 {
				break
			}
			if newlines++; newlines > n {
				return at - size + int64(i) + 1, nil
			}
			b = b[:i]
		}
		at -= size
	}
	return 0, nil
}
