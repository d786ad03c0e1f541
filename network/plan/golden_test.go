package plan

import (
	"flag"
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
	none, err := attach(s, 11, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, steps := range map[string][]Step{
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
