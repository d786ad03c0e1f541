package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	apievents "github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/engine/runtime"
)

const (
	// probesStarting is how many checks are started at once: it is the machine that
	// starts them, and the containers have the rest of it.
	probesStarting = 4
	// probeEnd is how long one of a former daemon's may take to be ended.
	probeEnd = 3 * time.Second
	// probeDrain is how long the output of a check that has ended may take.
	probeDrain = time.Second
)

// probesDir has a directory for each check that runs, CONTAINER.EXEC, with its FIFOs.
func (e *Engine) probesDir() string { return filepath.Join(e.cfg.ExecRoot, "probes") }

// probe runs the container's health check once. nil is no result: containerd or the
// container was on its way out.
func (e *Engine) probe(rec Record, r *run) *container.HealthcheckResult {
	began := time.Now()
	ctx := e.life
	command := probeCommand(rec.Config)
	p := &probe{e: e, rec: rec, id: newID(), command: command}
	err := p.open()
	if err == nil {
		err = p.begin(ctx)
	}
	result := &container.HealthcheckResult{Start: began, ExitCode: -1}
	if err == nil {
		result.ExitCode, err = p.wait(ctx)
	}
	output := p.close()
	result.End, result.Output = time.Now(), output
	switch {
	case ctx.Err() != nil || errdefs.IsUnavailable(err) || p.lost(r, err):
		return nil
	case errors.Is(err, errTooLong):
		result.ExitCode, result.Output = -1, err.Error()
		if output != "" {
			result.Output += ": " + output
		}
	case err != nil:
		result.Output = err.Error()
	}
	return result
}

// errTooLong is the end of a check by its timeout.
var errTooLong = errors.New("Health check exceeded timeout") //nolint:staticcheck // Docker's words

// probe is one run of a health check.
type probe struct {
	e       *Engine
	rec     Record
	id      string
	command []string
	made    bool // containerd has it

	io      runtime.Stdio
	output  output
	writers []*os.File
	readers []*os.File
	reading sync.WaitGroup
}

func (p *probe) dir() string { return filepath.Join(p.e.probesDir(), p.rec.ID+"."+p.id) }

// open makes the FIFOs and reads them.
func (p *probe) open() error {
	if err := os.MkdirAll(p.dir(), 0o711); err != nil {
		return err
	}
	p.io = runtime.Stdio{Stdout: filepath.Join(p.dir(), "stdout"), Stderr: filepath.Join(p.dir(), "stderr")}
	for _, path := range []string{p.io.Stdout, p.io.Stderr} {
		if err := unix.Mkfifo(path, 0o600); err != nil {
			return fmt.Errorf("make the FIFO of a health check: %w", err)
		}
		r, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		p.readers = append(p.readers, r)
		// It does not end before we let it.
		w, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		p.writers = append(p.writers, w)
		p.reading.Go(func() { _, _ = io.Copy(&p.output, r) })
	}
	return nil
}

// begin starts the process, when it is its turn.
func (p *probe) begin(ctx context.Context) error {
	select {
	case p.e.probing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.e.probing }()
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request := container.ExecCreateRequest{Cmd: p.command, AttachStdout: true, AttachStderr: true}
	process, err := p.e.execProcess(p.rec, request)
	if err != nil {
		return err
	}
	p.emit(apievents.ActionExecCreate)
	if err := p.e.rt.Exec(ctx, p.rec.ID, p.id, process, p.io); err != nil {
		return p.failure(err)
	}
	p.made = true
	if _, err := p.e.rt.StartTask(ctx, p.rec.ID, p.id); err != nil {
		return p.failure(err)
	}
	p.emit(apievents.ActionExecStart)
	return nil
}

func (p *probe) emit(action apievents.Action, more ...string) {
	if action != apievents.ActionExecDie {
		action = probeText(action, p.command)
	}
	p.e.emitContainer(p.rec, action, append(more, "execID", p.id)...)
}

func (p *probe) failure(err error) error {
	return execError(&execution{req: container.ExecCreateRequest{Cmd: p.command}}, err)
}

