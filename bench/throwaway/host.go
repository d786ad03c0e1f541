// Package throwaway gives programs that compare engines hosts to throw away: processes
// in network, mount and process namespaces of their own, and the image that the engines
// are to run.
package throwaway

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A throw-away host is this program started anew in its own network, mount and
// process namespaces. Its first process, the host stage, mounts what a host
// has and collects orphans; under it the subject stage does the work. When the
// first process ends the kernel ends all others with it, and the links, rules
// and mounts go with their namespaces: nothing is left on the machine.
const (
	stageHost    = "throwaway-host"
	stageSubject = "throwaway-subject"
)

// Host is a throw-away host seen from the driver.
type Host struct {
	// Name is of what works there.
	Name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *json.Decoder
}

// Start starts a host for the subject of that name, whose own directory is dir.
func Start(name, dir string) (*Host, error) {
	cmd := exec.Command("/proc/self/exe", stageHost, name, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Setpgid:    true, // an interrupt is the driver's to handle
	}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &Host{Name: name, cmd: cmd, in: in, out: json.NewDecoder(out)}, nil
}

// Stop ends the hosts and everything that runs in them.
func Stop(hosts []*Host) {
	for _, h := range hosts {
		h.in.Close()
		done := make(chan struct{})
		go func() { _ = h.cmd.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			_ = h.cmd.Process.Kill()
			<-done
		}
	}
}

// Ask sends the subject a value and reads its answer.
func (h *Host) Ask(request, answer any) error {
	if err := json.NewEncoder(h.in).Encode(request); err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	if err := h.out.Decode(answer); err != nil {
		return fmt.Errorf("%s: the host ended: %w", h.Name, err)
	}
	return nil
}

// Staged runs the program as a part of a throw-away host if it was started as one, and
// says whether it was. serve does the subject's work; what it is asked comes in by
// standard input, and its answers go out by standard output.
func Staged(serve func(name, dir string) error) (was bool, err error) {
	if len(os.Args) != 4 || os.Args[1] != stageHost && os.Args[1] != stageSubject {
		return false, nil
	}
	stage, name, dir := os.Args[1], os.Args[2], os.Args[3]
	if stage == stageSubject {
		err = serve(name, dir)
	} else {
		err = beHost(name, dir)
	}
	if err != nil {
		err = fmt.Errorf("%s %s: %w", stage, name, err)
	}
	return true, err
}

// beHost is the first process of a throw-away host.
func beHost(name, dir string) error {
	if err := furnish(dir); err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe", stageSubject, name, dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if pid != cmd.Process.Pid {
			continue
		}
		if status.ExitStatus() != 0 {
			return fmt.Errorf("ended with %d", status.ExitStatus())
		}
		return nil
	}
}

// furnish gives a fresh host its /proc, an empty /run of its own, and lo.
func furnish(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mounting /run: %w", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "netns"), 0o711); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}
