package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A shim is containerd's process beside each container. When its client dies
// during a call, containerd 1.6 may forget a shim that it was about to start or
// end: the shim then stays for ever, with the container or without.
type shimProcess struct {
	id  string // of the container
	pid int
}

// shims finds the shims of our namespace by their command lines.
func (c *Containerd) shims() ([]shimProcess, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list shims: %w", err)
	}
	var out []shimProcess
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		cmdline, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err != nil {
			continue // it ended
		}
		if id := shimOf(cmdline, c.namespace, c.address); id != "" {
			out = append(out, shimProcess{id, pid})
		}
	}
	return out, nil
}

// shimOf returns the container that the command line is a shim of, "" for none
// of this namespace and containerd.
func shimOf(cmdline []byte, namespace, address string) string {
	args := strings.Split(string(bytes.TrimRight(cmdline, "\x00")), "\x00")
	if !strings.HasPrefix(filepath.Base(args[0]), "containerd-shim") {
		return ""
	}
	value := func(flag string) string {
		if i := slices.Index(args, flag); i > 0 && i+1 < len(args) {
			return args[i+1]
		}
		return ""
	}
	if value("-namespace") != namespace || value("-address") != address || slices.Contains(args, "delete") {
		return ""
	}
	return value("-id")
}

// LostShims returns the containers whose shim runs and is no task of
// containerd's. One that is being started or ended is among them.
func (c *Containerd) LostShims(ctx context.Context) ([]string, error) {
	lost, err := c.lostShims(ctx)
	ids := make([]string, 0, len(lost))
	for _, s := range lost {
		ids = append(ids, s.id)
	}
	return ids, err
}

func (c *Containerd) lostShims(ctx context.Context) ([]shimProcess, error) {
	all, err := c.shims()
	if err != nil || len(all) == 0 {
		return nil, err
	}
	tasks, err := c.Tasks(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(s shimProcess) bool {
		return slices.ContainsFunc(tasks, func(t Task) bool { return t.ID == s.id })
	}), nil
}

// ReapShims ends every lost shim with what it kept: the container's processes,
// its control groups and its mounts. No task may be being started or ended
// meanwhile. It goes on past errors and joins them.
func (c *Containerd) ReapShims(ctx context.Context) error {
	lost, err := c.lostShims(ctx)
	errs := []error{err}
	for _, s := range lost {
		c.log.Info("ending a shim that containerd has lost", "container", short(s.id), "pid", s.pid)
		if err := c.reap(ctx, s); err != nil {
			errs = append(errs, fmt.Errorf("end the shim of %s, process %d: %w", short(s.id), s.pid, err))
		}
	}
	return errors.Join(errs...)
}

// ReapShim is ReapShims for one container: nothing if its shim is not lost.
func (c *Containerd) ReapShim(ctx context.Context, id string) error {
	lost, err := c.lostShims(ctx)
	errs := []error{err}
	for _, s := range lost {
		if s.id != id {
			continue
		}
		c.log.Warn("ending a shim that is left of a start that failed", "container", short(id), "pid", s.pid)
		if err := c.reap(ctx, s); err != nil {
			errs = append(errs, fmt.Errorf("end the shim of %s, process %d: %w", short(id), s.pid, err))
		}
	}
	return errors.Join(errs...)
}

// EndCreation ends the shim of a container whose task containerd is being asked to make,
// and runc where it is at it, so that the call ends; containerd removes the shim's
// directory then. It is no error that there is no shim.
func (c *Containerd) EndCreation(ctx context.Context, id string) error {
	all, err := c.shims()
	errs := []error{err}
	for _, s := range all {
		if s.id != id {
			continue
		}
		c.log.Warn("ending the shim of a start that hangs", "container", short(id), "pid", s.pid)
		if _, err := c.end(ctx, s); err != nil {
			errs = append(errs, fmt.Errorf("end the shim of %s, process %d: %w", short(id), s.pid, err))
		}
	}
	return errors.Join(errs...)
}

// EndShim kills the shim of a container, which does not answer any more. containerd,
// which notices, ends what the shim ran; the exit code is lost.
func (c *Containerd) EndShim(id string) error {
	all, err := c.shims()
	if err != nil {
		return err
	}
	for _, s := range all {
		if s.id != id {
			continue
		}
		if err := c.killShim(s); err != nil {
			return fmt.Errorf("end the shim of %s, process %d: %w", short(id), s.pid, err)
		}
	}
	return nil
}