// wait returns the exit code. A check that takes too long is killed.
func (p *probe) wait(ctx context.Context) (int, error) {
	limit := p.rec.Config.Healthcheck.Timeout
	if limit <= 0 {
		limit = probeTimeout
	}
	timed, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	exit, err := p.e.rt.WaitTask(timed, p.rec.ID, p.id)
	if err != nil && timed.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w (%s)", errTooLong, limit)
		if kill := p.e.rt.KillTask(ctx, p.rec.ID, p.id, int(unix.SIGKILL), false); kill != nil && !gone(kill) {
			return -1, errors.Join(err, kill)
		}
		_, _ = p.e.rt.WaitTask(ctx, p.rec.ID, p.id) // it is dead, or gone with its container
		exit.Code = 128 + int(unix.SIGKILL)
	}
	if err == nil || errors.Is(err, errTooLong) {
		p.emit(apievents.ActionExecDie, "exitCode", strconv.Itoa(exit.Code))
	}
	return exit.Code, err
}

// lost says that the container ended while it was checked.
func (p *probe) lost(r *run, err error) bool {
	select {
	case <-r.ended:
		return true
	default:
		return errdefs.IsNotFound(err)
	}
}

// close tidies up and returns what the check wrote.
func (p *probe) close() string {
	if p.made && p.e.life.Err() == nil {
		ctx, cancel := context.WithTimeout(p.e.life, probeTimeout)
		defer cancel()
		// Its output has been passed on to the FIFOs when it is gone.
		if err := p.e.rt.DeleteExec(ctx, p.rec.ID, p.id); err != nil && !gone(err) && ctx.Err() == nil {
			p.e.log.Warn("a health check was not tidied up", "operation", "health check", "container", p.rec.Name, "err", err)
		}
	}
	for _, w := range p.writers {
		_ = w.Close()
	}
	for _, r := range p.readers {
		_ = r.SetReadDeadline(time.Now().Add(probeDrain))
	}
	p.reading.Wait()
	for _, r := range p.readers {
		_ = r.Close()
	}
	if p.e.life.Err() == nil { // else the next daemon ends it
		_ = os.RemoveAll(p.dir())
	}
	return p.output.String()
}

// leftProbes are the checks that a former daemon did not see to their end, with their
// FIFOs open: a shim that was just starting one waits for a reader, and answers
// nobody else meanwhile.
type leftProbes struct {
	names []string // CONTAINER.EXEC
	fifos []*os.File
}

func (e *Engine) leftProbes() (left leftProbes) {
	left.names, _ = names(e.probesDir()) // there is none where none was ever run
	for _, name := range left.names {
		for _, fifo := range []string{"stdout", "stderr"} {
			if f, err := os.OpenFile(filepath.Join(e.probesDir(), name, fifo), os.O_RDWR|unix.O_NONBLOCK, 0); err == nil {
				left.fifos = append(left.fifos, f)
			}
		}
	}
	return left
}

// sweepProbes ends them.
func (e *Engine) sweepProbes(ctx context.Context, left leftProbes) {
	var all sync.WaitGroup
	for _, name := range left.names {
		all.Go(func() {
			id, exec, _ := strings.Cut(name, ".")
			if err := e.endProbe(ctx, id, exec); err != nil {
				e.log.Warn("an earlier daemon's health check was not ended", "operation", "health check", "container", short(id), "err", err)
			}
			_ = os.RemoveAll(filepath.Join(e.probesDir(), name))
		})
	}
	all.Wait()
	for _, f := range left.fifos {
		_ = f.Close()
	}
}

func (e *Engine) endProbe(ctx context.Context, id, exec string) error {
	ctx, cancel := context.WithTimeout(ctx, probeEnd)
	defer cancel()
	pid, err := e.rt.ExecPID(ctx, id, exec)
	if err != nil {
		return nil // containerd has none, or the container has ended with it
	}
	if pid != 0 { // else it was never started
		if err := e.rt.KillTask(ctx, id, exec, int(unix.SIGKILL), false); err != nil && !gone(err) {
			return err
		}
		if _, err := e.rt.WaitTask(ctx, id, exec); err != nil && !gone(err) {
			return err
		}
	}
	return e.rt.DeleteExec(ctx, id, exec)
}

// output keeps the beginning of what is written to it.
type output struct {
	mu   sync.Mutex
	kept []byte
	more bool
}

// Write takes everything.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	room := min(probeOutput-len(o.kept), len(b))
	o.kept, o.more = append(o.kept, b[:room]...), o.more || room < len(b)
	return len(b), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.more {
		return string(o.kept) + "..."
	}
	return string(o.kept)
}
