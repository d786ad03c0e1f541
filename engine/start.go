package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	apievents "github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/engine/mounts"
	"github.com/fairlead/fairlead/engine/oci"
	"github.com/fairlead/fairlead/engine/rootfs"
	"github.com/fairlead/fairlead/internal/crashpoint"
	"github.com/fairlead/fairlead/internal/panics"
	"github.com/fairlead/fairlead/network/spec"
)

// Start runs the container. When it returns without an error the process is
// running, or has run. errdefs.ErrNotModified says that it runs already.
func (e *Engine) Start(ctx context.Context, ref string) error {
	leave, err := e.enter()
	if err != nil {
		return err
	}
	defer leave()
	c, err := e.registry.find(ref)
	if err != nil {
		return err
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.lifecycle.Unlock()
	rec := c.record()
	switch {
	case c.isGone() || rec.State.Removing:
		return fmt.Errorf("container %s is being removed and cannot be started: %w", rec.Name, errdefs.ErrConflict)
	case rec.State.Paused:
		return fmt.Errorf("cannot start a paused container, try unpause instead: %w", errdefs.ErrConflict)
	case rec.State.Alive():
		return fmt.Errorf("container %s is running: %w", rec.Name, errdefs.ErrNotModified)
	}
	// A client that goes away does not stop it half-way.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTime)
	defer cancel()
	c.backoff = 0
	if err := e.start(ctx, c, 0); err != nil {
		return e.failed(ctx, c, err)
	}
	return nil
}

// start begins a run. restarts is how many by the restart policy came before it. The
// caller holds the container's lifecycle, and deals with a failure.
func (e *Engine) start(ctx context.Context, c *instance, restarts int) error {
	r := &run{ended: make(chan struct{})}
	starting, done := c.abortable(ctx)
	pid, err := e.launch(starting, c, r, restarts)
	aborted := errors.Is(context.Cause(starting), errAborted)
	done()
	if err != nil {
		if aborted {
			err = errors.Join(errAborted, err)
		}
		close(r.ended)
		return err
	}
	rec := c.update(func(rec *Record) { rec.State.PID = pid })
	e.emitContainer(rec, apievents.ActionStart)
	e.watchHealth(c, r)
	e.watch.Go(func() { e.awaitExit(c, r) })
	e.tellLinkers(ctx, c.id)
	return nil
}

func (c *instance) isGone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone
}

// launch makes everything that the process needs and starts it; after a failure
// all of it is undone.
func (e *Engine) launch(ctx context.Context, c *instance, r *run, restarts int) (pid int, err error) {
	rec := c.record()
	sandbox, err := e.findSandbox(rec)
	if err != nil {
		return 0, err
	}
	if _, err := e.targets(rec); err != nil {
		return 0, err
	}
	if sandbox != "" {
		if err := e.occupants.enter(ctx, sandbox, c.id); err != nil {
			return 0, err
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.undoLaunch(context.WithoutCancel(ctx), c, rec, sandbox))
		}
	}()
	defer panics.Catch(&err)
	if sandbox != "" && sandbox != c.id && !e.attached(sandbox) {
		// It was being taken away while the other still counted as running.
		return 0, fmt.Errorf("cannot join network of a non running container: %s: %w", sandbox, errdefs.ErrConflict)
	}
	attachment, err := e.prepare(ctx, c, rec, e.netns(sandbox))
	if err != nil {
		return 0, err
	}
	if err := e.writeFiles(c, attachment); err != nil {
		return 0, err
	}
	crashpoint.Here("engine-start-prepared")
	if err := e.createTask(ctx, c, rec); err != nil {
		return 0, startError(rec, err)
	}
	crashpoint.Here("engine-start-created")
	// The record is written while the process is being started: what of the
	// two is missing after a crash, Restore makes up for.
	running := c.update(func(rec *Record) {
		c.run = r
		rec.State = State{
			Running: true, StartedAt: time.Now().UTC(), FinishedAt: rec.State.FinishedAt,
			Sandbox: sandbox, RestartCount: restarts, Health: firstHealth(rec.Config),
		}
	})
	var wg sync.WaitGroup
	var putErr error
	wg.Go(func() { putErr = e.cfg.Store.Put(c.id, running) })
	pid, err = e.rt.StartTask(ctx, c.id, "")
	wg.Wait()
	if err != nil {
		return 0, startError(rec, err)
	}
	if putErr != nil {
		return 0, putErr
	}
	crashpoint.Here("engine-start-started")
	e.passStdinEnd(e.streamsSpec(rec), c.id, "")
	return pid, nil
}

