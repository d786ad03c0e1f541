package volume

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Mount mounts what the volume's options name at its path, unless another container
// has had it mounted, and counts the container among those that need it. A volume
// without options has its files there anyway.
func (s *Store) Mount(ctx context.Context, name, container string) error {
	s.mu.Lock()
	e, err := s.find(name)
	s.mu.Unlock()
	if err != nil || len(e.Options) == 0 {
		return err
	}
	e.mounting.Lock()
	defer e.mounting.Unlock()
	there, err := mountinfo.Mounted(e.Path)
	if err != nil {
		return fmt.Errorf("mount volume %s: %w", name, err)
	}
	if !there {
		if err := e.mount(ctx); err != nil {
			return err
		}
	}
	e.active[container] = true
	return nil
}

func (e *entry) mount(ctx context.Context) error {
	options, err := resolveAddress(ctx, e.Options["type"], e.Options["o"])
	if err != nil {
		return fmt.Errorf("failed to mount local volume %s: %w", e.Name, err)
	}
	m := mount.Mount{Type: e.Options["type"], Source: e.Options["device"], Options: options}
	if err := m.Mount(e.Path); err != nil {
		return fmt.Errorf("failed to mount local volume %s: mount %s (type %s, options %q): %w: %w",
			e.Name, m.Source, m.Type, e.Options["o"], err, errdefs.ErrInvalidArgument)
	}
	return nil
}

// resolveTime bounds the search for the address of a file server.
const resolveTime = 10 * time.Second

// resolveAddress puts an address for the name in addr=NAME, as mount.nfs(8) would:
// the kernel, which is asked directly, knows no names.
func resolveAddress(ctx context.Context, kind, o string) ([]string, error) {
	var out []string
	for opt := range strings.SplitSeq(o, ",") {
		host, found := strings.CutPrefix(opt, "addr=")
		if network := strings.HasPrefix(kind, "nfs") || kind == "cifs"; found && network && net.ParseIP(host) == nil {
			ctx, cancel := context.WithTimeout(ctx, resolveTime)
			addrs, err := net.DefaultResolver.LookupHost(ctx, host)
			cancel()
			if err != nil {
				return nil, fmt.Errorf("error resolving passed in network volume address: %w: %w", err, errdefs.ErrInvalidArgument)
			}
			opt = "addr=" + addrs[0]
		}
		if opt != "" {
			out = append(out, opt)
		}
	}
	return out, nil
}

// Unmount undoes the container's Mount; the last to go unmounts. A volume or a mount
// that is not there is no error.
func (s *Store) Unmount(name, container string) error {
	s.mu.Lock()
	e := s.volumes[name]
	s.mu.Unlock()
	if e == nil || len(e.Options) == 0 {
		return nil
	}
	e.mounting.Lock()
	defer e.mounting.Unlock()
	delete(e.active, container)
	return e.unmountUnused()
}

// unmountUnused is called with mounting held.
func (e *entry) unmountUnused() error {
	if len(e.active) > 0 {
		return nil
	}
	for len(e.Options) > 0 {
		// A program of the host's that is in there keeps what it sees.
		err := unix.Unmount(e.Path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return nil // nothing is mounted there, or nothing any more
		}
		if err != nil {
			return fmt.Errorf("unmount volume %s: %w", e.Name, err)
		}
	}
	return nil
}

// Resume notes that a container runs that a former daemon mounted the volume for.
func (s *Store) Resume(name, container string) {
	s.mu.Lock()
	e := s.volumes[name]
	s.mu.Unlock()
	if e != nil {
		e.mounting.Lock()
		defer e.mounting.Unlock()
		e.active[container] = true
	}
}

// UnmountUnused unmounts what no container needs: a former daemon's mounts for
// containers that have ended since.
func (s *Store) UnmountUnused() error {
	s.mu.Lock()
	var list []*entry
	for _, e := range s.volumes {
		if len(e.Options) > 0 {
			list = append(list, e)
		}
	}
	s.mu.Unlock()
	var errs []error
	for _, e := range list {
		e.mounting.Lock()
		errs = append(errs, e.unmountUnused())
		e.mounting.Unlock()
	}
	return errors.Join(errs...)
}
