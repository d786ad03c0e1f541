package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/engine/archive"
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
func (s *Store) Fill(ctx context.Context, name string, from *os.File) error {
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
	to, err := os.OpenFile(e.Path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer to.Close()
	// Containers that have the volume may do what they like in it meanwhile.
	if err := archive.Copy(ctx, to, from); err != nil {
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
