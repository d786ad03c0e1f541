package runtime

import (
	"context"
	"path"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fairlead/fairlead/internal/faultpoint"
)

// failing lets a test have a call to containerd fail, before it is made or after:
// containerd.SERVICE/METHOD and a suffix. What one gets is what one gets of a
// containerd that is gone.
func failing(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if !faultpoint.Armed() {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	name := "containerd." + path.Base(path.Dir(method)) + "/" + path.Base(method)
	if err := faultpoint.Here(name); err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	err := invoke(ctx, method, req, reply, cc, opts...)
	if lost := faultpoint.Here(name + ".unheard"); lost != nil && err == nil {
		err = status.Error(codes.Unavailable, lost.Error())
	}
	return err
}
