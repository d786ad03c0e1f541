package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// LeaseLog is a third copy of each lease, in memory that a file descriptor keeps
// (memfd_create(2)): for the case that the directory of the others is lost while no
// daemon runs. Whoever is to have it meanwhile is given the file. What comes is written
// behind what is there, and the last word on a lease counts.
type LeaseLog struct {
	mu   sync.Mutex
	file *os.File
	size int64
}

// logged is a line of it; without a lease it says that it is no more.
type logged struct {
	ID    string          `json:"id"`
	Lease json.RawMessage `json:"lease,omitempty"`
}

// Log begins a new log with every lease that stands, and has it follow from now on in
// the place of the one before, which is closed.
func (j *Journal[T]) Log() (*LeaseLog, error) {
	fd, err := unix.MemfdCreate("fairlead-leases", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("log leases: memfd_create: %w", err)
	}
	l := &LeaseLog{file: os.NewFile(uintptr(fd), "leases")}
	j.copies.mu.Lock()
	defer j.copies.mu.Unlock()
	ids, err := j.LeasedIDs()
	for id := range ids {
		raw, e := os.ReadFile(filepath.Join(j.leases, id))
		if e == nil && j.copies.sound(id, raw) {
			err = errors.Join(err, l.note(id, raw))
		}
	}
	if err != nil {
		return nil, errors.Join(err, l.file.Close())
	}
	j.copies.recalled = nil
	was := j.copies.log
	if j.copies.log = l; was != nil {
		err = was.file.Close()
	}
	return l, err
}

// EndLog closes the log that there is.
func (j *Journal[T]) EndLog() error {
	j.copies.mu.Lock()
	defer j.copies.mu.Unlock()
	was := j.copies.log
	if j.copies.log = nil; was == nil {
		return nil
	}
	return was.file.Close()
}

// Recall has Leases take from a log what it finds nowhere else.
func (j *Journal[T]) Recall(f *os.File) error {
	raw, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<40))
	if err != nil {
		return fmt.Errorf("read the log of leases: %w", err)
	}
	j.copies.mu.Lock()
	defer j.copies.mu.Unlock()
	j.copies.recalled = make(map[string][]byte)
	for len(raw) > 0 {
		line, rest, whole := bytes.Cut(raw, []byte("\n"))
		var l logged
		if raw = rest; !whole || json.Unmarshal(line, &l) != nil {
			continue // the daemon died while it wrote
		}
		if delete(j.copies.recalled, l.ID); l.Lease != nil {
			j.copies.recalled[l.ID] = l.Lease
		}
	}
	return nil
}

// note says what the lease of id is now, nil that it is no more.
func (l *LeaseLog) note(id string, lease []byte) error {
	line, err := json.Marshal(logged{id, lease})
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.file.WriteAt(append(line, '\n'), l.size)
	l.size += int64(n)
	return err
}

// LogSize is the log's length in bytes. It grows with each lease that comes or goes, and
// Log begins anew.
func (j *Journal[T]) LogSize() int64 {
	j.copies.mu.Lock()
	defer j.copies.mu.Unlock()
	l := j.copies.log
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

// File is the log's, which stays the log's own.
func (l *LeaseLog) File() *os.File { return l.file }
