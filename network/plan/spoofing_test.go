package plan

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/network/spec"
)

// TestAntiSpoofing: an endpoint is guarded as its network says, unless it says something
// else itself.
func TestAntiSpoofing(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	for _, c := range []struct {
		network  string
		endpoint *bool // what it says of spoofing, the contrary
		spoofing bool
	}{
		{"", nil, false},
		{"", &yes, true},
		{"true", nil, false},
		{"true", &yes, true},
		{"false", nil, true},
		{"false", &no, false},
	} {
		s := testState(t)
		req := spec.NetworkRequest{Name: "n"}
		if c.network != "" {
			req.Options = map[string]string{OptAntiSpoofing: c.network}
		}
		n, err := s.DecideNetwork(req, Surroundings{}, Birth{ID: hexID(7), Time: time.Unix(1, 0)})
		if err != nil {
			t.Fatal(err)
		}
		s.AddNetwork(n)
		a, err := s.DecideAttachment(spec.AttachRequest{ID: hexID(9), Name: "c", Endpoints: []spec.EndpointRequest{
			{Network: "n", Spoofing: c.endpoint},
		}}, ids(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Endpoints[0].Spoofing; got != c.spoofing {
			t.Errorf("network %q, endpoint %v: it may send as others: %v", c.network, c.endpoint, got)
		}
	}
	_, err := testState(t).DecideNetwork(spec.NetworkRequest{Name: "n", Options: map[string]string{OptAntiSpoofing: "perhaps"}},
		Surroundings{}, Birth{ID: hexID(7), Time: time.Unix(1, 0)})
	if !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), OptAntiSpoofing) {
		t.Errorf("neither true nor false: %v", err)
	}
}
