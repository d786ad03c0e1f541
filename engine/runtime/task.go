package runtime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	apitypes "github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	apitask "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/protobuf"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// shim is the runtime of every container: runc, one shim each.
const shim = "io.containerd.runc.v2"

// Stdio are the FIFOs of a process; an empty path is no stream.
type Stdio struct {
	Stdin, Stdout, Stderr string
	Terminal              bool
}

// Exit is how a process ended. Code is its own, or 128 plus the signal.
type Exit struct {
	Code int
	At   time.Time
}

// Task is a container's process as containerd knows it.
type Task struct {
	ID  string
	PID int
	// Running is true for a started process that has not ended, Ended for one
	// that has; a task that was created and never started is neither.
	Running, Ended bool
	// Paused is true for a running one that is frozen.
	Paused bool
	Exit   Exit
}

// PutContainer records the container with its runtime specification, in place
// of what was recorded before, with labels for Labels.
func (c *Containerd) PutContainer(ctx context.Context, id string, spec *specs.Spec, labels map[string]string) error {
	raw, err := typeurl.MarshalAny(spec)
	if err != nil {
		return fmt.Errorf("encode the runtime specification of %s: %w", short(id), err)
	}
	record := containers.Container{
		ID: id, Labels: map[string]string{labelContainer: id},
		Runtime: containers.RuntimeInfo{Name: shim}, Spec: raw,
		Snapshotter: Snapshotter, SnapshotKey: id,
	}
	maps.Copy(record.Labels, labels)
	store := c.client.ContainerService()
	_, err = store.Create(ctx, record)
	if errdefs.IsAlreadyExists(err) {
		_, err = store.Update(ctx, record, "spec", "labels")
	}
	if err != nil {
		return fmt.Errorf("record container %s in containerd: %w", short(id), err)
	}
	return nil
}

// DeleteContainer removes containerd's record; absent is no error.
func (c *Containerd) DeleteContainer(ctx context.Context, id string) error {
	err := c.client.ContainerService().Delete(ctx, id)
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove container %s from containerd: %w", short(id), err)
	}
	return nil
}

// Containers returns the IDs of all containers in our namespace.
func (c *Containerd) Containers(ctx context.Context) ([]string, error) {
	list, err := c.client.ContainerService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	ids := make([]string, len(list))
	for i, e := range list {
		ids[i] = e.ID
	}
	return ids, nil
}

// CreateTask makes the container's process, which waits for StartTask.
func (c *Containerd) CreateTask(ctx context.Context, id string, root Rootfs, io Stdio) (pid int, err error) {
	opts, err := typeurl.MarshalAny(&options.Options{Root: c.runcRoot})
	if err != nil {
		return 0, err
	}
	req := &tasks.CreateTaskRequest{
		ContainerID: id,
		Stdin:       io.Stdin, Stdout: io.Stdout, Stderr: io.Stderr, Terminal: io.Terminal,
		Options: typeurl.MarshalProto(opts),
	}
	for _, m := range root {
		req.Rootfs = append(req.Rootfs, &apitypes.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	resp, err := c.client.TaskService().Create(ctx, req)
	if err != nil {
		return 0, errgrpc.ToNative(err)
	}
	return int(resp.Pid), nil
}

// StartTask starts a process made by CreateTask, or by Exec when execID is given.
func (c *Containerd) StartTask(ctx context.Context, id, execID string) (pid int, err error) {
	resp, err := c.client.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: id, ExecID: execID})
	if err != nil {
		return 0, errgrpc.ToNative(err)
	}
	return int(resp.Pid), nil
}

