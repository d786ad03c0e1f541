package jsonlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
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
	// each line, Details its attributes and a space.
	Timestamps, Details bool
	// Stop ends a Follow in order: the container has ended and its log is
	// complete; what is there is emitted before Read returns.
	Stop <-chan struct{}
}

// Emit takes one entry: its line, with the newline unless the line goes on in
// the next entry of the stream or never ended. The line is only good until it
// returns.
type Emit func(stream string, t time.Time, line []byte) error

// timestamp is Docker's form in `docker logs -t`.
const timestamp = "2006-01-02T15:04:05.000000000Z07:00"

// Prefix is what goes before a line where times or attributes are asked for. The
// attributes are in Docker's form: by their names, escaped as in a URL.
func (o Options) Prefix(t time.Time, attrs map[string]string) []byte {
	var out []byte
	if o.Timestamps {
		out = t.UTC().AppendFormat(out, timestamp+" ")
	}
	if o.Details {
		for i, key := range slices.Sorted(maps.Keys(attrs)) {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(out, url.QueryEscape(key)+"="+url.QueryEscape(attrs[key])...)
		}
		out = append(out, ' ')
	}
	return out
}

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
	segments, err := openLog(ctx, path, o, w)
	if len(segments) == 0 || err != nil {
		return err
	}
	defer func() { closeAll(segments) }()
	if segments, err = r.begin(segments); err != nil {
		return err
	}
	last := segments[len(segments)-1]
	for _, s := range segments[:len(segments)-1] {
		if err := r.whole(ctx, s); err != nil {
			return ended(err)
		}
	}
	if last.packed {
		return ended(r.whole(ctx, last))
	}
	if !o.Follow {
		return ended(r.drain(ctx, last.file))
	}
	closeAll(segments[:len(segments)-1])
	segments = nil
	return ended(r.follow(ctx, path, last, w))
}

// errUntil ends the reading: everything that follows is younger.
var errUntil = errors.New("past the time asked for")

func ended(err error) error {
	if errors.Is(err, errUntil) {
		return nil
	}
	return err
}

// openLog waits for the log if it is to be followed; nil is no log.
func openLog(ctx context.Context, path string, o Options, w *watch) ([]segment, error) {
	last := w == nil
	for {
		segments, err := openSegments(path, nil)
		switch {
		case err != nil || len(segments) > 0:
			return segments, err
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

// maxEntry bounds what is kept of a line of the file, in bytes: attributes may be
// long, but what is not an entry at all must not fill the memory.
const maxEntry = 4 << 20

// reader is one Read.
type reader struct {
	options Options
	emit    Emit
	offset  int64  // of the file, up to which it is in partial or emitted
	partial []byte // the beginning of a line
	broken  bool   // that line is too long to be an entry
	buf     [64 << 10]byte
	text    []byte // of the last entry
	// within says that the stream's last entry did not end its line.
	within map[string]bool
}

// begin finds where to start, and closes the files before that.
func (r *reader) begin(segments []segment) ([]segment, error) {
	if r.options.Tail < 0 {
		return segments, nil
	}
	want := r.options.Tail
	for i, s := range slices.Backward(segments) {
		at, have, err := s.tail(want)
		if err != nil {
			return segments, fmt.Errorf("read log: %w", err)
		}
		if want -= have; want == 0 || i == 0 {
			closeAll(segments[:i])
			r.offset = at
			return segments[i:], nil
		}
	}
	return segments, nil
}

// whole emits a file that is not written to any more, from r.offset on.
func (r *reader) whole(ctx context.Context, s segment) error {
	in, err := s.content(r.offset)
	if err != nil {
		return err
	}
	for {
		n, err := in.Read(r.buf[:])
		if err := r.lines(ctx, r.buf[:n]); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			r.offset, r.partial = 0, r.partial[:0]
			return nil
		}
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
	}
}

// follow reads what comes until the context, Stop or Until end it.
func (r *reader) follow(ctx context.Context, path string, s segment, w *watch) error {
	defer func() { _ = s.file.Close() }()
	for {
		if err := r.drain(ctx, s.file); err != nil {
			return err
		}
		why, err := w.wait(ctx, r.options)
		if why == cancelled {
			return err
		}
		if s, err = r.catchUp(ctx, path, s); err != nil {
			return err
		}
		fi, err := s.file.Stat()
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		// Without a name, and nothing in its place, it was removed with its container.
		// The folder's own end is not told of while we have a file of it open.
		if why == stopped || (fi.Sys().(*syscall.Stat_t).Nlink == 0 && !exists(path)) {
			return r.drain(ctx, s.file)
		}
		if fi.Size() < r.offset { // somebody truncated it
			r.offset, r.partial = 0, r.partial[:0]
		}
	}
}

// catchUp returns the file that is written to now, with everything before it
// emitted. A file that was left behind and is gone is passed over.
func (r *reader) catchUp(ctx context.Context, path string, s segment) (segment, error) {
	fi, err := os.Stat(path)
	if err != nil || inode(fi) == s.inode {
		return s, nil //nolint:nilerr // it has been removed: there is nothing to catch up with
	}
	// It is not written to any more.
	if err := r.drain(ctx, s.file); err != nil {
		return s, err
	}
	found := false
	next, err := openSegments(path, func(n segment) (bool, error) {
		var err error
		found, err = s.same(n)
		return found, err
	})
	if err != nil {
		return s, err
	}
	if found {
		closeAll(next[:1])
		next = next[1:]
	}
	if len(next) == 0 || next[len(next)-1].packed {
		closeAll(next)
		return s, nil
	}
	_ = s.file.Close()
	r.offset, r.partial = 0, r.partial[:0]
	for _, n := range next[:len(next)-1] {
		if err == nil {
			err = r.whole(ctx, n)
		}
		_ = n.file.Close()
	}
	return next[len(next)-1], err
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
			if len(r.partial)+len(b) > maxEntry {
				r.broken = true
			}
			if !r.broken {
				r.partial = append(r.partial, b...)
			}
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
		if !r.broken {
			if err := r.line(line); err != nil {
				return err
			}
		}
		r.partial, r.broken = r.partial[:0], false
		b = b[i+1:]
	}
}

// line emits one entry if it was asked for. One that is not JSON is passed over:
// a crash of the machine may leave such a line.
func (r *reader) line(b []byte) error {
	o := r.options
	if !o.Since.IsZero() {
		// Of a large log most may be too old, and is not worth more of a look.
		if t, ok := timeOf(b); ok && t.Before(o.Since) {
			return nil
		}
	}
	e, err := parse(b, &r.text)
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	if !o.Until.IsZero() && e.Time.After(o.Until) {
		return errUntil
	}
	if (e.Stream == Stdout && !o.Stdout) || (e.Stream == Stderr && !o.Stderr) || e.Time.Before(o.Since) {
		return nil
	}
	text := e.text
	if o.Timestamps || o.Details {
		if r.within == nil {
			r.within = make(map[string]bool)
		}
		if !r.within[e.Stream] {
			text = append(o.Prefix(e.Time, e.Attrs), text...)
		}
		r.within[e.Stream] = !bytes.HasSuffix(e.text, []byte("\n"))
	}
	return r.emit(e.Stream, e.Time, text)
}
