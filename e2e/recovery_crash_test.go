package e2e

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/crashpoint"
)

// crashPoints are all the places where the daemon is killed, by operation. What a
// run passes and is not here fails the test, and so does what is here and is not
// passed.
var crashPoints = map[string][]string{
	"attach":         {"begin", "namespace", "firewall", "forgetflows", "veth", "interface", "resolver", "publish", "commit"},
	"detach":         {"begin", "withdraw", "dropnamespace", "firewall", "forgetflows", "commit"},
	"connect":        {"begin", "firewall", "forgetflows", "veth", "interface", "defaultroutes", "republish", "resolver", "commit"},
	"disconnect":     {"begin", "resolver", "defaultroutes", "republish", "droplink", "firewall", "forgetflows", "commit"},
	"network-create": {"begin", "firewall", "bridge", "stored", "commit"},
	"network-rm":     {"begin", "unstored", "bridge", "firewall", "commit"},
}

// engineAmid are the engine's points that an operation passes beside its own.
var engineAmid = map[string][]string{
	"attach":  {"engine-start-prepared", "engine-start-created"},
	"detach":  {"engine-exit", "engine-exit-recorded"},
	"restart": {"engine-exit", "engine-exit-recorded", "engine-start-prepared", "engine-start-created", "engine-start-started"},
}

// elsewhere are the points at which an operation is not killed in short, since another
// one is at the same step; make faults has all.
var elsewhere = map[string][]string{
	"attach":         {"attach.firewall", "attach.veth", "attach.resolver", "attach.commit", "engine-start-created"},
	"detach":         {"detach.begin", "detach.forgetflows", "engine-exit"},
	"connect":        {"connect.begin", "connect.forgetflows", "connect.interface", "connect.defaultroutes"},
	"disconnect":     {"disconnect.resolver", "disconnect.republish", "disconnect.firewall", "disconnect.commit"},
	"network-create": {"network-create.begin", "network-create.bridge"},
	"network-rm":     {"network-rm.firewall", "network-rm.commit"},
	"restart":        {"engine-exit-recorded", "engine-start-prepared"},
}

// pointsOf are all the points of an operation, the engine's first.
func pointsOf(op string) []string {
	points := slices.Clone(engineAmid[op])
	for _, step := range crashPoints[op] {
		points = append(points, op+"."+step)
	}
	return points
}

// killedAt are the points at which an operation is killed: all, in short but those elsewhere.
func killedAt(op string) []string {
	return slices.DeleteFunc(pointsOf(op), func(p string) bool { return !full() && slices.Contains(elsewhere[op], p) })
}

// TestCrashElsewhere: in short every step is still met in one of the operations that have it.
func TestCrashElsewhere(t *testing.T) {
	met := make(map[string]bool)
	for _, op := range slices.Concat(slices.Collect(maps.Keys(crashPoints)), []string{"restart"}) {
		points := pointsOf(op)
		for _, p := range points {
			step := strings.TrimPrefix(p, op+".")
			met[step] = met[step] || !slices.Contains(elsewhere[op], p)
		}
		for _, p := range elsewhere[op] {
			if !slices.Contains(points, p) {
				t.Errorf("%s has no point %s to leave out", op, p)
			}
		}
	}
	for step, is := range met {
		if !is {
			t.Errorf("in short nothing is killed at %s", step)
		}
	}
}

// recoverPoints are passed when an operation that was cut short is ended: a second
// crash, on the way back. The operation is cut short at the point named first.
var recoverPoints = map[string][]string{
	"attach.publish":        {"withdraw", "dropnamespace", "firewall", "forgetflows"},
	"detach.begin":          {"withdraw", "dropnamespace", "firewall", "forgetflows"},
	"connect.resolver":      {"resolver", "republish", "defaultroutes", "interface", "veth", "forgetflows", "firewall"},
	"disconnect.begin":      {"resolver", "defaultroutes", "republish", "droplink", "firewall", "forgetflows", "commit"},
	"network-create.bridge": {"bridge", "firewall"},
	"network-rm.unstored":   {"bridge", "firewall"},
}

// enginePoints are the engine's own, between the network and containerd.
var enginePoints = []string{
	"engine-create-made", "engine-start-prepared", "engine-start-created", "engine-start-started",
	"engine-exit", "engine-exit-recorded", "engine-remove-forgotten", "engine-remove",
}

// known says whether a point is in one of the lists.
func known(point string) bool {
	op, step, _ := strings.Cut(point, ".")
	if op == "recover" {
		return slices.ContainsFunc(slices.Collect(maps.Values(recoverPoints)), func(steps []string) bool { return slices.Contains(steps, step) })
	}
	lists := map[string][]string{"restore": restorePoints, "backend": backendPoints, "relay": handoverPoints, "streams": handoverPoints}
	return slices.Contains(crashPoints[op], step) || slices.Contains(lists[op], step) ||
		slices.Contains(enginePoints, point) || slices.Contains(changePoints, point)
}

