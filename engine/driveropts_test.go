package engine

import (
	"strings"
	"testing"

	"github.com/fairlead/fairlead/network/spec"
)

// TestAntiSpoofingOfAnEndpoint: true and false are told apart from nothing said, and
// what is neither is refused.
func TestAntiSpoofingOfAnEndpoint(t *testing.T) {
	t.Parallel()
	for val, spoofing := range map[string]bool{"true": false, "false": true} {
		var req spec.EndpointRequest
		if err := driverOptions(&req, map[string]string{optAntiSpoofing: val}); err != nil || req.Spoofing == nil || *req.Spoofing != spoofing {
			t.Errorf("%s: %v, %v", val, req.Spoofing, err)
		}
	}
	var req spec.EndpointRequest
	if err := driverOptions(&req, nil); err != nil || req.Spoofing != nil {
		t.Errorf("nothing said: %v, %v", req.Spoofing, err)
	}
	for _, val := range []string{"", "perhaps", "no"} {
		if err := driverOptions(&req, map[string]string{optAntiSpoofing: val}); err == nil || !strings.Contains(err.Error(), optAntiSpoofing) {
			t.Errorf("%q: %v", val, err)
		}
	}
}
