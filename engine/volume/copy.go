package volume

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	continuity "github.com/containerd/continuity/fs"
)

// Empty says whether the volume has nothing in it.
func (s *Store) Empty(name string) (bool, error) {
	v, err := s.Get(name)
	if err != nil {
		return false, err
	}
	return isEmpty(v.Path)
}

// Fill copies the directory into the volume, with owners, modes and times, and its own
// over the volume's. A volume that holds anything is left as it is. from is an open
// directory of an image that nobody changes meanwhile.
func (s *Store) Fill(name string, from *os.File) error {
	s.mu.Lock()
	e, err := s.find(name)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	e.mounting.Lock() // of two containers that bring the volume along, one fills it
	defer e.mounting.Unlock()
	empty, err := isEmpty(e.Path)
	if err != nil || !empty {
		return err
	}
	// By the descriptor, so that no link in the path is followed again.
	if err := continuity.CopyDir(e.Path, "/proc/self/fd/"+strconv.Itoa(int(from.Fd()))); err != nil {
		return fmt.Errorf("fill volume %s with what the image has there: %w", name, err)
	}
	return nil
}

func isEmpty(dir string) (bool, error) {
	d, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer d.Close()
	_, err = d.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return false, err
}
