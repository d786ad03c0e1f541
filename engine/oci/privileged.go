package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// privilege gives the container the machine's devices.
func privilege(s *specs.Spec) error {
	err := filepath.WalkDir("/dev", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // gone since it was listed
			}
			return err
		}
		switch path {
		case "/dev/pts", "/dev/shm", "/dev/mqueue":
			if d.IsDir() { // for a link it would skip the whole of /dev
				return fs.SkipDir
			}
		case "/dev/console", "/dev/ptmx": // the container has its own
			return nil
		}
		if d.Type()&fs.ModeDevice == 0 {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil //nolint:nilerr // gone since it was listed
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || st.Rdev == 0 {
			return nil
		}
		kind := "b"
		if d.Type()&fs.ModeCharDevice != 0 {
			kind = "c"
		}
		mode := os.FileMode(st.Mode & 0o7777)
		s.Linux.Devices = append(s.Linux.Devices, specs.LinuxDevice{
			Path: path, Type: kind, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
			FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
		})
		return nil
	})
	if err != nil {
		return fmt.Errorf("list the devices for a privileged container: %w", err)
	}
	return nil
}
