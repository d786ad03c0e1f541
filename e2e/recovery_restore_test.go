package e2e

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/crashpoint"
)

// restorePoints are passed by every start.
var restorePoints = []string{"loaded", "policy", "bridges", "links", "ports", "resolvers"}

// backendPoints are passed by a start with another firewall back end.
var backendPoints = []string{"replaced", "removed", "noted"}

// killedStarting kills the daemon at the point of its start, as often as there are points
// to come, and then has it start.
func (c *crashing) killedStarting(point string) {
	c.t.Helper()
	if err := c.TryStart(crashpoint.Env + "=" + point); err == nil {
		c.t.Fatalf("%s: the daemon lives", point)
	}
	c.died(point)
	c.Start()
	c.consistent()
}

// TestCrashRestore: the daemon is killed at every point of a start that has much to mend:
// what it had was taken away while it was dead. The next start mends it all; containers
// run, and the connection through what nobody touched goes on.
func TestCrashRestore(t *testing.T) {
	t.Parallel()
	c := newCrashing(t, nftables)
	c.arm("")
	c.up("at first")
	whole := c.present()
	dual := strings.TrimSpace(c.Must("network", "inspect", "--format", `{{.Id}}`, "dual"))
	veth := ""
	for line := range strings.Lines(c.host.Run("ip", "-br", "link", "show", "master", "br-"+dual[:12])) {
		veth, _, _ = strings.Cut(strings.Fields(line)[0], "@")
	}
	var passed []string
	for _, p := range c.passed() {
		if step, ok := strings.CutPrefix(p, "restore."); ok {
			passed = append(passed, step)
		}
	}
	if !slices.Equal(passed, restorePoints) {
		t.Errorf("a start passes %v, the list is %v", passed, restorePoints)
	}
	for _, step := range restorePoints {
		c.Kill()
		// Its rules, a link, an address, and the ports of the victim with their holder.
		c.host.Run("nft", "flush", "ruleset")
		c.host.Run("ip", "link", "set", veth, "nomaster")
		c.host.Run("ip", "addr", "flush", "dev", "br-"+dual[:12])
		c.host.Run("sysctl", "-qw", "net.ipv4.ip_forward=0")
		c.shoot("relay", c.relays())
		c.killedStarting("restore." + step)
		c.undisturbed("restore." + step)
		for _, addr := range []string{at(host4, victimPort), at(host6, victimPort)} {
			c.fetches(c.outside, addr)
		}
		c.fetches(c.host, at("::1", victimPort))
		if now := c.present(); now != whole {
			t.Fatalf("restore.%s: the host is not as it was:\n%s", step, changes(whole, now))
		}
	}
	c.down("the end")
}

// TestCrashBackend: the daemon is killed at every point of the change of its firewall back
// end, with containers running. The next start, with the new one or with the old one, has
// the rules of that one alone, and ports answer. In short each change is met once, at one
// of the points, and each point by two changes.
func TestCrashBackend(t *testing.T) {
	t.Parallel()
	c := newCrashing(t, nftables)
	c.arm("")
	c.up("at first")
	whole := map[string]string{nftables: c.present()}
	c.Stop()
	for _, backend := range []string{iptables, "none"} {
		c.choose(backend)
		c.Start(crashpoint.LogEnv + "=" + c.log)
		c.consistent()
		whole[backend] = c.present()
		c.Stop()
	}
	seen := map[string]bool{}
	for _, p := range c.passed() {
		if step, ok := strings.CutPrefix(p, "backend."); ok {
			seen[step] = true
		}
	}
	if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, slices.Sorted(slices.Values(backendPoints))) {
		t.Errorf("a change of the back end passes %v, the list is %v", got, backendPoints)
	}
	was := "none"
	for n, to := range []string{nftables, iptables, "none", iptables, nftables, "none", nftables} {
		for i, step := range backendPoints {
			if !full() && (n == 0 || i != n%3) {
				continue // the first change is the last as well
			}
			point := was + " to " + to + ", backend." + step
			c.choose(to)
			if err := c.TryStart(crashpoint.Env + "=backend." + step); err == nil {
				t.Fatalf("%s: the daemon lives", point)
			}
			c.died(point)
			back := was // one that goes back, and one that goes on
			if i%2 == 1 {
				back = to
			}
			c.choose(back)
			c.Start()
			c.consistent()
			c.asOn(point, back, whole[back])
			c.Stop()
			c.choose(was)
			c.Start()
			c.consistent()
			c.asOn(point+", and back", was, whole[was])
			c.Stop()
		}
		c.choose(to)
		c.Start()
		c.consistent()
		c.asOn(was+" to "+to, to, whole[to])
		c.Stop()
		was = to
	}
	c.choose(nftables)
	c.Start()
	c.down("the end")
}

// choose has the next start use a back end, or none.
func (c *crashing) choose(backend string) {
	if backend == "none" {
		c.SetFirewall("")
		c.SetArgs("--iptables=false")
		return
	}
	c.SetFirewall(backend)
	c.SetArgs()
}

// asOn fails the test unless the host is as it is with the back end, and ports answer.
func (c *crashing) asOn(point, backend, want string) {
	c.t.Helper()
	if now := c.present(); now != want {
		c.t.Fatalf("%s: the host is not as it is with %s:\n%s", point, backend, changes(want, now))
	}
	if strings.Contains(point, "none") {
		// Without a rule nothing is translated, connections that were included.
		_ = c.conn.Close()
		c.dial()
	}
	c.undisturbed(point)
	c.fetches(c.host, at("127.0.0.1", victimPort))
	c.fetches(c.outside, at(host4, victimPort))
}
