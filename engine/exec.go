package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	apievents "github.com/moby/moby/api/types/events"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/fairlead/fairlead/engine/oci"
	"github.com/fairlead/fairlead/engine/rootfs"
	"github.com/fairlead/fairlead/engine/runtime"
	"github.com/fairlead/fairlead/internal/crashpoint"
	"github.com/fairlead/fairlead/streams"
)

// ExecCreate prepares a further command in a running container.
func (e *Engine) ExecCreate(_ context.Context, ref string, req container.ExecCreateRequest) (string, error) {
	c, err := e.registry.find(ref)
	if err != nil {
		return "", err
	}
	if len(req.Cmd) == 0 {
		return "", fmt.Errorf("No exec command specified: %w", errdefs.ErrInvalidArgument) //nolint:staticcheck // Docker's words
	}
	if req.WorkingDir != "" && req.WorkingDir[0] != '/' {
		return "", fmt.Errorf("working directory %q of exec is not an absolute path: %w", req.WorkingDir, errdefs.ErrInvalidArgument)
	}
	if err := oci.CheckProcess(req.Cmd, req.Env, req.WorkingDir); err != nil {
		return "", err
	}
	if _, err := detachKeys(req.DetachKeys); err != nil {
		return "", err
	}
	if err := takesExecs(c); err != nil {
		return "", err
	}
	x := &execution{id: newID(), container: c.id, req: req, ended: make(chan struct{})}
	e.execs.add(x)
	e.emitExec(x, apievents.ActionExecCreate)
	return x.id, nil
}

// takesExecs refuses a container in which nothing can be run now, in Docker's
// words.
func takesExecs(c *instance) error {
	switch state := c.record().State; {
	case state.Restarting:
		return fmt.Errorf("container %s is restarting, wait until the container is running: %w", c.id, errdefs.ErrConflict)
	case state.Paused:
		return fmt.Errorf("container %s is paused, unpause the container before exec: %w", c.id, errdefs.ErrConflict)
	case !state.Running:
		return fmt.Errorf("container %s is not running: %w", c.id, errdefs.ErrConflict)
	}
	return nil
}

// emitExec tells what happened to an exec, which is an event of its container. more
// are further attributes, key and value by turns.
func (e *Engine) emitExec(x *execution, action apievents.Action, more ...string) {
	c, ok := e.registry.get(x.container)
	if !ok {
		return
	}
	if action == apievents.ActionExecCreate || action == apievents.ActionExecStart {
		action += apievents.Action(": " + strings.Join(x.req.Cmd, " "))
		if len(x.req.Cmd) == 1 {
			action += " " // as Docker's, for the arguments that are not there
		}
	}
	e.emitContainer(c.record(), action, append(more, "execID", x.id)...)
}

// ExecStartOptions say how an exec is started.
type ExecStartOptions struct {
	// Detach leaves it to itself; there is no connection then.
	Detach bool
	// Tty sends the output as it is, rather than in frames. As in Docker it is this,
	// and not whether the exec has a terminal, that decides.
	Tty bool
	// ConsoleSize is the terminal's height and width.
	ConsoleSize *[2]uint
	// Preread is what the client sent that was read from conn already.
	Preread []byte
}

// ExecStart runs the command and passes the client's connection on, as Attach
// does; conn is nil for a detached one. It returns when the process runs, or has
// run.
func (e *Engine) ExecStart(ctx context.Context, id string, opts ExecStartOptions, conn *os.File) error {
	x, err := e.execs.find(id)
	if err != nil {
		return err
	}
	c, ok := e.registry.get(x.container)
	if !ok {
		return fmt.Errorf("No such container: %s: %w", x.container, errdefs.ErrNotFound) //nolint:staticcheck // Docker's words
	}
	if err := takesExecs(c); err != nil && x.isFresh() {
		return err
	}
	if err := x.begin(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTime)
	defer cancel()
	if opts.ConsoleSize != nil {
		x.req.ConsoleSize = opts.ConsoleSize
	}
	if opts.Detach || conn == nil {
		x.req.AttachStdin = false
	}
	if err := e.runExec(ctx, c, x, opts, conn); err != nil {
		undo := context.WithoutCancel(ctx)
		err = errors.Join(err, e.rt.DeleteExec(undo, c.id, x.id), e.endStreams(undo, &x.reading, x.id, e.cfg.Streams.Drop), x.unsave(e))
		x.end(startCode(err))
		x.tidied()
		e.execs.retire(x)
		return err
	}
	return nil
}

func startCode(err error) int {
	var start *StartError
	if errors.As(err, &start) {
		return start.Code
	}
	return 126
}

func (e *Engine) runExec(ctx context.Context, c *instance, x *execution, opts ExecStartOptions, conn *os.File) error {
	rec := c.record()
	process, err := e.execProcess(rec, x.req)
	if err != nil {
		return err
	}
	s := e.execStreams(x)
	if err := e.openStreams(ctx, &x.reading, s); errors.Is(err, errNoReader) {
		return errNoExecReader
	} else if err != nil {
		return err
	}
	if conn != nil && !opts.Detach {
		if err := e.attachExec(ctx, x, opts, conn); err != nil {
			return err
		}
	}
	if err := x.save(e); err != nil {
		return err
	}
	crashpoint.Here("engine-exec-saved")
	io := runtime.Stdio{Stdin: s.Stdin, Stdout: s.Stdout, Stderr: s.Stderr, Terminal: s.Terminal}
	if err := e.rt.Exec(ctx, c.id, x.id, process, io); err != nil {
		return execError(x, err)
	}
	crashpoint.Here("engine-exec-made")
	pid, err := e.rt.StartTask(ctx, c.id, x.id)
	if err != nil {
		// Of an answer that was lost the process knows nothing.
		if pid, _ = e.rt.ExecPID(ctx, c.id, x.id); pid == 0 {
			return execError(x, err)
		}
	}
	crashpoint.Here("engine-exec-started")
	x.setPID(pid)
	e.emitExec(x, apievents.ActionExecStart)
	e.followExec(x)
	e.passStdinEnd(s, c.id, x.id)
	return nil
}

