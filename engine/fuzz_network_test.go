package engine

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/fairlead/fairlead/engine/events"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
)

// deciding is a network that decides on requests as the real one does, and makes
// nothing.
type deciding struct {
	*fakeNetwork
	decided *spec.Network
}

func (d deciding) CreateNetwork(_ context.Context, req spec.NetworkRequest) (spec.Network, error) {
	n, err := plan.NewState(plan.Config{UserlandProxy: true}).DecideNetwork(req, plan.Surroundings{}, plan.Birth{ID: strings.Repeat("ab", 32), Time: time.Unix(1, 0)})
	*d.decided = n
	return n, err
}

// FuzzNetworkCreate: whatever is asked for a network, it is decided on or refused as a
// bad request; and what was decided has no word in it that could be anything but a name,
// and no address out of its place.
func FuzzNetworkCreate(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		var req network.CreateRequest
		if json.Unmarshal(body, &req) != nil {
			return
		}
		var n spec.Network
		e := &Engine{log: slog.New(slog.DiscardHandler), events: events.New(), cfg: configuration{Config: Config{Network: deciding{newFakeNetwork("/nonexistent"), &n}}}}
		e.registry.init()
		_, err := e.NetworkCreate(t.Context(), req)
		if err != nil {
			known := errdefs.IsInvalidArgument(err) || errdefs.IsPermissionDenied(err) || errdefs.IsNotImplemented(err) || errdefs.IsConflict(err) || errdefs.IsResourceExhausted(err)
			if !known || err.Error() == "" {
				t.Errorf("%s: %v", body, err)
			}
			return
		}
		if spec.ValidName("network", n.Name) != nil || plan.CheckInterfaceName(n.Bridge) != nil || n.Driver != spec.DriverBridge {
			t.Errorf("%s: %+v", body, n)
		}
		for _, name := range append(n.Trusted, n.InterfacePrefix+"0") {
			if plan.CheckInterfaceName(name) != nil {
				t.Errorf("%s: interface %q", body, name)
			}
		}
		for i, s := range n.Subnets {
			if s.Prefix != s.Prefix.Masked() || s.Prefix.Bits() == 0 || s.Prefix.Addr().IsLoopback() || s.Prefix.Addr().IsMulticast() ||
				s.Gateway.IsValid() && !s.Prefix.Contains(s.Gateway) || s.Range.IsValid() && !s.Prefix.Overlaps(s.Range) {
				t.Errorf("%s: subnet %+v", body, s)
			}
			for _, aux := range s.Aux {
				if !s.Prefix.Contains(aux) {
					t.Errorf("%s: auxiliary %s of %s", body, aux, s.Prefix)
				}
			}
			for _, other := range n.Subnets[:i] {
				if other.Prefix.Overlaps(s.Prefix) {
					t.Errorf("%s: %s overlaps %s", body, s.Prefix, other.Prefix)
				}
			}
		}
	})
}
