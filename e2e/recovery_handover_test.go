package e2e

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/fairlead/fairlead/internal/crashpoint"
	"github.com/fairlead/fairlead/internal/lab"
)

// A helper of one build hands over to one of another. The old one passes these points …
var givingPoints = []string{"paused", "sent", "let-go"}

// … and the new one these.
var takingPoints = []string{"received", "adopted", "took-over"}

var handoverPoints = slices.Concat(givingPoints, takingPoints)

// TestCrashHandover: the relay and the streams process, the old one and the new one, are
// killed at every point of the hand-over from one to the other, and so is the daemon that
// waits for it. Ports answer, connections in the kernel go on, no line of a log is lost,
// and in the end one of each process is there, of the new build. In short each point is
// met by one of the two, by turns.
func TestCrashHandover(t *testing.T) {
	t.Parallel()
	c := newCrashing(t, nftables)
	other := lab.OtherBinary(t)
	builds := []string{"", other}
	c.Must("run", "-d", "--name", "log", "demo", "sh", "-c", counting("", 0))
	c.quiet = c.present()
	c.up("at first")
	whole := c.present()
	lines := 0
	turn := 0
	// next starts a daemon of the other build, whose helpers take over.
	next := func(env ...string) {
		turn++
		c.Binary = builds[turn%2]
		_ = c.TryStart(env...) // a helper that dies may take the start with it
	}
	settled := func(point string) {
		t.Helper()
		if !c.Running() {
			c.Start()
		}
		eventually(t, point+": one relay and one streams process", func() bool { return len(c.relays()) == 1 && len(c.streams()) == 1 })
		eventually(t, point+": all is as it should be", func() bool { stdout, _, code := c.CLI("debug", "check"); return code == 0 && stdout == "" })
		c.undisturbed(point)
		for _, addr := range []string{at(host4, victimPort), at(host6, victimPort)} {
			c.fetches(c.outside, addr)
		}
		c.fetches(c.host, at("::1", victimPort))
		if now := c.present(); now != whole {
			t.Fatalf("%s: the host is not as it was:\n%s", point, changes(whole, now))
		}
		lines = numbered(t, point+", the log", c.logged("log", lines+5))
	}
	// The points are all there are: the log of a hand-over has no others.
	c.Stop()
	next(crashpoint.LogEnv + "=" + c.log)
	c.Stop()
	next(crashpoint.LogEnv + "=" + c.log)
	settled("no crash")
	for _, helper := range []string{"relay", "streams"} {
		for _, points := range [][]string{givingPoints, takingPoints} {
			for _, step := range points {
				if !slices.Contains(c.passed(), helper+"."+step) {
					t.Errorf("the point %s.%s is passed no more", helper, step)
				}
			}
		}
	}
	for _, p := range c.passed() {
		helper, step, _ := strings.Cut(p, ".")
		if (helper == "relay" || helper == "streams") && !slices.Contains(handoverPoints, step) {
			t.Errorf("the point %s is in no list", p)
		}
	}
	for n, helper := range []string{"relay", "streams"} {
		find := map[string]func() []int{"relay": c.relays, "streams": c.streams}[helper]
		for i, step := range givingPoints {
			if !chosen(i, n) {
				continue
			}
			point := "the old " + helper + " at " + step
			// Started so that it will kill itself when it hands over.
			c.Stop()
			for _, pid := range find() {
				_ = lab.Signal(pid, syscall.SIGKILL)
				eventually(t, point+": it is gone", func() bool { return closed(pid) })
			}
			c.Start(crashpoint.HelperEnv + "=" + helper + "." + step)
			settled(point + ", armed")
			c.Stop()
			next()
			settled(point)
		}
		for i, step := range takingPoints {
			if !chosen(i, n+1) {
				continue
			}
			point := "the new " + helper + " at " + step
			c.Stop()
			next(crashpoint.HelperEnv + "=" + helper + "." + step)
			settled(point)
		}
	}
	c.Binary = ""
	c.Restart()
	c.down("the end")
}
