package jsonlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/fairlead/fairlead/streams/lines"
)

// WriterOptions say how a log is written; the zero value is one file that grows.
type WriterOptions struct {
	// MaxSize of the file, in bytes, from which on another is begun; 0 is no
	// limit. A file is longer only if a single entry is.
	MaxSize int64
	// MaxFiles is how many files there are at most, the present one with them;
	// below 2 there is none but that.
	MaxFiles int
	// Compress packs the files that are not written to any more.
	Compress bool
	// Attrs go into every entry, and are what Options.Details shows.
	Attrs map[string]string
}

// Writer appends to one container's log. Its methods may be called by several
// goroutines at once.
type Writer struct {
	path    string
	options WriterOptions
	attrs   []byte // as they are in an entry, with the comma after

	mu      sync.Mutex
	file    *os.File
	size    int64
	torn    bool // the file ends within an entry
	split   lines.Splitter
	buf     []byte
	packing *packing // of the file before this one; nil without
}

// OpenWriter opens the log at path for appending, making it with mode 0640.
func OpenWriter(path string, o WriterOptions) (*Writer, error) {
	w := &Writer{path: path, options: o}
	if len(o.Attrs) > 0 {
		raw, err := json.Marshal(o.Attrs)
		if err != nil {
			return nil, fmt.Errorf("open log: attributes: %w", err)
		}
		w.attrs = append(append([]byte(`"attrs":`), raw...), ',')
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	fi, err := f.Stat()
	if err == nil && o.MaxFiles > 1 {
		err = finishShift(path, fi)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open log: %w", err), f.Close())
	}
	w.file, w.size = f, fi.Size()
	w.torn = endsWithin(path, fi.Size())
	if o.Compress {
		w.packing = pack(path) // what was not, or not wholly, when the last writer ended
	}
	return w, nil
}

// endsWithin says that the file does not end at an entry: the machine lost its power, or
// another hand has cut it. What is appended must not be taken for the rest of that one.
func endsWithin(path string, size int64) bool {
	if size == 0 {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	last := make([]byte, 1)
	_, err = f.ReadAt(last, size-1)
	return err == nil && last[0] != '\n'
}

// Write adds output that arrived on stream at time t. Whole lines, and pieces of
// 16 KiB of long ones, are in the file when it returns; the rest waits for its
// end. After an error the output is lost and the file ends at a whole entry.
func (w *Writer) Write(stream string, t time.Time, output []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = w.buf[:0]
	var failed error
	w.split.Split(stream, output, func(text []byte) {
		if err := w.add(stream, t, text); err != nil {
			failed = errors.Join(failed, err)
		}
	})
	return errors.Join(failed, w.flush())
}

// add puts an entry into w.buf, and begins another file before it where it would
// not fit.
func (w *Writer) add(stream string, t time.Time, text []byte) error {
	before := len(w.buf)
	w.buf = appendEntry(w.buf, stream, t, w.attrs, text)
	limit := w.options.MaxSize
	if limit <= 0 || w.size+int64(len(w.buf)) <= limit || w.size+int64(before) == 0 {
		return nil
	}
	entry := w.buf[before:]
	w.buf = w.buf[:before]
	err := errors.Join(w.flush(), w.rotate())
	w.buf = append(w.buf[:0], entry...)
	return err
}

// End writes what waits for the end of its line: the stream has ended.
func (w *Writer) End(stream string, t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = w.buf[:0]
	var err error
	if p := w.split.End(stream); len(p) > 0 {
		err = w.add(stream, t, p)
	}
	return errors.Join(err, w.flush())
}

// flush writes w.buf in one piece, or nothing of it.
func (w *Writer) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	if w.torn {
		w.buf = append([]byte{'\n'}, w.buf...) // which readers pass over, with what is before it
	}
	n, err := w.file.Write(w.buf)
	if err == nil {
		w.torn = false
		w.size += int64(n)
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
// another writer to go on with; nothing is packed any more when it returns.
func (w *Writer) Pending() map[string][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.packing.stop()
	return w.split.Pending()
}

// Restore goes on with another writer's Pending.
func (w *Writer) Restore(pending map[string][]byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.split.Restore(pending)
}

// Close closes the file; what waits for its end is lost unless End came before.
// The file before it may still be being packed.
func (w *Writer) Close() error { return w.file.Close() }
