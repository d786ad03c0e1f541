package runtime

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/containerd/api/events"
	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// PauseTask freezes all processes of the container.
func (c *Containerd) PauseTask(ctx context.Context, id string) error {
	_, err := c.client.TaskService().Pause(ctx, &tasks.PauseTaskRequest{ContainerID: id})
	if err != nil {
		return fmt.Errorf("pause %s: %w", short(id), processGone(errgrpc.ToNative(err)))
	}
	return nil
}

// ResumeTask lets the processes of a paused container run on.
func (c *Containerd) ResumeTask(ctx context.Context, id string) error {
	_, err := c.client.TaskService().Resume(ctx, &tasks.ResumeTaskRequest{ContainerID: id})
	if err != nil {
		return fmt.Errorf("resume %s: %w", short(id), processGone(errgrpc.ToNative(err)))
	}
	return nil
}

// UpdateTask gives a running container other limits. What the limits do not name
// stays as it is; devices cannot be changed.
func (c *Containerd) UpdateTask(ctx context.Context, id string, limits *specs.LinuxResources) error {
	raw, err := typeurl.MarshalAny(limits)
	if err != nil {
		return fmt.Errorf("encode the limits of %s: %w", short(id), err)
	}
	_, err = c.client.TaskService().Update(ctx, &tasks.UpdateTaskRequest{ContainerID: id, Resources: typeurl.MarshalProto(raw)})
	if err != nil {
		return fmt.Errorf("change the limits of %s: %w", short(id), processGone(errgrpc.ToNative(err)))
	}
	return nil
}

// OutOfMemory calls told with the container's ID whenever the kernel has ended a
// process of a container for want of memory, until ctx ends. What happens while
// containerd is away is not told.
func (c *Containerd) OutOfMemory(ctx context.Context, told func(id string)) {
	filter := fmt.Sprintf("namespace==%q,topic==%q", c.namespace, "/tasks/oom")
	for ctx.Err() == nil {
		messages, failures := c.client.EventService().Subscribe(ctx, filter)
		for open := true; open; {
			select {
			case m := <-messages:
				var oom events.TaskOOM
				if m == nil || m.Event == nil || typeurl.UnmarshalTo(m.Event, &oom) != nil {
					continue // of a newer containerd
				}
				told(oom.ContainerID)
			case err := <-failures:
				c.log.Debug("containerd's events have ended", "err", err)
				open = false
			}
		}
		select {
		case <-ctx.Done():
		case <-c.closed:
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}
