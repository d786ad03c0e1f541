package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// engine is a daemon and its command line, measured by whole containers:
// ENGINE run --rm demo true, from the start of the command to its end.
type engine struct {
	dir    string
	daemon []string
	client []string
	env    []string
	// counts are the programs whose memory is the engine's own: its daemon, helpers
	// and proxies. containerd, shims and containers are not.
	counts []string
	cmd    *exec.Cmd
}

// measuredPort is the host port that a container publishes.
const measuredPort uint16 = 8080

// newDockerRun is Debian's docker.io: its dockerd, which starts its own
// containerd, and its client.
func newDockerRun(dir string) *engine {
	const socket = "unix:///run/docker.sock" // the host's own tmpfs
	return &engine{
		dir: dir,
		daemon: []string{
			"/usr/sbin/dockerd", "--host", socket, "--data-root", filepath.Join(dir, "data"),
			"--exec-root", "/run/docker", "--pidfile", "/run/docker.pid",
		},
		client: []string{"/usr/bin/docker", "--host", socket},
		env:    []string{"DOCKER_CONFIG=" + filepath.Join(dir, "config")},
		counts: []string{"/usr/sbin/dockerd", "/usr/sbin/docker-proxy"},
	}
}

// newFairleadRun is the binary under test, daemon and command line.
func newFairleadRun(dir string) *engine {
	binary := filepath.Join(filepath.Dir(dir), binaryLink)
	const socket = "unix:///run/fairlead.sock"
	return &engine{
		dir: dir,
		daemon: []string{
			binary, "daemon", "--host", socket, "--data-root", filepath.Join(dir, "data"),
			"--exec-root", "/run/fairlead", "--pidfile", "/run/fairlead.pid",
		},
		client: []string{binary, "--host", socket},
		counts: []string{binary},
	}
}

// newDockerOnFairlead is the daemon of the binary under test, spoken to by Docker's
// own client.
func newDockerOnFairlead(dir string) *engine {
	ours, theirs := newFairleadRun(dir), newDockerRun(dir)
	ours.client, ours.env = []string{theirs.client[0], "--host", ours.client[2]}, theirs.env
	return ours
}

func (e *engine) prepare(ctx context.Context) error {
	log, err := os.Create(filepath.Join(e.dir, "daemon.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	e.cmd = exec.Command(e.daemon[0], e.daemon[1:]...)
	e.cmd.Stdout, e.cmd.Stderr = log, log
	if err := e.cmd.Start(); err != nil {
		return err
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := e.run(ctx, "info")
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("%s is not up: %w\n%s", e.daemon[0], err, text)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return e.run(ctx, "import", filepath.Join(filepath.Dir(e.dir), imageFile), "demo")
}

func (e *engine) once(ctx context.Context, kind string) (up, down time.Duration, err error) {
	args := []string{"run", "--rm"}
	switch kind {
	case kindNone:
		args = append(args, "--network", "none")
	case kindPort:
		args = append(args, "-p", fmt.Sprintf("%d:80", measuredPort))
	}
	start := time.Now()
	err = e.run(ctx, append(args, "demo", "true")...)
	return time.Since(start), 0, err
}

func (e *engine) run(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, e.client[0], append(e.client[1:len(e.client):len(e.client)], args...)...)
	cmd.Env = append(os.Environ(), e.env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", args[0], err, out)
	}
	return nil
}

func (e *engine) close() error {
	if e.cmd == nil || e.cmd.Process == nil {
		return nil
	}
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	// Whatever does not end by itself ends with the host's first process.
	done := make(chan struct{})
	go func() { _ = e.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(15 * time.Second):
	}
	return nil
}
