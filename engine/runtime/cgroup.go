package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// cgroupParent is where containers' control groups are, see package oci.
const cgroupParent = "fairlead"

// RemoveCgroups removes the control group that containers' own were in, from
// every hierarchy, where it is empty: another daemon's containers may be in it.
func (c *Containerd) RemoveCgroups() error {
	dirs, err := filepath.Glob("/sys/fs/cgroup/*/" + cgroupParent)
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range append(dirs, "/sys/fs/cgroup/"+cgroupParent) {
		err := os.Remove(dir)
		switch {
		case err == nil, errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.EBUSY), errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.ENOTDIR):
		default:
			errs = append(errs, fmt.Errorf("remove the control group: %w", err))
		}
	}
	return errors.Join(errs...)
}
