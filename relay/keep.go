package relay

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/fdpass"
)

// keepParams names the files.
type keepParams struct {
	Name string `json:"name"`
}

// Keep gives the process copies of files that are to stay open while no daemon
// runs, under a name, in place of those it had of that name; none forgets the
// name. The files stay the caller's.
func (c *Client) Keep(ctx context.Context, name string, files []*os.File) error {
	_, err := c.rpc.Call(ctx, "keep", keepParams{name}, files, nil)
	return err
}

// Kept returns copies of the files kept under the name, in order, the caller's to
// close; none when there are none.
func (c *Client) Kept(ctx context.Context, name string) ([]*os.File, error) {
	fds, err := c.rpc.Call(ctx, "kept", keepParams{name}, nil, nil)
	if err != nil {
		return nil, err
	}
	files := make([]*os.File, len(fds))
	for i, fd := range fds {
		files[i] = os.NewFile(uintptr(fd), name)
	}
	return files, nil
}

func (s *server) keep(r *fdpass.Request) error {
	var p keepParams
	if err := r.Decode(&p); err != nil {
		return err
	}
	if p.Name == "" {
		return fmt.Errorf("files to keep have no name: %w", errdefs.ErrInvalidArgument)
	}
	if s.table.isFrozen() {
		return errFrozen
	}
	fds := r.Take()
	s.mu.Lock()
	defer s.mu.Unlock()
	fdpass.CloseFDs(s.files[p.Name])
	if len(fds) == 0 {
		delete(s.files, p.Name)
		return nil
	}
	if s.files == nil {
		s.files = make(map[string][]int)
	}
	s.files[p.Name] = fds
	return nil
}

func (s *server) kept(r *fdpass.Request) (fdpass.Response, error) {
	var p keepParams
	if err := r.Decode(&p); err != nil {
		return fdpass.Response{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// Copies, for another call may replace ours before this one is answered.
	var fds []int
	for _, fd := range s.files[p.Name] {
		d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			fdpass.CloseFDs(fds)
			return fdpass.Response{}, fmt.Errorf("copy the files kept as %s: %w", p.Name, err)
		}
		fds = append(fds, d)
	}
	return fdpass.Response{FDs: fds, After: func() { fdpass.CloseFDs(fds) }}, nil
}

// keptState is one name's files among the descriptors of a handover.
type keptState struct {
	Name  string `json:"name"`
	Files int    `json:"files"`
}

// keptFiles are all names, in order, and their descriptors.
func (s *server) keptFiles() (names []keptState, fds []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.files)) {
		names = append(names, keptState{name, len(s.files[name])})
		fds = append(fds, s.files[name]...)
	}
	return names, fds
}

// adoptKept takes over what keptFiles returned.
func (s *server) adoptKept(names []keptState, fds []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files = make(map[string][]int)
	for _, k := range names {
		s.files[k.Name] = slices.Clone(fds[:k.Files])
		fds = fds[k.Files:]
	}
}

// dropKept closes all kept files.
func (s *server) dropKept() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, fds := range s.files {
		fdpass.CloseFDs(fds)
	}
	s.files = nil
}