// complete fails the test unless the points of op that were passed are those of
// the list, and the others are in a list, too.
func (c *crashing) complete(op string) {
	c.t.Helper()
	var own []string
	for _, p := range c.passed() {
		if !known(p) {
			c.t.Errorf("the point %s is in no list", p)
		}
		if name, step, _ := strings.Cut(p, "."); name == op && !slices.Contains(own, step) {
			own = append(own, step)
		}
	}
	if !slices.Equal(own, crashPoints[op]) {
		c.t.Errorf("%s passes %v, the list is %v", op, own, crashPoints[op])
	}
}

// TestCrashAttach: the daemon is killed at every point of an attachment. After a
// restart nothing is left of it, and address, ports and name can be used. In short each
// step is met once or more, in one of the operations that have it (elsewhere).
func TestCrashAttach(t *testing.T) { forFaultBackends(t, testCrashAttach) }

func testCrashAttach(t *testing.T, backend string) {
	c := newCrashing(t, backend)
	c.arm("")
	c.up("no crash")
	c.down("no crash")
	c.complete("attach")
	for _, point := range killedAt("attach") {
		c.arm(point)
		if _, stderr, code := c.CLI("start", "victim"); code == 0 {
			t.Errorf("%s: start succeeded: %s", point, stderr)
		}
		c.died(point)
		c.recovered(point)
		if state := c.inspect("victim").State; state.Running {
			t.Errorf("%s: %+v", point, state)
		}
		c.asQuiet(point)
		c.up(point)
		c.down(point)
	}
}

// TestCrashDetach: the daemon is killed at every point of the end of a container's
// network, in short at those of killedAt. After a restart it has ended, with its exit code.
func TestCrashDetach(t *testing.T) { forFaultBackends(t, testCrashDetach) }

func testCrashDetach(t *testing.T, backend string) {
	c := newCrashing(t, backend)
	c.arm("")
	c.up("no crash")
	c.down("no crash")
	c.complete("detach")
	for _, point := range killedAt("detach") {
		c.arm(point)
		c.up(point)
		_, _, _ = c.CLI("kill", "victim") // the daemon may die before it answers
		c.died(point)
		c.recovered(point)
		if state := c.inspect("victim").State; state.Status != "exited" || state.ExitCode != 137 {
			t.Errorf("%s: %+v", point, state)
		}
		c.asQuiet(point)
	}
	c.up("the end")
	c.down("the end")
}

// TestCrashNetwork: the daemon is killed at every point of making and of removing a
// network, in short at those of killedAt. After a restart it is there whole or not at all.
func TestCrashNetwork(t *testing.T) { forFaultBackends(t, testCrashNetwork) }

func testCrashNetwork(t *testing.T, backend string) {
	c := newCrashing(t, backend)
	create := []string{"network", "create", "--subnet", "10.123.0.0/24", "--subnet", "fd12:3456::/64", "--ipv6", "net"}
	exists := func() bool { return strings.Contains(c.Must("network", "ls"), " net ") }
	c.arm("")
	c.Must(create...)
	whole := c.present()
	c.Must("network", "rm", "net")
	c.complete("network-create")
	c.complete("network-rm")
	settled := func(point string) {
		t.Helper()
		if exists() {
			if now := c.present(); len(now) != len(whole) {
				t.Errorf("%s: the network is there, and not whole:\n%s", point, changes(whole, now))
			}
			c.Must("network", "rm", "net")
		}
		c.asQuiet(point)
	}
	settled("no crash")
	for _, point := range killedAt("network-create") {
		c.arm(point)
		if _, stderr, code := c.CLI(create...); code == 0 {
			t.Errorf("%s: it succeeded: %s", point, stderr)
		}
		c.died(point)
		c.recovered(point)
		if made := point == "network-create.stored" || point == "network-create.commit"; exists() != made {
			t.Errorf("%s: the network exists: %v", point, exists())
		}
		settled(point)
	}
	for _, point := range killedAt("network-rm") {
		c.arm(point)
		c.Must(create...)
		if _, stderr, code := c.CLI("network", "rm", "net"); code == 0 {
			t.Errorf("%s: it succeeded: %s", point, stderr)
		}
		c.died(point)
		c.recovered(point)
		if exists() && point != "network-rm.begin" {
			t.Errorf("%s: the network is there", point)
		}
		settled(point)
	}
}

