package jsonlog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unicode/utf8"
)

// Writer appends to one container's log. Its methods may be called by several
// goroutines at once.
type Writer struct {
	mu      sync.Mutex
	file    *os.File
	pending map[string][]byte // by stream, a line that has no end yet
	buf     []byte
}

// OpenWriter opens the log at path for appending, making it with mode 0640.
func OpenWriter(path string) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return &Writer{file: f, pending: make(map[string][]byte)}, nil
}

// Write adds output that arrived on stream at time t. Whole lines, and pieces of
// 16 KiB of long ones, are in the file when it returns; the rest waits for its
// end. After an error the output is lost and the file ends at a whole entry.
func (w *Writer) Write(stream string, t time.Time, output []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := output
	if len(w.pending[stream]) > 0 {
		w.pending[stream] = append(w.pending[stream], output...)
		rest = w.pending[stream]
	}
	w.buf = w.buf[:0]
	for {
		n := nextPiece(rest)
		if n == 0 {
			break
		}
		w.buf = appendEntry(w.buf, stream, t, rest[:n])
		rest = rest[n:]
	}
	w.pending[stream] = append(w.pending[stream][:0], rest...)
	return w.flush()
}

// nextPiece is the length of the next entry, 0 if it has not all arrived.
func nextPiece(b []byte) int {
	if i := bytes.IndexByte(b[:min(len(b), maxLine)], '\n'); i >= 0 {
		return i + 1
	}
	if len(b) < maxLine {
		return 0
	}
	// Not through the middle of a character.
	n := maxLine
	for back := 1; back < utf8.UTFMax; back++ {
		if utf8.RuneStart(b[n-back]) {
			if !utf8.FullRune(b[n-back : n]) {
				n -= back
			}
			break
		}
	}
	return n
}

// End writes what waits for the end of its line: the stream has ended.
func (w *Writer) End(stream string, t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = w.buf[:0]
	if p := w.pending[stream]; len(p) > 0 {
		w.buf = appendEntry(w.buf, stream, t, p)
	}
	delete(w.pending, stream)
	return w.flush()
}

// flush writes w.buf in one piece, or nothing of it.
func (w *Writer) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	n, err := w.file.Write(w.buf)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("write log: %w", err)
	if n > 0 { // a full disk takes part of it
		if fi, statErr := w.file.Stat(); statErr == nil {
			err = errors.Join(err, w.file.Truncate(fi.Size()-int64(n)))
		}
	}
	return err
}

// Pending returns copies of what waits for the end of its line, by stream, for
// another writer to go on with.
func (w *Writer) Pending() map[string][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make(map[string][]byte, len(w.pending))
	for s, p := range w.pending {
		if len(p) > 0 {
			out[s] = bytes.Clone(p)
		}
	}
	return out
}

// Restore goes on with another writer's Pending.
func (w *Writer) Restore(pending map[string][]byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for s, p := range pending {
		w.pending[s] = bytes.Clone(p)
	}
}

// Close closes the file; what waits for its end is lost unless End came before.
func (w *Writer) Close() error { return w.file.Close() }