// prepare does at once what does not depend on each other: the network, the
// streams, and containerd's record with the specification.
func (e *Engine) prepare(ctx context.Context, c *instance, rec Record, netns string) (spec.Attachment, error) {
	var wg sync.WaitGroup
	var attachment spec.Attachment
	errs := make([]error, 3)
	if rec.ownNetwork() {
		wg.Go(func() {
			defer panics.Catch(&errs[0])
			began := time.Now()
			attachment, errs[0] = e.attach(ctx, rec)
			e.log.Debug("network attached", "operation", "attach", "container", rec.Name, "duration", time.Since(began))
		})
	} else if rec.HostConfig.NetworkMode.IsHost() {
		e.emitNetwork(rec.ID, network.NetworkHost, apievents.ActionConnect)
	}
	wg.Go(func() {
		defer panics.Catch(&errs[1])
		errs[1] = e.openContainer(ctx, c, rec)
	})
	wg.Go(func() {
		defer panics.Catch(&errs[2])
		var s *specs.Spec
		if s, errs[2] = e.specification(ctx, c, rec, netns); errs[2] == nil {
			errs[2] = e.rt.PutContainer(ctx, c.id, s, e.cfg.Store.labels(rec))
		}
	})
	wg.Wait()
	return attachment, e.first(rec, errs)
}

// first is the first of what failed side by side, for an answer of one line: a process
// without room for another file fails in all of it. The rest is in the log.
func (e *Engine) first(rec Record, errs []error) error {
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) == 0 {
		return nil
	}
	for _, err := range errs[1:] {
		e.log.Error("more of a start failed", "operation", "start", "container", rec.Name, "err", err)
	}
	return errs[0]
}

// specification is what the runtime is told to run.
func (e *Engine) specification(ctx context.Context, c *instance, rec Record, netns string) (*specs.Spec, error) {
	if c.root == nil {
		var err error
		if c.root, err = e.rt.Rootfs(ctx, c.id); err != nil {
			return nil, err
		}
	}
	if err := e.cfg.checkDenied(rec.HostConfig); err != nil { // the daemon may be of another mind by now
		return nil, err
	}
	user, err := oci.User(rootfs.Layers(c.root.Layers()), rec.Config.User, rec.HostConfig.GroupAdd)
	if err != nil {
		return nil, err
	}
	out := e.ociContainer(rec, user, netns)
	if out.Mounts, err = e.mountForRun(ctx, rec); err != nil {
		return nil, err
	}
	if err := e.joinNamespaces(rec, &out); err != nil {
		return nil, err
	}
	if out.Devices, err = oci.FindDevices(rec.HostConfig); err != nil {
		return nil, err
	}
	s, err := oci.Spec(out)
	if err != nil {
		return nil, err
	}
	return s, e.addInit(s, rec.HostConfig)
}

func (e *Engine) ociContainer(rec Record, user specs.User, netns string) oci.Container {
	out := oci.Container{
		ID: rec.ID, Config: rec.Config, HostConfig: e.cfg.atRun(rec.HostConfig), Args: rec.args(),
		Hostname: rec.Config.Hostname, Domainname: rec.Config.Domainname,
		User: user, NetworkNamespace: netns, OwnNetwork: rec.ownNetwork(),
		AppArmor: e.loadAppArmor(), DeniedCapabilities: e.cfg.deniedCapabilities(),
		RootPropagation: mounts.RootPropagation(rec.mounts()),
		Files:           e.mountedFiles(rec), Sysctls: otherSysctls(rec.HostConfig.Sysctls), UnifiedCgroups: e.unified,
	}
	// What is linked to was seen to run before the start, and may have ended since.
	targets, _ := e.targets(rec)
	out.LinkEnv = linkEnvironment(rec, targets)
	if rec.HostConfig.UTSMode.IsHost() {
		out.Hostname, out.Domainname = "", ""
	}
	return out
}

