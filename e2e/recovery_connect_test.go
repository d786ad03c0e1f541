package e2e

import (
	"strings"
	"testing"
)

// connecting is a crashing site whose victim runs and is connected to, and taken off,
// a second network.
type connecting struct {
	*crashing
	// apart is the host without the second network's endpoint.
	apart string
}

func newConnecting(t *testing.T) *connecting {
	t.Helper()
	c := &connecting{crashing: newCrashing(t, nftables)}
	c.Must("network", "create", "--ipv6", "second")
	c.quiet = c.present()
	c.up("at first")
	c.apart = c.present()
	return c
}

func (c *connecting) connect() (stderr string, code int) {
	_, stderr, code = c.CLI("network", "connect", "--gw-priority", "1", "second", "victim")
	return stderr, code
}

func (c *connecting) disconnect() (stderr string, code int) {
	_, stderr, code = c.CLI("network", "disconnect", "second", "victim")
	return stderr, code
}

// on says whether the victim is on the second network.
func (c *connecting) on() bool {
	return strings.Contains(c.Must("network", "inspect", "second"), "victim")
}

// answers fails the test unless the victim's published port is served from everywhere.
func (c *connecting) answers() {
	c.t.Helper()
	for _, addr := range []string{at(host4, victimPort), at(host6, victimPort)} {
		c.fetches(c.outside, addr)
	}
	for _, addr := range []string{at(host4, victimPort), at("127.0.0.1", victimPort), at("::1", victimPort)} {
		c.fetches(c.host, addr)
	}
}

// like fails the test unless the host is as it was, but for names made by chance.
func (c *connecting) like(point, want string) {
	c.t.Helper()
	if now := c.present(); len(strings.Split(now, "\n")) != len(strings.Split(want, "\n")) {
		c.t.Errorf("%s: the host is not as it was:\n%s", point, changes(want, now))
	}
	if c.t.Failed() {
		c.t.FailNow()
	}
}

// halt ends the victim, if it runs.
func (c *crashing) halt() {
	c.t.Helper()
	if c.inspect("victim").State.Running {
		c.Must("kill", "victim")
		c.Must("wait", "victim")
	}
}

// TestCrashConnect: the daemon is killed at every point of a connect and of a
// disconnect of a container that runs, in short at those of killedAt. After a restart the former has not happened and
// the latter has; published ports are served all the while.
func TestCrashConnect(t *testing.T) {
	t.Parallel()
	c := newConnecting(t)
	c.arm("")
	if stderr, code := c.connect(); code != 0 {
		t.Fatal(stderr)
	}
	c.answers()
	if stderr, code := c.disconnect(); code != 0 {
		t.Fatal(stderr)
	}
	c.answers()
	c.like("no crash", c.apart)
	c.complete("connect")
	c.complete("disconnect")
	for _, point := range killedAt("connect") {
		c.arm(point)
		if stderr, code := c.connect(); code == 0 {
			t.Errorf("%s: it succeeded: %s", point, stderr)
		}
		c.died(point)
		c.recovered(point)
		c.answers()
		// Also where the network had done it: the container's record says what is wanted.
		if c.on() {
			t.Errorf("%s: it is on the network", point)
		}
		c.like(point, c.apart)
	}
	for _, point := range killedAt("disconnect") {
		c.arm(point)
		if stderr, code := c.connect(); code != 0 {
			t.Fatalf("%s: %s", point, stderr)
		}
		_, _ = c.disconnect() // the daemon may die before it answers
		c.died(point)
		c.recovered(point)
		c.answers()
		if c.on() {
			t.Errorf("%s: it is on the network", point)
		}
		c.like(point, c.apart)
	}
	c.down("the end")
}