// WaitTask returns when the process has ended. It waits through restarts of
// containerd; errdefs.ErrNotFound says that the process is unknown, and so that
// its exit code is lost.
func (c *Containerd) WaitTask(ctx context.Context, id, execID string) (Exit, error) {
	for {
		resp, err := c.client.TaskService().Wait(ctx, &tasks.WaitRequest{ContainerID: id, ExecID: execID})
		if err == nil {
			return Exit{Code: int(resp.ExitStatus), At: protobuf.FromTimestamp(resp.ExitedAt)}, nil
		}
		err = errgrpc.ToNative(err)
		if ctx.Err() != nil {
			return Exit{}, ctx.Err()
		}
		if errdefs.IsNotFound(err) {
			return Exit{}, fmt.Errorf("wait for %s: %w", short(id), err)
		}
		// A shim that is gone, or containerd that is starting: it says
		// which once it is up.
		select {
		case <-ctx.Done():
			return Exit{}, ctx.Err()
		case <-c.closed:
			return Exit{}, fmt.Errorf("wait for %s: the connection to containerd is closed: %w", short(id), errdefs.ErrUnavailable)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// KillTask signals the process; all of the container's processes with all.
func (c *Containerd) KillTask(ctx context.Context, id, execID string, signal int, all bool) error {
	_, err := c.client.TaskService().Kill(ctx, &tasks.KillRequest{ContainerID: id, ExecID: execID, Signal: uint32(signal), All: all})
	if err != nil {
		return fmt.Errorf("signal %s: %w", short(id), processGone(errgrpc.ToNative(err)))
	}
	return nil
}

// processGone makes errdefs.ErrNotFound of what containerd says when the shim
// ended, with its process, while it was being asked: the words of ttrpc and of the
// shim, which have no code.
func processGone(err error) error {
	if text := err.Error(); strings.Contains(text, "ttrpc: closed") || strings.Contains(text, "a stopped container") || strings.Contains(text, "a stopped process") {
		return fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
	}
	return inVain(err)
}

// inVain makes context.DeadlineExceeded of what containerd says when a shim did not
// answer in the time that containerd gives it, which is its own or that of our call,
// less the way: its words have no code either.
func inVain(err error) error {
	if errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
		return err
	}
	return fmt.Errorf("%w: %w", err, context.DeadlineExceeded)
}

// DeleteTask removes the ended process with its shim; absent is no error.
func (c *Containerd) DeleteTask(ctx context.Context, id string) error {
	_, err := c.client.TaskService().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
	if err = errgrpc.ToNative(err); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove the task of %s: %w", short(id), err)
	}
	return nil
}

// Exec adds a process to a running container; StartTask starts it.
func (c *Containerd) Exec(ctx context.Context, id, execID string, process *specs.Process, io Stdio) error {
	raw, err := typeurl.MarshalAny(process)
	if err != nil {
		return fmt.Errorf("encode the process: %w", err)
	}
	_, err = c.client.TaskService().Exec(ctx, &tasks.ExecProcessRequest{
		ContainerID: id, ExecID: execID, Spec: typeurl.MarshalProto(raw),
		Stdin: io.Stdin, Stdout: io.Stdout, Stderr: io.Stderr, Terminal: io.Terminal,
	})
	return errgrpc.ToNative(err)
}

// DeleteExec removes an ended process of Exec; absent is no error.
func (c *Containerd) DeleteExec(ctx context.Context, id, execID string) error {
	_, err := c.client.TaskService().DeleteProcess(ctx, &tasks.DeleteProcessRequest{ContainerID: id, ExecID: execID})
	if err = errgrpc.ToNative(err); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove process %s of %s: %w", short(execID), short(id), err)
	}
	return nil
}

// Resize sets the size of the process's terminal in characters.
func (c *Containerd) Resize(ctx context.Context, id, execID string, width, height uint) error {
	_, err := c.client.TaskService().ResizePty(ctx, &tasks.ResizePtyRequest{
		ContainerID: id, ExecID: execID, Width: uint32(width), Height: uint32(height),
	})
	if err != nil {
		return fmt.Errorf("resize the terminal of %s: %w", short(id), errgrpc.ToNative(err))
	}
	return nil
}

// ReleaseStdin makes the shim let go of its own writing end of the process's
// input, so that input ends when no other writer has it open.
func (c *Containerd) ReleaseStdin(ctx context.Context, id, execID string) error {
	_, err := c.client.TaskService().CloseIO(ctx, &tasks.CloseIORequest{ContainerID: id, ExecID: execID, Stdin: true})
	if err != nil {
		return fmt.Errorf("release the input of %s: %w", short(id), errgrpc.ToNative(err))
	}
	return nil
}

// Tasks returns every task in our namespace, ended ones included.
func (c *Containerd) Tasks(ctx context.Context) ([]Task, error) {
	resp, err := c.client.TaskService().List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return nil, fmt.Errorf("list tasks: %w", errgrpc.ToNative(err))
	}
	out := make([]Task, 0, len(resp.Tasks))
	for _, p := range resp.Tasks {
		out = append(out, fromProcess(p))
	}
	return out, nil
}

func fromProcess(p *apitask.Process) Task {
	id := p.ContainerID
	if id == "" {
		id = p.ID // containerd 1.6 fills only this one in a list
	}
	t := Task{ID: id, PID: int(p.Pid)}
	switch p.Status {
	case apitask.Status_STOPPED:
		t.Ended = true
		t.Exit = Exit{Code: int(p.ExitStatus), At: protobuf.FromTimestamp(p.ExitedAt)}
	case apitask.Status_CREATED:
	default:
		t.Running = true
		t.Paused = p.Status == apitask.Status_PAUSED || p.Status == apitask.Status_PAUSING
	}
	return t
}

// Task returns one container's task, or errdefs.ErrNotFound.
func (c *Containerd) Task(ctx context.Context, id string) (Task, error) {
	resp, err := c.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
	if err != nil {
		return Task{}, fmt.Errorf("find the task of %s: %w", short(id), inVain(errgrpc.ToNative(err)))
	}
	return fromProcess(resp.Process), nil
}

// ExecPID returns the process of an Exec, ended or not, or errdefs.ErrNotFound.
func (c *Containerd) ExecPID(ctx context.Context, id, execID string) (int, error) {
	resp, err := c.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id, ExecID: execID})
	if err != nil {
		return 0, fmt.Errorf("find process %s of %s: %w", short(execID), short(id), errgrpc.ToNative(err))
	}
	return int(resp.Process.Pid), nil
}
