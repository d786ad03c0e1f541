package path

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/doctor"
)

// TestFlowsOf sees that a host whose connections cannot take the fast path is not measured as one
// on which they do.
func TestFlowsOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what string
		fast *doctor.FastPath
		want string
	}{
		{"taken", &doctor.FastPath{Links: 2, Connections: 3}, ""},
		{"none yet", &doctor.FastPath{Links: 2}, ""},
		{"not asked for", nil, "does not say how many connections"},
		{"not there", &doctor.FastPath{Lack: "the kernel is old"}, "the kernel is old"},
		{"overseen", &doctor.FastPath{Links: 2, ConnectionsLack: "nft chain x has rules on what is routed"}, "nft chain x"},
		{"another's program", &doctor.FastPath{Links: 2, SlowLinks: []string{"link uplink has another's program"}}, "link uplink"},
		{"a container is left out", &doctor.FastPath{Links: 1, Slow: []string{"link fl1 has a tap"}}, "link fl1"},
	} {
		flows, err := flowsOf(doctor.Examine(doctor.Host{Daemon: &doctor.Daemon{FastPath: tt.fast}}))
		if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.what, err, tt.want)
		}
		if err == nil && flows != tt.fast.Connections {
			t.Errorf("%s: %d connections, want %d", tt.what, flows, tt.fast.Connections)
		}
	}
}

// TestFastMisses sees that what new connections miss with the fast path is explained by that they
// do not take it, and that every goal of such a port is one with the fast path as well.
func TestFastMisses(t *testing.T) {
	t.Parallel()
	m := everything(fairlead)
	plain, fast := m.published(), m.publishedFast()
	if len(plain) != len(fast) {
		t.Fatalf("%d goals with the fast path, %d without", len(fast), len(plain))
	}
	for i, g := range fast {
		if want := strings.Replace(plain[i].What, "from outside", "from outside with `--fast-path`", 1); g.What != want || g.Want != plain[i].Want {
			t.Errorf("%s (%v), want %s (%v)", g.What, g.Want, want, plain[i].Want)
		}
		if g.Floor {
			continue
		}
		want := "by processor time it is 0.50: without `--fast-path` 1.00, published by one rule, with no engine, 0.50; "
		if strings.Contains(g.What, "new connections") {
			want = fmt.Sprintf("by processor time it is 0.50, without `--fast-path` 1.00: a connection takes the fast path once the container's port has seen %d frames", telling)
		}
		if g.Met() || !strings.HasPrefix(g.Why, want) {
			t.Errorf("%s: %v, %s; want a miss, %s", g.What, g.Measured, g.Why, want)
		}
	}
}
