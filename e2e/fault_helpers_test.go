package e2e

import (
	"fmt"
	"hash/fnv"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/crashpoint"
	"github.com/fairlead/fairlead/internal/lab"
)

// oneLine fails the test if what a failed command said is not one line that says what
// failed and why.
func (c *crashing) oneLine(what, stderr string) {
	c.t.Helper()
	said := strings.TrimSpace(stderr)
	if strings.Contains(said, "\n") || !strings.Contains(said, ": ") {
		c.t.Errorf("%s: not one clear line:\n%s", what, stderr)
	}
}

// mended waits until all is as it should be: helpers are started again on their own.
func (c *crashing) mended(what string) {
	c.t.Helper()
	if !c.Running() {
		c.t.Fatalf("%s: the daemon has ended\n%s", what, c.LogTail(20))
	}
	said := ""
	eventually(c.t, what+": all is as it should be", func() bool {
		stdout, stderr, code := c.CLI("debug", "check")
		said = stdout + stderr
		return code == 0 && stdout == ""
	})
	if c.t.Failed() {
		c.t.Fatalf("%s\n%s", said, c.LogTail(20))
	}
}

// byChance says whether a thing is one of every n, the same in every run.
func byChance(n uint32, thing string) bool {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(thing))
	return sum.Sum32()%n == 0
}

// TestFaultHelpers: the relay, the streams process or containerd is killed at every point of
// a start, an end, a connect and a disconnect of a container. The operation succeeds all
// the same, or fails with one line; what is to run does, what is not leaves nothing, and
// the operation works the next time. A bystander's connections are not touched.
func TestFaultHelpers(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Containerd: lab.OwnContainerd})
	s.importImage("demo")
	c := s.crashing()
	c.Must("network", "create", "--ipv6", "second")
	c.quiet = c.present()
	running := func() bool { return c.inspect("victim").State.Running }
	up := func(what string) {
		t.Helper()
		c.Must("start", "victim")
		c.mended(what)
		if !running() {
			t.Fatalf("%s: the victim does not run", what)
		}
		c.fetches(c.outside, at(host4, victimPort))
		c.fetches(c.host, at("::1", victimPort))
	}
	down := func(what string) {
		t.Helper()
		c.Must("kill", "victim")
		c.Must("wait", "victim")
		eventually(t, what+": nothing is left", func() bool { return c.present() == c.quiet })
		if t.Failed() {
			t.Fatalf("%s\n%s", changes(c.quiet, c.present()), c.LogTail(20))
		}
	}
	connect := []string{"network", "connect", "--gw-priority", "1", "second", "victim"}
	disconnect := []string{"network", "disconnect", "second", "victim"}
	operations := []struct {
		op            string
		points        []string
		before, after func(what string, succeeded bool)
		do            []string
	}{
		{
			op: "attach", points: []string{"engine-start-prepared", "engine-start-created", "engine-start-started"}, do: []string{"start", "victim"},
			after: func(what string, succeeded bool) {
				if !running() {
					if succeeded {
						t.Errorf("%s: it was started, and does not run", what)
					}
					up(what)
				}
				down(what)
			},
		},
		{
			op: "detach", points: []string{"engine-exit", "engine-exit-recorded"}, do: []string{"kill", "victim"},
			before: func(what string, _ bool) { up(what) },
			after: func(what string, _ bool) {
				if running() {
					c.CLI("kill", "victim") // it may end just now
				}
				eventually(t, what+": it has ended", func() bool { return !running() })
				up(what)
				down(what)
			},
		},
		{
			op: "connect", do: connect,
			before: func(what string, _ bool) { up(what) },
			after: func(what string, succeeded bool) {
				if !succeeded {
					c.Must(connect...)
				}
				c.fetches(c.outside, at(host4, victimPort))
				c.Must(disconnect...)
				c.mended(what)
				down(what)
			},
		},
		{
			op: "disconnect", do: disconnect,
			before: func(what string, _ bool) { up(what); c.Must(connect...) },
			after: func(what string, succeeded bool) {
				// What failed may have been ended since; the container is to be on it until
				// somebody says so again.
				_, wanted := c.inspect("victim").NetworkSettings.Networks["second"]
				if wanted || strings.Contains(c.Must("network", "inspect", "second"), "victim") {
					if succeeded {
						t.Errorf("%s: it was taken off, and is on it", what)
					}
					c.Must(disconnect...)
				}
				c.fetches(c.outside, at(host4, victimPort))
				down(what)
			},
		},
	}
	tried := 0
	for _, o := range operations {
		points := o.points
		for _, step := range crashPoints[o.op] {
			points = append(points, o.op+"."+step)
		}
		for _, point := range points {
			for helper, find := range map[string]func() []int{"relay": c.relays, "streams": c.streams, "containerd": c.containerd} {
				what := fmt.Sprintf("%s killed at %s", helper, point)
				if !full() && !byChance(10, what) {
					continue
				}
				tried++
				eventually(t, what+": there is one to kill", func() bool { return len(find()) == 1 })
				pid := find()[0]
				c.Stop()
				c.Start(fmt.Sprintf("%s=%s:%d", crashpoint.Env, point, pid))
				if o.before != nil {
					o.before(what, true)
				}
				_, stderr, code := c.CLI(o.do...)
				if code != 0 {
					c.oneLine(what, stderr)
				}
				eventually(t, what+": it was killed", func() bool { return closed(pid) || lab.Signal(pid, 0) != nil })
				c.mended(what)
				c.undisturbed(what)
				o.after(what, code == 0)
				if t.Failed() {
					t.Fatalf("%s: exit status %d: %s\n%s", what, code, stderr, c.LogTail(30))
				}
			}
		}
	}
	t.Logf("%d kills", tried)
}
