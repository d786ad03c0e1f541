package main

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

// engine is what containers are made with, by its own command line.
type engine struct {
	// daemon is the command of its daemon; none for podman.
	daemon []string
	client []string
	env    []string
	// apart are the flags of `network create` for a network whose containers are kept
	// apart; none where there are no such networks.
	apart []string
	// unlimited are those for one whose containers may open so many connections as a host
	// has ports; none where they may anyway.
	unlimited []string
	cmd       *exec.Cmd
}

// binaryLink and imageFile are in the driver's directory, one above a host's own.
const (
	binaryLink = "fairlead"
	imageFile  = "demo.tar"
)

// dockerApart is Docker's option, which Fairlead takes too.
var dockerApart = []string{"-o", "com.docker.network.bridge.enable_icc=false"}

// newEngine is an engine as its package is when nobody has changed its settings, but
// for where it keeps its files.
func newEngine(name, dir string) (*engine, error) {
	data := filepath.Join(dir, "data")
	switch name {
	case "fairlead":
		binary := filepath.Join(filepath.Dir(dir), binaryLink)
		const socket = "unix:///run/fairlead.sock" // the host's own tmpfs
		return &engine{
			daemon: []string{binary, "daemon", "--host", socket, "--data-root", data, "--exec-root", "/run/fairlead", "--pidfile", "/run/fairlead.pid"},
			client: []string{binary, "--host", socket}, apart: dockerApart,
			unlimited: []string{"-o", "com.fairlead.network.limit_connections=false"},
		}, nil
	case "docker":
		const socket = "unix:///run/docker.sock"
		return &engine{
			daemon: []string{"/usr/sbin/dockerd", "--host", socket, "--data-root", data, "--exec-root", "/run/docker", "--pidfile", "/run/docker.pid"},
			client: []string{"/usr/bin/docker", "--host", socket}, apart: dockerApart,
			env: []string{"DOCKER_CONFIG=" + filepath.Join(dir, "config")},
		}, nil
	case "podman":
		return &engine{client: []string{
			"/usr/bin/podman", "--root", data, "--runroot", "/run/podman", "--tmpdir", "/run/libpod", "--network-config-dir", filepath.Join(dir, "networks"),
			"--network-backend", "netavark", "--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "file",
		}}, nil
	}
	return nil, fmt.Errorf("no engine %q", name)
}

// start starts the daemon, if there is one, and makes the image demo.
func (e *engine) start(ctx context.Context, dir string) error {
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
		err = until(30*time.Second, func() error { _, err := e.run(ctx, "info"); return err })
		if err != nil {
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("%s is not up: %w\n%s", e.daemon[0], err, text)
		}
	}
	_, err := e.run(ctx, "import", filepath.Join(filepath.Dir(dir), imageFile), "demo")
	return err
}

// run runs the engine's command line and returns what it printed.
func (e *engine) run(ctx context.Context, args ...string) (string, error) {
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

// idle starts a container that does nothing, and returns its network namespace.
func (e *engine) idle(ctx context.Context, name string, flags ...string) (space, error) {
	args := append([]string{"run", "-d", "--name", name}, flags...)
	if _, err := e.run(ctx, append(args, "demo", "sleep", "3600")...); err != nil {
		return space{}, err
	}
	pid, err := e.run(ctx, "inspect", "--format", "{{.State.Pid}}", name)
	if err != nil {
		return space{}, err
	}
	if n, err := strconv.Atoi(pid); err != nil || n <= 0 {
		return space{}, fmt.Errorf("container %s has the process %q", name, pid)
	}
	return space{name: name, path: "/proc/" + pid + "/ns/net"}, nil
}

// stop ends the daemon. Whatever else there is ends with the host's first process.
func (e *engine) stop() {
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
	for deadline := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		err := f()
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
