package main

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
	stageHost    = "bench-host"
	stageSubject = "bench-subject"
)

// host is a throw-away host seen from the driver.
type host struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *json.Decoder
}

// startHosts starts one host a name, each ready to measure. On an error it
// returns those that were started, to be stopped.
func startHosts(dir string, names []string) ([]*host, error) {
	var hosts []*host
	for _, name := range names {
		own, err := os.MkdirTemp(dir, "h")
		if err != nil {
			return hosts, err
		}
		h, err := startHost(name, own)
		if err != nil {
			return hosts, fmt.Errorf("host of %s: %w", name, err)
		}
		hosts = append(hosts, h)
		if _, err := h.ask(request{Op: opPrepare}); err != nil {
			return hosts, err
		}
	}
	return hosts, nil
}

func startHost(name, dir string) (*host, error) {
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
	return &host{name: name, cmd: cmd, in: in, out: json.NewDecoder(out)}, nil
}

// stopHosts ends the hosts and everything that runs in them.
func stopHosts(hosts []*host) {
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

func (h *host) once(kind string) (up, down time.Duration, err error) {
	a, err := h.ask(request{Op: opOnce, Kind: kind})
	return a.Up, a.Down, err
}

func (h *host) fill(endpoints, ports int) error {
	_, err := h.ask(request{Op: opFill, Endpoints: endpoints, Ports: ports})
	return err
}

func (h *host) memory() (int64, error) {
	a, err := h.ask(request{Op: opMemory})
	return a.Memory, err
}

func (h *host) ask(r request) (answer, error) {
	var a answer
	if err := json.NewEncoder(h.in).Encode(r); err != nil {
		return a, fmt.Errorf("%s: %w", h.name, err)
	}
	if err := h.out.Decode(&a); err != nil {
		return a, fmt.Errorf("%s: the host ended: %w", h.name, err)
	}
	if a.Error != "" {
		return a, fmt.Errorf("%s: %s: %s", h.name, r.Op, a.Error)
	}
	return a, nil
}

// stage runs this program as one of the two processes of a throw-away host.
func stage(stage, name, dir string) error {
	if stage == stageSubject {
		return serve(name, dir)
	}
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
