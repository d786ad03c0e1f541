package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/engine/logconfig"
	"github.com/fairlead/fairlead/engine/runtime"
	"github.com/fairlead/fairlead/streams"
)

// fifos names the FIFOs of a container or an exec.
func (e *Engine) fifos(id string, stdin, stderr bool) runtime.Stdio {
	dir := e.fifoDir(id)
	out := runtime.Stdio{Stdout: filepath.Join(dir, "stdout")}
	if stdin {
		out.Stdin = filepath.Join(dir, "stdin")
	}
	if stderr {
		out.Stderr = filepath.Join(dir, "stderr")
	}
	return out
}

// stdio is what containerd is told of the container's streams.
func (e *Engine) stdio(rec Record) runtime.Stdio {
	out := e.fifos(rec.ID, rec.Config.OpenStdin, !rec.Config.Tty)
	out.Terminal = rec.Config.Tty
	return out
}

// streamsSpec is what the streams process is told of them.
func (e *Engine) streamsSpec(rec Record) streams.Spec {
	io := e.stdio(rec)
	out := streams.Spec{
		ID: rec.ID, Stdin: io.Stdin, Stdout: io.Stdout, Stderr: io.Stderr,
		Terminal: io.Terminal, OpenStdin: rec.Config.OpenStdin, StdinOnce: rec.Config.StdinOnce,
		Spool: e.dir(rec.ID),
	}
	var err error
	if out.Logging, err = logconfig.Logging(rec.HostConfig.LogConfig, e.logSubject(rec)); err != nil {
		// It was good at create; the output is worth more than its attributes.
		e.log.Error("a container's log options cannot be followed", "operation", "start", "container", rec.Name, "err", err)
	}
	if t := rec.HostConfig.LogConfig.Type; t == logconfig.JSON || t == logconfig.Local {
		out.Log = e.logPath(rec.ID)
	}
	return out
}

// logFile is the path of the container's log as clients are told it, "" where there
// is no file for them to read.
func (e *Engine) logFile(rec Record) string {
	if rec.HostConfig.LogConfig.Type != logconfig.JSON {
		return ""
	}
	return e.logPath(rec.ID)
}

// logSubject is what the tag of a log can say of the container.
func (e *Engine) logSubject(rec Record) logconfig.Container {
	out := logconfig.Container{
		ContainerID: rec.ID, ContainerName: "/" + rec.Name, ContainerImageID: rec.ImageID, ContainerImageName: rec.Config.Image,
		ContainerCreated: rec.Created, ContainerEnv: rec.Config.Env, ContainerLabels: rec.Config.Labels,
		LogPath: e.logFile(rec), DaemonName: "docker",
	}
	if args := rec.args(); len(args) > 0 {
		out.ContainerEntrypoint, out.ContainerArgs = args[0], args[1:]
	}
	return out
}

// makeFIFOs makes the FIFOs in the specification; those that are there stay.
func (e *Engine) makeFIFOs(id string, s streams.Spec) error {
	if err := os.Mkdir(e.fifoDir(id), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the streams of %s: %w", short(id), err)
	}
	for _, path := range []string{s.Stdin, s.Stdout, s.Stderr} {
		if path == "" {
			continue
		}
		if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("make the streams of %s: %s: %w", short(id), path, err)
		}
	}
	return nil
}

func (e *Engine) removeFIFOs(id string) error {
	if err := os.RemoveAll(e.fifoDir(id)); err != nil {
		return fmt.Errorf("remove the streams of %s: %w", short(id), err)
	}
	return nil
}

// passStdinEnd has the process see the end of its input when its client has
// ended it: the shim keeps a writing end of its own until it is told. A terminal
// has no end.
func (e *Engine) passStdinEnd(s streams.Spec, id, execID string) {
	if s.Stdin == "" || !s.StdinOnce || s.Terminal {
		return
	}
	e.watch.Go(func() {
		if e.cfg.Streams.StdinClosed(e.life, s.ID) != nil {
			return // the streams are gone, or their process, or we are to end
		}
		if err := e.rt.ReleaseStdin(e.life, id, execID); err != nil && !gone(err) && e.life.Err() == nil {
			e.log.Debug("the end of input was not passed on", "id", short(s.ID), "err", err)
		}
	})
}
