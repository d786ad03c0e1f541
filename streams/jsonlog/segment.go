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

// same says whether both have the same content. While s is written to, other is not
// packed.
func (s segment) same(other segment) (bool, error) {
	if s.packed {
		return other.identity == s.identity, nil
	}
	if !other.packed {
		return other.inode == s.inode, nil
	}
	fi, err := s.file.Stat()
	if err != nil {
		return false, fmt.Errorf("read log: %w", err)
	}
	return identity(fi) == other.identity, nil
}

// openSegments opens the files of the log, the oldest first, back to the one that
// until says is enough (nil: all); none is no error. The last one is written to, or
// was when this began. They stay readable whatever becomes of their names.
func openSegments(path string, until func(segment) (bool, error)) (out []segment, err error) {
	defer func() {
		if err != nil {
			closeAll(out)
			out, err = nil, fmt.Errorf("open log: %w", err)
		}
	}()
	number := 0
	s, err := openNumbered(path, number)
	if errors.Is(err, fs.ErrNotExist) { // only old ones are left, or none
		if number = nextNumber(path, 0); number > 0 {
			s, err = openNumbered(path, number)
		}
	}
	for {
		if errors.Is(err, fs.ErrNotExist) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append([]segment{s}, out...)
		if until != nil {
			if enough, err := until(s); err != nil || enough {
				return out, err
			}
		}
		s, number, err = s.older(path, number)
	}
}

// older opens the file that was written before s, whose number was n, and says what
// number it has; fs.ErrNotExist says that there is none. Names move to higher numbers
// while this looks: what is behind n counts only if s is still there after the look.
func (s segment) older(path string, n int) (segment, int, error) {
	for {
		number := n + 1
		next, err := openNumbered(path, number)
		if errors.Is(err, fs.ErrNotExist) {
			if number = nextNumber(path, n); number > 0 { // other hands made a gap
				next, err = openNumbered(path, number)
			}
		}
		absent := errors.Is(err, fs.ErrNotExist)
		if err != nil && !absent {
			return next, 0, err
		}
		there, err := s.has(path, n)
		if err == nil && there && absent {
			return next, 0, fs.ErrNotExist
		}
		again := false // it has both names for a moment
		if err == nil && !absent {
			again, err = s.same(next)
		}
		if err == nil && there && !again {
			return next, number, nil
		}
		if !absent {
			err = errors.Join(err, next.file.Close())
		}
		if absent && number == 0 { // it is gone, and all before it
			err = errors.Join(err, fs.ErrNotExist)
		}
		if err != nil {
			return next, 0, err
		}
		n++
	}
}

// has says whether the file n rotations ago is this one.
func (s segment) has(path string, n int) (bool, error) {
	now, err := openNumbered(path, n)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	same, err := s.same(now)
	return same, errors.Join(err, now.file.Close())
}

// openNumbered opens the file n rotations ago, packed or not. It looks more than once,
// for one that is packed may be replaced by one that is not between two looks.
func openNumbered(path string, n int) (s segment, err error) {
	if n == 0 {
		return openSegment(path, false)
	}
	for range 3 {
		for _, suffix := range []string{"", packed} {
			if s, err = openSegment(numbered(path, n)+suffix, suffix != ""); !errors.Is(err, fs.ErrNotExist) {
				return s, err
			}
		}
	}
	return s, err
}

// nextNumber is that of the next file older than the one n rotations ago, or 0.
func nextNumber(path string, n int) int {
	for _, o := range numbers(path) {
		if o.number > n {
			return o.number
		}
	}
	return 0
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
