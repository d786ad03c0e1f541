package e2e

import (
	"strings"
	"testing"
)

// shared starts a container with a port and one that shares its network.
func (s *site) shared(c client) {
	s.t.Helper()
	c.must("run", "-d", "--name", "first", "-p", "8080:80", "--network", "red", "--network-alias", "one", "demo", "httpd", "-f", "-p", "80", "-h", "/www")
	c.must("run", "-d", "--name", "second", "--network", "container:first", "demo", "httpd", "-f", "-p", "81", "-h", "/www")
	s.Must("run", "-d", "--name", "peer", "--network", "red", "demo", "sleep", "3600")
}

// sharing fails the test unless both are in the one network and served: the first by
// its published port, the second by a port of the same address.
func (s *site) sharing(when string) {
	s.t.Helper()
	if first, second := s.namespace("first"), s.namespace("second"); first != second {
		s.t.Errorf("%s: first is in %s, second in %s", when, first, second)
	}
	eventually(s.t, when+": outside gets first's page", func() bool {
		return s.outside.Try("busybox", "wget", "-q", "-O-", "http://"+host4+":8080/").Stdout == page
	})
	eventually(s.t, when+": first gets second's page on lo", func() bool {
		out, _, _ := s.CLI("exec", "first", "wget", "-q", "-O-", "http://127.0.0.1:81/")
		return out == page
	})
	contains(s.t, when+": ip addr of second", s.Must("exec", "second", "ip", "addr"), "10.30.0.2/24")
	s.consistent()
}

func (s *site) namespace(ref string) string {
	s.t.Helper()
	return s.Must("exec", ref, "readlink", "/proc/self/ns/net")
}

// TestSharedNetworkStays: who shares another container's network keeps it while that
// one stops, starts again, and is restarted, by whomever. In short one client restarts it
// and the other stops and starts it; make faults has both by both.
func TestSharedNetworkStays(t *testing.T) {
	forClients(t, func(t *testing.T, s *site, c client) {
		makeNetworks(c)
		s.shared(c)
		s.sharing("at first")
		n := map[string]int{"fairlead": 0, "docker": 1}[c.name]
		if chosen(n, 0) {
			s.sharedRestarts(c)
		}
		if chosen(n, 1) {
			s.sharedStops(c)
		}
	})
}

func (s *site) sharedRestarts(c client) {
	s.t.Helper()
	for range 3 {
		c.must("restart", "-t", "0", "first")
	}
	s.sharing("after restarts of first")
	c.must("restart", "-t", "0", "second")
	s.sharing("after a restart of second")
}

func (s *site) sharedStops(c client) {
	s.t.Helper()
	before := s.namespace("second")
	c.must("kill", "first")
	c.must("wait", "first")
	if got := s.namespace("second"); got != before {
		s.t.Errorf("second is in %s, was in %s", got, before)
	}
	s.Must("exec", "second", "ping", "-c1", "-W5", "peer")
	s.consistent()
	c.refused(s.t, "cannot join network of a non running container", "run", "--rm", "--network", "container:first", "demo", "true")
	// What is changed while it is stopped is there when it starts.
	c.must("network", "connect", "blue", "first")
	contains(s.t, "ip addr of second", s.Must("exec", "second", "ip", "addr"), "10.40.0.2/24")
	c.must("start", "first")
	s.sharing("after first was stopped")
	contains(s.t, "ip addr of first", s.Must("exec", "first", "ip", "addr"), "10.40.0.2/24")
	// The last to end takes it away.
	old := s.endpoints("first")["red"].EndpointID
	c.must("stop", "-t", "0", "first")
	c.must("rm", "-f", "second")
	s.consistent()
	c.must("start", "first")
	if now := s.endpoints("first")["red"].EndpointID; now == old || now == "" {
		s.t.Errorf("first has the old endpoint %q, in whose network nobody was", now)
	}
	s.consistent()
}

// TestSharedNetworkOutlivesTheDaemon: the same, while the daemon is killed and comes
// back in between.
func TestSharedNetworkOutlivesTheDaemon(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c := client{"fairlead", s.Must, nil}
	makeNetworks(c)
	s.shared(c)
	again := func() {
		t.Helper()
		s.Kill()
		s.Restart()
		s.consistent()
	}
	again()
	s.sharing("after the daemon was killed")
	s.Must("stop", "-t", "0", "first")
	again()
	s.Must("exec", "second", "ping", "-c1", "-W5", "peer")
	s.Must("start", "first")
	s.sharing("after the daemon was killed while first was stopped")
	// First ends while no daemon is there.
	pid := s.inspect("first").State.Pid
	s.Kill()
	s.shoot("first", []int{pid})
	s.Restart()
	s.Must("exec", "second", "ping", "-c1", "-W5", "peer")
	s.consistent()
	s.Must("start", "first")
	s.sharing("after first ended without a daemon")
	// Both end while no daemon is there.
	pids := map[string]int{"first": s.inspect("first").State.Pid, "second": s.inspect("second").State.Pid}
	s.Kill()
	for name, pid := range pids {
		s.shoot(name, []int{pid})
	}
	s.Restart()
	s.consistent()
	s.Must("start", "first")
	s.Must("start", "second")
	s.sharing("after both ended without a daemon")
}

// TestSharedNetworkOfTheRemoved: who shares the network of a container that is removed
// keeps it to its own end, and nobody finds the removed one by name.
func TestSharedNetworkOfTheRemoved(t *testing.T) {
	forClients(t, func(t *testing.T, s *site, c client) {
		makeNetworks(c)
		s.shared(c)
		c.must("run", "-d", "--name", "third", "--network", "container:second", "demo", "sleep", "3600")
		removed := s.inspect("first").ID
		c.must("rm", "-f", "first")
		s.Must("exec", "second", "ping", "-c1", "-W5", "peer")
		for _, name := range []string{"first", "one"} {
			if out, _, code := s.CLI("exec", "peer", "nslookup", name); code == 0 {
				t.Errorf("%s is removed and still answered: %s", name, out)
			}
		}
		s.Kill()
		s.Restart()
		s.consistent()
		s.Must("exec", "third", "ping", "-c1", "-W5", "peer")
		if out := s.Must("exec", "third", "wget", "-q", "-O-", "http://127.0.0.1:81/"); out+"\n" != page {
			t.Errorf("third gets %q of second on lo", out)
		}
		// Another of the name is another container.
		c.must("run", "-d", "--name", "first", "--network", "red", "demo", "sleep", "3600")
		if s.namespace("first") == s.namespace("second") {
			t.Error("a new container of the name took the old one's network")
		}
		c.must("rm", "-f", "second")
		s.Must("exec", "third", "ping", "-c1", "-W5", "peer")
		s.consistent()
		// An endpoint can be taken off what is left, with force.
		c.refused(t, "No such container", "network", "disconnect", "red", removed)
		c.must("network", "disconnect", "-f", "red", removed)
		if got := s.Must("exec", "third", "ip", "-o", "link"); strings.Contains(got, "eth0") {
			t.Errorf("interfaces of third: %s", got)
		}
		s.consistent()
		c.must("rm", "-f", "third")
		if got := c.must("network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{end}}", "red"); len(strings.Fields(got)) != 2 {
			t.Errorf("on the network are %q", got)
		}
		s.consistent()
	})
}
