package plan

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/network/spec"
)

var update = flag.Bool("update", false, "write the golden files anew")

// printed is a plan as a person reads it.
func printed(steps []Step) string {
	var b strings.Builder
	for _, s := range steps {
		b.WriteString("# " + s.Reason() + "\n")
		for _, c := range s.Commands() {
			b.WriteString(c + "\n")
		}
	}
	return b.String()
}

func TestPlansReadAsTheCommandsThatDoTheSame(t *testing.T) {
	t.Parallel()
	s := testState(t)
	dual, err := s.Network("dual")
	if err != nil {
		t.Fatal(err)
	}
	a, err := attach(s, 10, []string{"bridge", "dual"},
		spec.PortRequest{Proto: spec.TCP, Port: 80, HostPort: 8080},
		spec.PortRequest{Proto: spec.UDP, Port: 53})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := attach(s, 12, []string{"bridge"},
		spec.PortRequest{Proto: spec.TCP, Port: 80, HostPort: 9080}, spec.PortRequest{Proto: spec.UDP, Port: 53}); err != nil {
		t.Fatal(err)
	}
	none, err := attach(s, 11, nil)
	if err != nil {
		t.Fatal(err)
	}
	ch, err := s.DecideConnect(hexID(12), spec.EndpointRequest{
		Network: "dual", GwPriority: 1, Sysctls: map[string]string{"net.ipv4.conf.IFNAME.arp_announce": "2"},
		LinkLocal: []netip.Addr{netip.MustParseAddr("169.254.7.7")},
	}, ids(), nil)
	if err != nil {
		t.Fatal(err)
	}
	before, after := s.Member(ch.Before), s.Member(ch.After)
	back := Change{Before: ch.After, After: ch.Before, Endpoint: ch.Endpoint}
	for name, steps := range map[string][]Step{
		"connect":        testConfig.Connect(ch, before, after),
		"disconnect":     testConfig.Disconnect(back, after, before),
		"network-create": testConfig.CreateNetwork(dual),
		"attach":         testConfig.Attach(s.Member(a)),
		"detach":         testConfig.Detach(s.Member(a)),
		"attach-none":    testConfig.Attach(s.Member(none)),
		"foreign-bridge": {testConfig.BridgeStep(spec.Network{ID: hexID(1), Bridge: "br0", Foreign: true})},
	} {
		path := filepath.Join("testdata", name+".txt")
		got := printed(steps)
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (run with -update to accept):\n%s", name, diff)
		}
	}
}
