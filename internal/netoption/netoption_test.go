package netoption_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/engine"
	"github.com/fairlead/fairlead/internal/netoption"
	"github.com/fairlead/fairlead/network/plan"
)

// TestOptions: the list has what there is, and nothing else: each is known where the list
// says so, and all that the code has a name for are in it.
func TestOptions(t *testing.T) {
	t.Parallel()
	keys := make(map[string]bool)
	for _, o := range netoption.All() {
		if keys[o.Key] {
			t.Errorf("%s is there twice", o.Key)
		}
		keys[o.Key] = true
		for place, check := range map[netoption.Place]func(key, val string) error{
			netoption.Network: func(key, val string) error {
				return plan.CheckDefaultOptions(map[string]string{key: val})
			},
			netoption.Endpoint: engine.CheckEndpointOption,
		} {
			err := check(o.Key, "\x00")
			unknown := err != nil && strings.Contains(err.Error(), "there are")
			if unknown == (o.Places&place != 0) {
				t.Errorf("%s in place %d: %v", o.Key, place, err)
			}
			for _, val := range o.Values {
				if err := check(o.Key, val); err != nil && o.Places&place != 0 {
					t.Errorf("%s=%s: %v", o.Key, val, err)
				}
			}
		}
	}
	for _, key := range []string{
		plan.OptBridgeName, plan.OptMTU, plan.OptMasquerade, plan.OptHostBinding, plan.OptICC, plan.OptInhibitIPv4, plan.OptGateway4, plan.OptGateway6,
		plan.OptTrusted, plan.OptInterfacePrefix, plan.OptOutbound4, plan.OptOutbound6, plan.OptIPv4, plan.OptIPv6, plan.OptAntiSpoofing, plan.OptLimitFlows,
	} {
		if !keys[key] {
			t.Errorf("%s is not listed", key)
		}
	}
}

// TestUnknown: one that is mistyped is told what there is that is like it.
func TestUnknown(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"com.fairlead.network.antispoofing":           "com.fairlead.network.anti_spoofing",
		"com.docker.network.bridge.enable_ICC":        "com.docker.network.bridge.enable_icc",
		"com.docker.network.bridge.gateway_mode_ipv5": "com.docker.network.bridge.gateway_mode_ipv4, com.docker.network.bridge.gateway_mode_ipv6",
		"mtu":                         "com.docker.network.driver.mtu",
		"something.else.altogether":   "there are com.docker.network.bridge.name, com.docker.network.driver.mtu",
		strings.Repeat("x", 1<<20):    "there are com.docker.network.bridge.name, com.docker.network.driver.mtu",
		"com.docker.network.host_ip4": "com.docker.network.host_ipv4",
	} {
		if got := netoption.Unknown(key, netoption.Network); !strings.Contains(got, want) {
			t.Errorf("%.40s: %s; want %s", key, got, want)
		}
	}
	if slices.ContainsFunc(netoption.Of(netoption.Endpoint), func(o netoption.Option) bool { return o.Places&netoption.Endpoint == 0 }) {
		t.Error("options of networks are said to be endpoints'")
	}
}

// TestDocumented: the page has the table as it is.
func TestDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/OPTIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), netoption.Table()) {
		t.Errorf("docs/OPTIONS.md does not have the table:\n%s", netoption.Table())
	}
}
