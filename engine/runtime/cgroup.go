package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

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

// groupsOf are the control groups that a container has by its bundle, in every hierarchy;
// none where the bundle does not say, or names others than the container's.
func groupsOf(bundle, id string) []string {
	text, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return nil
	}
	var spec struct {
		Linux struct{ CgroupsPath string }
	}
	if json.Unmarshal(text, &spec) != nil {
		return nil
	}
	path := spec.Linux.CgroupsPath
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || filepath.Base(path) != id {
		return nil
	}
	hierarchies, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil {
		return nil
	}
	var out []string
	for _, h := range append(hierarchies, "/sys/fs/cgroup/cgroup.procs") {
		out = append(out, filepath.Dir(h)+path)
	}
	return out
}

// emptied is how long the processes of a control group may take to be gone that were killed.
const emptied = time.Second

// removeGroups removes control groups with those in them. runc, which removes what it knows of,
// does not know them before it has written down that the container is there.
func removeGroups(ctx context.Context, groups []string) error {
	var errs []error
	ctx, cancel := context.WithTimeout(ctx, emptied)
	defer cancel()
	for _, dir := range groups {
		for err := removeGroup(dir); err != nil; err = removeGroup(dir) {
			if !errors.Is(err, unix.EBUSY) || ctx.Err() != nil {
				errs = append(errs, fmt.Errorf("remove the control group: %w", err))
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	return errors.Join(errs...)
}

// removeGroup removes one control group, the innermost first.
func removeGroup(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	for _, d := range slices.Backward(dirs) {
		if err == nil {
			err = os.Remove(d)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // gone, or never there
	}
	return err
}