// undoLaunch takes away whatever launch made, in and of the sandbox, with the shim that
// containerd leaves behind if it gave up while making it. It goes on past errors.
func (e *Engine) undoLaunch(ctx context.Context, c *instance, rec Record, sandbox string) error {
	var errs []error
	errs = append(errs, e.insist(func() error { return e.endTask(ctx, rec.ID) }), e.rt.ReapShim(ctx, rec.ID))
	errs = append(errs, e.endStreams(ctx, &c.reading, c.id, e.cfg.Streams.Drop))
	errs = append(errs, e.leaveSandbox(ctx, rec, sandbox), e.unmountRun(rec))
	return errors.Join(errs...)
}

// endTask kills the container's process, if it has one, and removes its task; its shim
// too if that does not answer.
func (e *Engine) endTask(ctx context.Context, id string) error {
	err := e.askToEnd(ctx, id)
	if errors.Is(err, errHung) {
		e.log.Warn("a container's shim does not answer and is killed", "id", short(id))
		if err = e.rt.EndShim(id); err == nil {
			err = e.askToEnd(ctx, id)
		}
	}
	return err
}

func (e *Engine) askToEnd(ctx context.Context, id string) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, e.killTime, errHung)
	defer cancel()
	defer func() { err = asHung(ctx, err) }()
	task, err := e.rt.Task(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if task.Running {
		if err := e.rt.KillTask(ctx, id, "", int(unix.SIGKILL), true); err != nil && !gone(err) {
			return err
		}
		if _, err := e.rt.WaitTask(ctx, id, ""); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	return e.rt.DeleteTask(ctx, id)
}

// gone says that the process is there no more.
func gone(err error) bool {
	return errdefs.IsNotFound(err) || errdefs.IsFailedPrecondition(err)
}

// failed records why the container did not start; one to be removed by itself
// is.
func (e *Engine) failed(ctx context.Context, c *instance, cause error) error {
	code := 128
	var start *StartError
	if errors.As(cause, &start) {
		code = start.Code
	}
	rec := c.update(func(r *Record) {
		r.State.Running, r.State.Restarting, r.State.PID = false, false, 0
		r.State.ExitCode, r.State.Error = code, plain(cause)
	})
	if rec.HostConfig.AutoRemove {
		return errors.Join(cause, e.remove(ctx, c))
	}
	err := errors.Join(cause, e.cfg.Store.Put(c.id, rec))
	c.answer(container.WaitConditionNotRunning) // it was no exit, as in Docker
	return err
}

// plain is an error's text for people, without the kind of error at its end.
func plain(err error) string {
	text := err.Error()
	for _, kind := range []error{errdefs.ErrConflict, errdefs.ErrInvalidArgument, errdefs.ErrNotFound, errdefs.ErrUnavailable, errdefs.ErrPermissionDenied} {
		text = strings.TrimSuffix(text, ": "+kind.Error())
	}
	return text
}

// StartError is a failure of the runtime to run the container's command. Code is
// the exit code of the shell's convention: 127 not found, 126 cannot be run, 128
// otherwise.
type StartError struct {
	Code int
	text string
	kind error
}

// Error is the runtime's own explanation.
func (s *StartError) Error() string { return s.text }

func (s *StartError) Unwrap() error { return s.kind }

// taskFailed begins what Docker says of a container that did not start.
const taskFailed = "failed to create task for container: "

func startError(rec Record, err error) error {
	// containerd passes runc's words on in its own.
	text := strings.TrimSuffix(err.Error(), ": unknown")
	code, kind := 128, error(errdefs.ErrInternal)
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(text, w) {
				return true
			}
		}
		return false
	}
	if has("opening w/o fifo", "opening r/o fifo") && has(context.DeadlineExceeded.Error()) {
		// The shim waited for a reader of the output for as long as it does.
		text, err = plain(errNoReader), errNoReader
	}
	command := strings.Join(rec.args(), " ")
	if len(rec.args()) > 0 {
		command = rec.args()[0]
	}
	switch {
	case errdefs.IsUnavailable(err):
		kind = errdefs.ErrUnavailable
	case has("executable file not found") || (has("exec: \""+command+"\"") && has("no such file or directory")):
		code, kind = 127, errdefs.ErrInvalidArgument
	case has("permission denied", "is a directory"):
		code, kind = 126, errdefs.ErrInvalidArgument
	case has("not a directory"):
		text += ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type"
		code, kind = 127, errdefs.ErrInvalidArgument
	}
	return &StartError{Code: code, text: taskFailed + text, kind: kind}
}
