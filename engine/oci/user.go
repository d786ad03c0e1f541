package oci

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// FileReader reads a file of the container's root file system.
type FileReader interface {
	ReadFile(path string) ([]byte, error)
}

// User looks up USER[:GROUP], each a name or a number, in the container's own
// /etc/passwd and /etc/group, which may be missing. groups are further ones
// (--group-add).
func User(root FileReader, name string, groups []string) (specs.User, error) {
	passwd, err := read(root, "/etc/passwd")
	if err != nil {
		return specs.User{}, err
	}
	group, err := read(root, "/etc/group")
	if err != nil {
		return specs.User{}, err
	}
	found, err := user.GetExecUser(name, nil, bytes.NewReader(passwd), bytes.NewReader(group))
	if err != nil {
		return specs.User{}, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	out := specs.User{UID: uint32(found.Uid), GID: uint32(found.Gid)}
	extra, err := user.GetAdditionalGroups(groups, io.Reader(bytes.NewReader(group)))
	if err != nil {
		return specs.User{}, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	slices.Sort(extra) // they come in any order
	// The kernel wants the primary group among the supplementary ones to be
	// of use after a set-group-ID program, see CVE-2022-36109.
	seen := make(map[int]bool)
	for _, gid := range append([]int{found.Gid}, append(found.Sgids, extra...)...) {
		if !seen[gid] {
			seen[gid] = true
			out.AdditionalGids = append(out.AdditionalGids, uint32(gid))
		}
	}
	return out, nil
}

func read(root FileReader, path string) ([]byte, error) {
	raw, err := root.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return raw, err
}
