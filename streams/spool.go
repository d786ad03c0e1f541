package streams

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// spoolLimit is how much of a client's output waits on disk, in bytes, beyond
	// what waits in memory.
	spoolLimit = 64 << 20
	// spoolReserve is how much of it is kept for the last output there is, which
	// cannot wait: what is in the FIFOs when they are closed or handed over.
	spoolReserve = 4 << 20
)

// spool is a queue of bytes on disk, for output that a client is slow to take: a
// file without a name, which is used round and round.
type spool struct {
	file  *os.File
	limit int64
	// head and tail count the bytes ever taken and added.
	head, tail int64
}

// newSpool makes one in the directory.
func newSpool(dir string) (*spool, error) {
	f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a spool: %w", err)
	}
	return &spool{file: f, limit: spoolLimit}, nil
}

// size is how many bytes wait; of none, too.
func (s *spool) size() int64 {
	if s == nil {
		return 0
	}
	return s.tail - s.head
}

// add appends all of b, for which there must be room, or nothing.
func (s *spool) add(b []byte) error {
	at := s.tail
	for len(b) > 0 {
		offset := at % s.limit
		n, err := s.file.WriteAt(b[:min(int64(len(b)), s.limit-offset)], offset)
		if err != nil {
			return fmt.Errorf("write to a spool: %w", err)
		}
		at, b = at+int64(n), b[n:]
	}
	s.tail = at
	return nil
}

// take removes at most n bytes from the front and returns them.
func (s *spool) take(n int) ([]byte, error) {
	offset := s.head % s.limit
	b := make([]byte, min(int64(n), s.size(), s.limit-offset))
	if _, err := s.file.ReadAt(b, offset); err != nil {
		return nil, fmt.Errorf("read from a spool: %w", err)
	}
	if s.head += int64(len(b)); s.head == s.tail {
		s.head, s.tail = 0, 0
		if err := s.file.Truncate(0); err != nil { // give the room back
			return b, fmt.Errorf("empty a spool: %w", err)
		}
	}
	return b, nil
}

func (s *spool) close() {
	if s != nil {
		_ = s.file.Close()
	}
}
