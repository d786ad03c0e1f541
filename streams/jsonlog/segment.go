package jsonlog

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"
)

// segment is one file of a log, open for reading.
type segment struct {
	file   *os.File
	inode  uint64
	packed bool
	// identity is that of the content, packed or not; it is of use once the file is
	// not written to any more.
	identity string
}

// identity names what is in a file that is not written to any more: by its inode
// number, which is given again to others when it is removed, and by the time it
// was written to last.
func identity(fi os.FileInfo) string {
	return strconv.FormatUint(inode(fi), 10) + "@" + strconv.FormatInt(fi.ModTime().UnixNano(), 10)
}

// same says whether both have the same content, of which s is not written to any
// more and is open.
func (s segment) same(other segment) (bool, error) {
	if !other.packed {
		return other.inode == s.inode, nil
	}
	fi, err := s.file.Stat()
	if err != nil {
		return false, fmt.Errorf("read log: %w", err)
	}
	return identity(fi) == other.identity, nil
}

// openSegments opens all files of the log, the oldest first; none is no error.
// The last one is written to. They stay readable whatever becomes of their names.
func openSegments(path string) ([]segment, error) {
	const tries = 20 // a rotation moves all names within a millisecond
	for try := 1; ; try++ {
		out, err := openOnce(path)
		switch {
		case !errors.Is(err, errMoved):
			return out, err
		case try == tries:
			return out, nil // it never rests; what a moment had is better than nothing
		}
		closeAll(out)
		time.Sleep(time.Millisecond)
	}
}

// errMoved says that names changed while they were read.
var errMoved = errors.New("the log was rotated meanwhile")

func openOnce(path string) (out []segment, err error) {
	defer func() {
		if err != nil && !errors.Is(err, errMoved) {
			closeAll(out)
			out, err = nil, fmt.Errorf("open log: %w", err)
		}
	}()
	// From the youngest to the oldest, the way in which names move: none is missed,
	// and one that is met twice shows that they did.
	seen := make(map[string]bool)
	meet := func(s segment) (again bool) {
		number := strconv.FormatUint(s.inode, 10)
		again = seen[number] || seen[s.identity]
		seen[number], seen[s.identity] = true, true
		return again
	}
	current, err := openSegment(path, false)
	absent, moved := errors.Is(err, fs.ErrNotExist), false
	if err != nil && !absent {
		return nil, err
	}
	if !absent {
		out = append(out, current)
		meet(current)
	}
	for _, o := range numbers(path) {
		s, err := openSegment(o.path, o.suffix != "")
		if errors.Is(err, fs.ErrNotExist) {
			return out, errMoved
		}
		if err != nil {
			return out, err
		}
		if meet(s) {
			_ = s.file.Close()
			moved = true
			continue
		}
		out = append([]segment{s}, out...)
	}
	if absent { // only old ones are left, or none
		return out, nil
	}
	if fi, err := os.Stat(path); moved || err != nil || inode(fi) != current.inode {
		return out, errMoved
	}
	return out, nil
}

func openSegment(path string, isPacked bool) (segment, error) {
	f, err := os.Open(path)
	if err != nil {
		return segment{}, err
	}
	fi, err := f.Stat()
	if err != nil {
		return segment{}, errors.Join(err, f.Close())
	}
	s := segment{file: f, inode: inode(fi), packed: isPacked, identity: identity(fi)}
	if isPacked {
		// One that another program packed says nothing of what it was.
		if z, err := gzip.NewReader(io.NewSectionReader(f, 0, 1<<62)); err == nil && z.Comment != "" {
			s.identity = z.Comment
		}
	}
	return s, nil
}

func inode(fi os.FileInfo) uint64 { return fi.Sys().(*syscall.Stat_t).Ino }

func closeAll(segments []segment) {
	for _, s := range segments {
		_ = s.file.Close()
	}
}

// content reads it from an offset on.
func (s segment) content(offset int64) (io.Reader, error) {
	if !s.packed {
		return io.NewSectionReader(s.file, offset, 1<<62), nil
	}
	z, err := gzip.NewReader(bufio.NewReader(io.NewSectionReader(s.file, 0, 1<<62)))
	if err == nil {
		_, err = io.CopyN(io.Discard, z, offset)
	}
	if err != nil {
		return nil, fmt.Errorf("read log: unpack: %w", err)
	}
	return z, nil
}

// tail is where the last n entries begin, in bytes of its content, and how many
// it has of them.
func (s segment) tail(n int) (offset int64, have int, err error) {
	if !s.packed {
		return tailOffset(s.file, n)
	}
	// Backwards is not to be had of a packed one: it is gone through twice.
	total, _, err := s.skip(-1)
	if err != nil {
		return 0, 0, err
	}
	if total <= n {
		return 0, total, nil
	}
	_, offset, err = s.skip(total - n)
	return offset, n, err
}

// skip goes past n entries, or to the end if n is negative, and says how many
// entries and bytes that was.
func (s segment) skip(n int) (entries int, offset int64, err error) {
	r, err := s.content(0)
	if err != nil {
		return 0, 0, err
	}
	buf := make([]byte, 64<<10)
	for {
		size, err := r.Read(buf)
		b := buf[:size]
		for {
			i := bytes.IndexByte(b, '\n')
			if i < 0 {
				offset += int64(len(b))
				break
			}
			entries, offset, b = entries+1, offset+int64(i)+1, b[i+1:]
			if entries == n {
				return entries, offset, nil
			}
		}
		if errors.Is(err, io.EOF) {
			return entries, offset, nil
		}
		if err != nil {
			return entries, offset, fmt.Errorf("read log: %w", err)
		}
	}
}

// tailOffset is where the last n entries of a file begin, and how many it has of
// them. It reads backwards.
func tailOffset(f *os.File, n int) (offset int64, have int, err error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	at := fi.Size()
	if n == 0 {
		return at, 0, nil
	}
	buf := make([]byte, 64<<10)
	newlines := 0 // the last one ends the last entry
	for at > 0 {
		size := min(at, int64(len(buf)))
		if _, err := f.ReadAt(buf[:size], at-size); err != nil {
			return 0, 0, err
		}
		for b := buf[:size]; len(b) > 0; {
			i := bytes.LastIndexByte(b, '\n')
			if i < 0 {
				break
			}
			if newlines++; newlines > n {
				return at - size + int64(i) + 1, n, nil
			}
			b = b[:i]
		}
		at -= size
	}
	return 0, newlines, nil
}