func (e *Engine) attachExec(ctx context.Context, x *execution, opts ExecStartOptions, conn *os.File) error {
	keys, err := detachKeys(x.req.DetachKeys)
	if err != nil {
		return err
	}
	if !x.req.Tty {
		keys = nil
	}
	return e.cfg.Streams.Attach(ctx, streams.AttachSpec{
		ID: x.id, Stdin: x.req.AttachStdin, Stdout: x.req.AttachStdout, Stderr: x.req.AttachStderr,
		Terminal: opts.Tty, DetachKeys: keys, Preread: opts.Preread,
	}, conn)
}

// execProcess is the process in the container's own terms: its user is looked
// up in the files that it sees.
func (e *Engine) execProcess(rec Record, req container.ExecCreateRequest) (*specs.Process, error) {
	name := req.User
	if name == "" {
		name = rec.Config.User
	}
	user, err := oci.User(rootfs.Running(rec.State.PID), name, rec.HostConfig.GroupAdd)
	if err != nil {
		return nil, err
	}
	c := e.ociContainer(rec, user, "")
	s, err := oci.Spec(c)
	if err != nil {
		return nil, err
	}
	return oci.Exec(c, s, req, user)
}

func (e *Engine) execStreams(x *execution) streams.Spec {
	io := e.fifos(x.id, x.req.AttachStdin, !x.req.Tty)
	return streams.Spec{
		ID: x.id, Stdin: io.Stdin, Stdout: io.Stdout, Stderr: io.Stderr, Terminal: x.req.Tty,
		OpenStdin: x.req.AttachStdin, StdinOnce: x.req.AttachStdin, Spool: e.dir(x.container),
	}
}

// followExec notes when the process has ended, and tidies up after it.
func (e *Engine) followExec(x *execution) {
	e.watch.Go(func() {
		exit, err := e.rt.WaitTask(e.life, x.container, x.id)
		if e.life.Err() != nil || errdefs.IsUnavailable(err) {
			return
		}
		if err != nil {
			exit = runtime.Exit{Code: lostExit, At: time.Now()}
		}
		e.work.Add(1)
		defer e.work.Done()
		x.end(exit.Code)
		e.emitExec(x, apievents.ActionExecDie, "exitCode", strconv.Itoa(exit.Code))
		ctx := context.WithoutCancel(e.life)
		err = errors.Join(e.closeStreams(ctx, &x.reading, x.id, drainTime), e.rt.DeleteExec(ctx, x.container, x.id), x.unsave(e))
		if err != nil {
			e.log.Error("clean up after an exec", "operation", "exec", "exec", short(x.id), "err", err)
		}
		x.tidied()
		e.execs.retire(x)
		if _, ok := e.registry.get(x.container); !ok {
			e.execs.drop(x.id)
		}
	})
}

// endedSoon is how long ExecInspect waits for an exit code when the output has
// ended: the process may have a moment to live.
const endedSoon = 10 * time.Second

// ExecInspect tells of an exec. A client asks for the exit code as soon as it has
// seen the end of the output, so when that has come it is waited for.
func (e *Engine) ExecInspect(ctx context.Context, id string) (container.ExecInspectResponse, error) {
	x, err := e.execs.find(id)
	if err != nil {
		return container.ExecInspectResponse{}, err
	}
	if x.isUnfinished() && e.outputEnded(ctx, id) {
		waitFor(ctx, x.ended, endedSoon)
	}
	return x.inspect(), nil
}

// outputEnded asks the streams helper, which knows before any client does.
func (e *Engine) outputEnded(ctx context.Context, id string) bool {
	all, err := e.cfg.Streams.List(ctx)
	return err == nil && slices.ContainsFunc(all, func(s streams.Status) bool { return s.ID == id && s.Drained })
}

func waitFor(ctx context.Context, event <-chan struct{}, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-event:
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	return false
}

// ExecResize sets the size of the exec's terminal.
func (e *Engine) ExecResize(ctx context.Context, id string, height, width uint) error {
	x, err := e.execs.find(id)
	if err != nil {
		return err
	}
	if !x.isRunning() {
		return fmt.Errorf("exec %s is not running: %w", id, errdefs.ErrConflict)
	}
	return e.rt.Resize(ctx, x.container, x.id, width, height)
}

func execError(x *execution, err error) error {
	err = startError(Record{Config: &container.Config{Cmd: slices.Clone(x.req.Cmd)}}, err)
	var start *StartError
	if errors.As(err, &start) {
		// runc says itself what it was about; other words would stand alone.
		if start.text = strings.TrimPrefix(start.text, taskFailed); !strings.HasPrefix(start.text, "OCI runtime") {
			start.text = "failed to start exec: " + start.text
		}
		if start.Code == 128 && strings.Contains(start.text, "no such file or directory") {
			start.Code = 127 // its working directory, say: as Docker
		}
	}
	return err
}
