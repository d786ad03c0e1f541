package plan

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/network/spec"
)

// shown is a plan as `fairlead plan` prints it, but for what it draws around it.
func shown(steps []spec.PlanStep) string {
	var b strings.Builder
	for _, s := range steps {
		there := ""
		if s.There {
			there = " (there)"
		}
		b.WriteString("[" + s.Kind + "]" + there + " " + s.Reason + "\n")
		for _, c := range s.Commands {
			b.WriteString("$ " + strings.ReplaceAll(c, "\n", "\n> ") + "\n")
		}
		for _, n := range s.Notes {
			b.WriteString("# " + n + "\n")
		}
	}
	return b.String()
}

// TestShow: what a user is shown of a network, an attachment and a connect: commands that
// a shell runs, and apart from them what no command does.
func TestShow(t *testing.T) {
	t.Parallel()
	s := testState(t)
	dual, err := s.Network("dual")
	if err != nil {
		t.Fatal(err)
	}
	a, err := attach(s, 10, []string{"bridge"}, spec.PortRequest{Proto: spec.TCP, Port: 80, HostPort: 8080})
	if err != nil {
		t.Fatal(err)
	}
	ch, err := s.DecideConnect(hexID(10), spec.EndpointRequest{Network: "dual"}, ids(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, steps := range map[string][]spec.PlanStep{
		"show-network": Show(testConfig.CreateNetwork(dual), true),
		"show-attach":  Show(testConfig.Attach(s.Member(a)), false),
		"show-connect": Show(testConfig.Connect(ch, s.Member(ch.Before), s.Member(ch.After)), false),
	} {
		for _, step := range steps {
			if step.Kind == "" || step.Reason == "" || step.Commands == nil || len(step.Commands)+len(step.Notes) == 0 {
				t.Errorf("%s: a step says nothing: %+v", name, step)
			}
			for _, c := range step.Commands {
				if strings.HasPrefix(c, "#") {
					t.Errorf("%s: %q is no command", name, c)
				}
			}
		}
		path := filepath.Join("testdata", name+".txt")
		if *update {
			if err := os.WriteFile(path, []byte(shown(steps)), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), shown(steps)); diff != "" {
			t.Errorf("%s (run with -update to accept):\n%s", name, diff)
		}
	}
}