// TestCrashRecovery: the daemon is killed once more while it ends what the first
// crash cut short. In short it is killed at each step of the way back once, in one of the
// operations that have it.
func TestCrashRecovery(t *testing.T) {
	t.Parallel()
	c := newCrashing(t, nftables)
	create := []string{"network", "create", "--subnet", "10.123.0.0/24", "net"}
	c.Must("network", "create", "--ipv6", "second")
	c.quiet = c.present()
	first := map[string]func(){
		"attach.publish": func() { _, _, _ = c.CLI("start", "victim") },
		"detach.begin":   func() { c.Must("start", "victim"); _, _, _ = c.CLI("kill", "victim") },
		"connect.resolver": func() {
			c.Must("start", "victim")
			_, _, _ = c.CLI("network", "connect", "--gw-priority", "1", "second", "victim")
		},
		"disconnect.begin": func() {
			c.Must("start", "victim")
			c.Must("network", "connect", "--gw-priority", "1", "second", "victim")
			_, _, _ = c.CLI("network", "disconnect", "second", "victim")
		},
		"network-create.bridge": func() { _, _, _ = c.CLI(create...) },
		"network-rm.unstored":   func() { c.Must(create...); _, _, _ = c.CLI("network", "rm", "net") },
	}
	met := map[string]bool{}
	for _, point := range slices.Sorted(maps.Keys(recoverPoints)) {
		for i, step := range recoverPoints[point] {
			second := fmt.Sprintf("%s, then recover.%s", point, step)
			if i == 0 { // the restart passes these and no others
				c.arm(point)
				first[point]()
				c.died(second)
				c.Start(crashpoint.LogEnv + "=" + c.log)
				var got []string
				for _, p := range c.passed() {
					if step, ok := strings.CutPrefix(p, "recover."); ok {
						got = append(got, step)
					}
				}
				if !slices.Equal(got, recoverPoints[point]) {
					t.Errorf("%s: the way back passes %v, the list is %v", point, got, recoverPoints[point])
				}
				_ = os.Remove(c.log)
				c.halt()
				c.asQuiet(second)
			}
			if met[step] && !full() {
				continue
			}
			met[step] = true
			c.arm(point)
			first[point]()
			c.died(second)
			if err := c.TryStart(crashpoint.Env + "=recover." + step); err == nil {
				t.Errorf("%s: the daemon lives", second)
			}
			c.died(second)
			c.recovered(second)
			c.halt()
			c.asQuiet(second)
		}
	}
	c.up("the end")
	c.down("the end")
}

// TestCrashEngine: the daemon is killed at the points around the network's, where
// containers come to be and cease to be.
func TestCrashEngine(t *testing.T) {
	t.Parallel()
	c := newCrashing(t, nftables)
	c.arm("")
	c.Must("run", "--name", "short", "-p", "9000:80", "demo", "true")
	c.Must("rm", "short")
	c.Must("run", "--rm", "demo", "true")
	for _, p := range enginePoints {
		if !slices.Contains(c.passed(), p) {
			t.Errorf("the point %s is passed no more", p)
		}
	}
	c.asQuiet("no crash")
	exists := func() bool { return strings.Contains(c.Must("ps", "-a"), "short") }
	long := []string{"run", "-d", "--name", "short", "-p", "9000:80", "demo", "sleep", "3600"}
	for _, step := range []struct {
		point    string
		do       []string
		setup    []string
		survives bool
	}{
		{point: "engine-create-made", do: long},
		{point: "engine-start-started", do: long, survives: true},
		{point: "engine-remove", do: []string{"rm", "-f", "short"}, setup: long},
		{point: "engine-remove-forgotten", do: []string{"rm", "-f", "short"}, setup: long},
	} {
		c.arm(step.point)
		if step.setup != nil {
			c.Must(step.setup...)
		}
		_, _, _ = c.CLI(step.do...)
		c.died(step.point)
		c.recovered(step.point)
		if exists() != step.survives {
			t.Errorf("%s: the container is there: %v", step.point, exists())
		}
		if exists() {
			if !c.inspect("short").State.Running {
				t.Errorf("%s: the container does not run", step.point)
			}
			c.Must("rm", "-f", "short")
		}
		c.asQuiet(step.point)
		c.Must(long...)
		c.Must("rm", "-f", "short")
	}
	// One that removes itself, of which only the network is left.
	c.arm("engine-exit")
	_, _, _ = c.CLI("run", "-d", "--rm", "--name", "short", "-p", "9000:80", "demo", "true")
	c.died("engine-exit of --rm")
	c.recovered("engine-exit of --rm")
	eventually(t, "the container removes itself", func() bool { return !exists() })
	c.asQuiet("engine-exit of --rm")
}