// hold opens the shim's process, from when on its number cannot become another's. It
// returns -1 if the shim is gone.
func (c *Containerd) hold(s shimProcess) (fd int, err error) {
	fd, err = unix.PidfdOpen(s.pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return -1, nil
	}
	if err != nil {
		return -1, err
	}
	// The number may have become another process's before.
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.pid))
	if err != nil || shimOf(cmdline, c.namespace, c.address) != s.id {
		return -1, unix.Close(fd)
	}
	return fd, nil
}

func (c *Containerd) killShim(s shimProcess) error {
	fd, err := c.hold(s)
	if err != nil || fd < 0 {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// reap ends a shim and removes its directory.
func (c *Containerd) reap(ctx context.Context, s shimProcess) error {
	bundle, err := c.end(ctx, s)
	if filepath.Base(bundle) != s.id {
		return err
	}
	unmounted := unix.Unmount(filepath.Join(bundle, "rootfs"), unix.MNT_DETACH)
	if unmounted != nil && !errors.Is(unmounted, unix.EINVAL) && !errors.Is(unmounted, unix.ENOENT) {
		return errors.Join(err, fmt.Errorf("unmount its root: %w", unmounted))
	}
	return errors.Join(err, os.RemoveAll(bundle))
}

// end kills a shim with what it runs, and removes its sockets and control groups. It
// returns the directory that the shim was in, "" if it is not known or the shim was gone.
func (c *Containerd) end(ctx context.Context, s shimProcess) (bundle string, err error) {
	fd, err := c.hold(s)
	if err != nil || fd < 0 {
		return "", err
	}
	defer unix.Close(fd)
	sockets := listening(s.pid)
	bundle, _ = os.Readlink(fmt.Sprintf("/proc/%d/cwd", s.pid))
	groups := groupsOf(bundle, s.id)
	errs := []error{c.deleteByRunc(ctx, s.id)}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return "", errors.Join(append(errs, err)...)
	}
	stop := make(chan struct{})
	timer := time.AfterFunc(5*time.Second, func() { close(stop) })
	defer timer.Stop()
	if !ended(s.pid, stop) {
		errs = append(errs, errors.New("it was killed and does not end"))
	}
	// runc, where it was still at it, knows nothing of what it has made by then.
	errs = append(errs, c.endCreation(s.id), c.deleteByRunc(ctx, s.id), removeGroups(ctx, groups))
	for _, path := range sockets {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return bundle, errors.Join(errs...)
}

// deleteByRunc kills what runc runs under the ID and removes its control groups.
func (c *Containerd) deleteByRunc(ctx context.Context, id string) error {
	root := filepath.Join(c.runcRoot, c.namespace) // as the shim does
	if _, err := os.Stat(filepath.Join(root, id)); err != nil {
		return nil //nolint:nilerr // runc has deleted it, or never had it
	}
	runc, err := lookPath("runc")
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, runc, "--root", root, "delete", "--force", id).CombinedOutput()
	if err != nil {
		return fmt.Errorf("runc delete: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// endCreation kills runc where it is making the container: it would go on when its shim is
// gone.
func (c *Containerd) endCreation(id string) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // it ended, or is a thread
		}
		cmdline, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err == nil && c.creates(cmdline, id) {
			if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
				errs = append(errs, fmt.Errorf("kill runc, process %d: %w", pid, err))
			}
		}
		_ = unix.Close(fd)
	}
	return errors.Join(errs...)
}

// creates says whether the command line is runc's making this container.
func (c *Containerd) creates(cmdline []byte, id string) bool {
	args := strings.Split(string(bytes.TrimRight(cmdline, "\x00")), "\x00")
	return filepath.Base(args[0]) == "runc" && args[len(args)-1] == id &&
		slices.Contains(args, "create") && slices.Contains(args, filepath.Join(c.runcRoot, c.namespace))
}

// listening returns the paths of the unix sockets that the process has open, see
// proc_net_unix(5).
func listening(pid int) []string {
	proc := fmt.Sprintf("/proc/%d", pid)
	fds, _ := filepath.Glob(proc + "/fd/*")
	inodes := make(map[string]bool)
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && strings.HasPrefix(target, "socket:[") {
			inodes[strings.Trim(target, "socket:[]")] = true
		}
	}
	table, err := os.ReadFile(proc + "/net/unix")
	if err != nil {
		return nil
	}
	var out []string
	for line := range strings.Lines(string(table)) {
		// Num RefCount Protocol Flags Type St Inode Path
		f := strings.Fields(line)
		const accepting = "00010000" // __SO_ACCEPTCON
		if len(f) == 8 && f[3] == accepting && inodes[f[6]] && strings.HasPrefix(f[7], "/") {
			out = append(out, f[7])
		}
	}
	return out
}
