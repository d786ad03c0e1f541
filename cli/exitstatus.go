package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// restartPatience is how long a foreground command waits for a daemon that went
// away to answer again. The container and its streams live on meanwhile.
const restartPatience = 30 * time.Second

// exitStatus is how a container ended: its exit code, or why that is not known.
type exitStatus struct {
	code int
	err  error
}

// awaitExit registers a wait with the daemon and returns once it stands, so that
// a container started afterwards cannot exit unseen. The channel then yields the
// exit status, once.
//
// A connection lost on the way is a daemon restarting: it is asked again for as
// long as restartPatience, from each loss on.
func awaitExit(ctx context.Context, c *client.Client, id string, condition container.WaitCondition) <-chan exitStatus {
	out := make(chan exitStatus, 1)
	wait := c.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: condition})
	go func() {
		status := result(ctx, wait)
		if status.err != nil && lost(status.err) {
			status = awaitRestart(ctx, c, id, condition, status.err)
		}
		out <- status
	}()
	return out
}

// awaitRestart asks again after the connection was lost with err.
func awaitRestart(ctx context.Context, c *client.Client, id string, condition container.WaitCondition, err error) exitStatus {
	// The exit may have come while nobody listened: the next one will not.
	if condition == container.WaitConditionNextExit {
		condition = container.WaitConditionNotRunning
	}
	for deadline := time.Now().Add(restartPatience); time.Now().Before(deadline); {
		if !pause(ctx, 100*time.Millisecond) {
			return exitStatus{err: ctx.Err()}
		}
		if _, pingErr := c.Ping(ctx, client.PingOptions{}); pingErr != nil {
			continue
		}
		status := result(ctx, c.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: condition}))
		switch {
		case status.err == nil:
			return status
		case lost(status.err):
			deadline = time.Now().Add(restartPatience)
		case errdefs.IsNotFound(status.err):
			return exitStatus{err: errors.New(
				"the container exited and was removed while the daemon was away: its exit code is not known")}
		default:
			return status
		}
	}
	return exitStatus{err: fmt.Errorf("the daemon went away and did not come back within %s; the container was left as it was: %w",
		restartPatience, err)}
}

func result(ctx context.Context, wait client.ContainerWaitResult) exitStatus {
	select {
	case answer := <-wait.Result:
		if answer.Error != nil && answer.Error.Message != "" {
			return exitStatus{err: errors.New(answer.Error.Message)}
		}
		return exitStatus{code: int(answer.StatusCode)}
	case err := <-wait.Error:
		return exitStatus{err: err}
	case <-ctx.Done():
		return exitStatus{err: ctx.Err()}
	}
}

// lost says whether a call ended because the daemon went away.
func lost(err error) bool {
	for _, cause := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNREFUSED} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return client.IsErrConnectionFailed(err)
}
