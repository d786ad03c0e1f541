// Package engine runs container engines by their own command lines, as their packages are
// when nobody has changed a setting but where they keep their files, so that they can be
// compared. It is for the hosts of package throwaway: what an engine leaves behind ends there.
package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Engine is what containers are made with.
type Engine struct {
	// Name is what New was called with.
	Name string
	// daemon is the command of its daemon; none for podman.
	daemon []string
	client []string
	env    []string
	// Apart are the flags of `network create` for a network whose containers are kept
	// apart; none where there are no such networks.
	Apart []string
	// Unlimited are those for one whose containers may open so many connections as a host
	// has ports; none where they may anyway.
	Unlimited []string
	cmd       *exec.Cmd
}

// The names of what is in the driver's directory, one above a host's own.
const (
	// BinaryLink leads to the fairlead binary under test.
	BinaryLink = "fairlead"
	// ImageFile is the image that all engines run.
	ImageFile = "demo.tar"
)

// Image is its name once an engine is started.
const Image = "demo"

// dockerApart is Docker's option, which Fairlead takes too.
var dockerApart = []string{"-o", "com.docker.network.bridge.enable_icc=false"}

// New returns an engine, not started: "fairlead", "docker" or "podman". It keeps what it
// keeps in dir; flags are given to its daemon.
func New(name, dir string, flags ...string) (*Engine, error) {
	data := filepath.Join(dir, "data")
	switch name {
	case "fairlead":
		binary := filepath.Join(filepath.Dir(dir), BinaryLink)
		const socket = "unix:///run/fairlead.sock" // the host's own tmpfs
		return &Engine{
			Name:   name,
			daemon: append([]string{binary, "daemon", "--host", socket, "--data-root", data, "--exec-root", "/run/fairlead", "--pidfile", "/run/fairlead.pid"}, flags...),
			client: []string{binary, "--host", socket}, Apart: dockerApart,
			Unlimited: []string{"-o", "com.fairlead.network.limit_connections=false"},
		}, nil
	case "docker":
		const socket = "unix:///run/docker.sock"
		return &Engine{
			Name:   name,
			daemon: append([]string{"/usr/sbin/dockerd", "--host", socket, "--data-root", data, "--exec-root", "/run/docker", "--pidfile", "/run/docker.pid"}, flags...),
			client: []string{"/usr/bin/docker", "--host", socket}, Apart: dockerApart,
			env: []string{"DOCKER_CONFIG=" + filepath.Join(dir, "config")},
		}, nil
	case "podman":
		return &Engine{Name: name, client: []string{
			"/usr/bin/podman", "--root", data, "--runroot", "/run/podman", "--tmpdir", "/run/libpod", "--network-config-dir", filepath.Join(dir, "networks"),
			"--network-backend", "netavark", "--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "file",
		}}, nil
	}
	return nil, fmt.Errorf("no engine %q", name)
}

// Start starts the daemon, if there is one, with dir for its log, and makes the image.
func (e *Engine) Start(ctx context.Context, dir string) error {
	if e.daemon != nil {
		log, err := os.Create(filepath.Join(dir, "daemon.log"))
		if err != nil {
			return err
		}
		defer log.Close()
		e.cmd = exec.Command(e.daemon[0], e.daemon[1:]...)
		e.cmd.Stdout, e.cmd.Stderr = log, log
		if err := e.cmd.Start(); err != nil {
			return err
		}
		err = until(30*time.Second, func() error { _, err := e.Run(ctx, "info"); return err })
		if err != nil {
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("%s is not up: %w\n%s", e.daemon[0], err, text)
		}
	}
	_, err := e.Run(ctx, "import", filepath.Join(filepath.Dir(dir), ImageFile), Image)
	return err
}

// Run runs the engine's command line and returns what it printed.
func (e *Engine) Run(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, e.client[0], append(e.client[1:len(e.client):len(e.client)], args...)...)
	cmd.Env = append(os.Environ(), e.env...)
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return string(out), fmt.Errorf("%s %s: %w: %s", filepath.Base(e.client[0]), strings.Join(args, " "), err, exit.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}

// Idle starts a container that does nothing, and returns the path of its network namespace.
func (e *Engine) Idle(ctx context.Context, name string, flags ...string) (netns string, err error) {
	args := append([]string{"run", "-d", "--name", name}, flags...)
	if _, err := e.Run(ctx, append(args, Image, "sleep", "3600")...); err != nil {
		return "", err
	}
	pid, err := e.Run(ctx, "inspect", "--format", "{{.State.Pid}}", name)
	if err != nil {
		return "", err
	}
	if n, err := strconv.Atoi(pid); err != nil || n <= 0 {
		return "", fmt.Errorf("container %s has the process %q", name, pid)
	}
	return "/proc/" + pid + "/ns/net", nil
}

// Stop ends the daemon. Whatever else there is ends with the host's first process.
func (e *Engine) Stop() {
	if e.cmd == nil || e.cmd.Process == nil {
		return
	}
	_ = e.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { _ = e.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(15 * time.Second):
	}
}

// until tries until it succeeds, or the time is over.
func until(limit time.Duration, f func() error) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		err := f()
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
