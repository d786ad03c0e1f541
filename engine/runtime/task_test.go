package runtime

import (
	"context"
	"errors"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestProcessGone takes the answer of a shim that ends while it is asked for a
// process that is no more, that of one that does not answer for a deadline, and no
// other answer without a code.
func TestProcessGone(t *testing.T) {
	t.Parallel()
	closed := errgrpc.ToNative(status.Error(codes.Unknown, "ttrpc: closed"))
	if !errdefs.IsNotFound(processGone(closed)) {
		t.Errorf("%v is not taken for a process that is gone", closed)
	}
	if stopped := errgrpc.ToNative(status.Error(codes.Unknown, "cannot pause a stopped container: unknown")); !errdefs.IsNotFound(processGone(stopped)) {
		t.Errorf("%v is not taken for a process that is gone", stopped)
	}
	if late := errgrpc.ToNative(status.Error(codes.Unknown, "context deadline exceeded: unknown")); !errors.Is(processGone(late), context.DeadlineExceeded) {
		t.Errorf("%v is not taken for a shim that does not answer", late)
	}
	if other := errors.New("permission denied"); errdefs.IsNotFound(processGone(other)) || errors.Is(processGone(other), context.DeadlineExceeded) {
		t.Errorf("%v is taken for something else", other)
	}
}
