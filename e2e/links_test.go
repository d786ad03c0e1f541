package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// links are a container's as `inspect` shows them.
func (s *site) links(ref string) []string {
	s.t.Helper()
	return decode[[]struct{ HostConfig struct{ Links []string } }](s.t, s.Must("inspect", ref))[0].HostConfig.Links
}

// TestC2: a container that is linked to another on the default network reaches it by
// its alias, by a line in /etc/hosts, and finds its ports and environment in its own;
// the line follows the other's new address.
func TestC2(t *testing.T) {
	forClients(t, func(t *testing.T, s *site, c client) {
		b1 := c.must("run", "-d", "--name", "b1", "-e", "COLOUR=red", "-p", "8080:8080", "--expose", "9000-9002/udp", "demo", "httpd", "-f", "-p", "8080", "-h", "/www")
		c.must("run", "-d", "--name", "b2", "--link", "b1:alias", "demo", "sleep", "3600")
		s.Must("exec", "b2", "ping", "-c1", "-W5", "alias")
		if got := s.Must("exec", "b2", "wget", "-q", "-O-", "http://alias:8080/"); got+"\n" != page {
			t.Errorf("the page by the alias: %q", got)
		}
		contains(t, "/etc/hosts", s.Must("exec", "b2", "cat", "/etc/hosts"), "172.17.0.2\talias "+b1[:12]+" b1")
		env := "\n" + s.Must("exec", "b2", "env") + "\n"
		for _, line := range []string{
			"ALIAS_NAME=/b2/alias", "ALIAS_PORT=tcp://172.17.0.2:8080", "ALIAS_PORT_8080_TCP=tcp://172.17.0.2:8080",
			"ALIAS_PORT_8080_TCP_ADDR=172.17.0.2", "ALIAS_PORT_8080_TCP_PORT=8080", "ALIAS_PORT_8080_TCP_PROTO=tcp",
			"ALIAS_PORT_9000_UDP_START=udp://172.17.0.2:9000", "ALIAS_PORT_9000_UDP_END=udp://172.17.0.2:9002",
			"ALIAS_PORT_9001_UDP_PROTO=udp", "ALIAS_ENV_COLOUR=red",
		} {
			contains(t, "environment", env, "\n"+line+"\n")
		}
		if strings.Contains(env, "ALIAS_ENV_PATH") || strings.Contains(env, "ALIAS_ENV_HOME") {
			t.Errorf("the other's PATH or HOME is passed on:%s", env)
		}
		if got := s.links("b2"); !slices.Equal(got, []string{"/b1:/b2/alias"}) {
			t.Errorf("HostConfig.Links %v", got)
		}
		// The first comes back at another address.
		c.must("stop", "-t", "0", "b1")
		c.must("run", "-d", "--name", "squatter", "demo", "sleep", "3600")
		c.must("start", "b1")
		if got := s.inspect("b1").NetworkSettings.Networks["bridge"].IPAddress; got != "172.17.0.4" {
			t.Fatalf("b1 has %s: the test expects another address", got)
		}
		hosts := s.Must("exec", "b2", "cat", "/etc/hosts")
		contains(t, "/etc/hosts", hosts, "172.17.0.4\talias "+b1[:12]+" b1")
		if strings.Contains(hosts, "172.17.0.2\t") {
			t.Errorf("/etc/hosts has the old address still:\n%s", hosts)
		}
		s.Must("exec", "b2", "ping", "-c1", "-W5", "alias")
		s.consistent()
	})
}

// TestLinkLife: links are refused and removed as in Docker, and outlive the daemon.
func TestLinkLife(t *testing.T) {
	forClients(t, func(t *testing.T, s *site, c client) {
		c.refused(t, "could not get container for b1", "run", "--link", "b1", "demo", "true")
		s.idle("--name", "b1")
		s.idle("--name", "hosted", "--network", "host")
		for args, says := range map[string]string{
			"run --link hosted:h demo true":                    "conflicting options: host type networking can't be used with links",
			"run --network host --link b1:h demo true":         "conflicting options: host type networking can't be used with links",
			"run --network container:b1 --link b1:h demo true": "conflicting options: container type network can't be used with links",
			"create --link b1:a:b demo true":                   "bad format for links",
		} {
			c.refused(t, says, words(args)...)
		}
		c.must("create", "--name", "b2", "--link", "b1:one", "--link", "b1:two", "demo", "sleep", "3600")
		c.must("stop", "-t", "0", "b1")
		c.refused(t, "Cannot link to a non running container: /b1 AS /b2/", "start", "b2")
		c.must("start", "b1")
		c.must("start", "b2")
		// A link is a name, too.
		if got := c.must("inspect", "-f", "{{.Name}}", "b2/one"); got != "/b1" {
			t.Errorf("inspect of a link: %s", got)
		}
		contains(t, "ps --no-trunc", c.must("ps", "--no-trunc", "--filter", "name=b1"), "b1")
		s.Kill()
		s.Restart()
		c.must("rename", "b1", "first")
		if got := s.links("b2"); !slices.Equal(got, []string{"/first:/b2/one", "/first:/b2/two"}) {
			t.Errorf("links after the rename: %v", got)
		}
		contains(t, "/etc/hosts", s.Must("exec", "b2", "cat", "/etc/hosts"), "one "+s.inspect("first").ID[:12]+" first")
		c.must("rm", "--link", "/b2/one")
		if got := s.links("b2"); !slices.Equal(got, []string{"/first:/b2/two"}) {
			t.Errorf("links after one was removed: %v", got)
		}
		if hosts := s.Must("exec", "b2", "cat", "/etc/hosts"); strings.Contains(hosts, "\tone ") || !strings.Contains(hosts, "\ttwo ") {
			t.Errorf("/etc/hosts after a link was removed:\n%s", hosts)
		}
		c.refused(t, "b2", "rm", "--link", "b2/one")
		// What is linked to can be removed, and the link goes with it.
		c.must("rm", "-f", "first")
		if got := s.links("b2"); len(got) != 0 {
			t.Errorf("links to a container that is gone: %v", got)
		}
		c.must("restart", "-t", "0", "b2")
		s.consistent()
	})
}

// TestLinkPorts: with --icc=false a linked container reaches the other's exposed ports and no
// others, and no other container does.
func TestLinkPorts(t *testing.T) {
	forClients(t, func(t *testing.T, s *site, c client) {
		c.must("run", "-d", "--name", "web", "-p", "8080:80", "--expose", "53/udp", "demo", "sleep", "3600")
		c.must("run", "-d", "--name", "db", "--link", "web:web", "demo", "sleep", "3600")
		c.must("run", "-d", "--name", "other", "demo", "sleep", "3600")
		web := box{Host: s.Container(s.inspect("web").ID), s: s}
		db, other := s.Container(s.inspect("db").ID), s.Container(s.inspect("other").ID)
		for _, port := range []string{"80", "81"} {
			web.serve("tcp", "0.0.0.0:"+port)
		}
		for _, port := range []string{"53", "54"} {
			web.serve("udp", "0.0.0.0:"+port)
		}
		web.sees(db, "tcp", "172.17.0.2:80", "172.17.0.3")
		web.sees(db, "udp", "172.17.0.2:53", "172.17.0.3")
		open := from(db, "tcp", "172.17.0.2:80")
		barred(t,
			[2]lab.Probe{from(db, "tcp", "172.17.0.2:81"), open}, [2]lab.Probe{from(db, "udp", "172.17.0.2:54"), open},
			[2]lab.Probe{from(db, "icmp", "172.17.0.2"), open},
			[2]lab.Probe{from(other, "tcp", "172.17.0.2:80"), open}, [2]lab.Probe{from(other, "udp", "172.17.0.2:53"), open})
		// It is so after the other came back, and not once the link is gone.
		c.must("restart", "-t", "0", "web")
		web = box{Host: s.Container(s.inspect("web").ID), s: s}
		web.serve("tcp", "0.0.0.0:80")
		web.sees(db, "tcp", "172.17.0.2:80", "172.17.0.3")
		s.consistent()
		c.must("rm", "--link", "db/web")
		barred(t, [2]lab.Probe{from(db, "tcp", "172.17.0.2:80"), from(s.host, "tcp", "172.17.0.2:80")})
		s.consistent()
	}, "--icc=false")
}

// TestLinkOnOwnNetwork: on a network of its own a link is a name that only the linking
// container knows.
func TestLinkOnOwnNetwork(t *testing.T) {
	forClients(t, func(t *testing.T, s *site, c client) {
		makeNetworks(c)
		c.must("run", "-d", "--name", "web", "--network", "red", "demo", "sleep", "3600")
		c.must("run", "-d", "--name", "db", "--network", "red", "--link", "web:w", "demo", "sleep", "3600")
		c.must("run", "-d", "--name", "other", "--network", "red", "demo", "sleep", "3600")
		contains(t, "nslookup w", s.Must("exec", "db", "nslookup", "w"), "10.30.0.2")
		if out, _, code := s.CLI("exec", "other", "nslookup", "w"); code == 0 {
			t.Errorf("another's link is answered: %s", out)
		}
		if got := s.endpoints("db")["red"].Links; !slices.Equal(got, []string{"web:w"}) {
			t.Errorf("the endpoint's links: %v", got)
		}
		c.must("network", "connect", "--link", "web:b", "blue", "db")
		if out, _, code := s.CLI("exec", "db", "nslookup", "b"); code == 0 {
			t.Errorf("a link to one that is not on the network is answered: %s", out)
		}
		c.must("network", "connect", "blue", "web")
		contains(t, "nslookup b", s.Must("exec", "db", "nslookup", "b"), "10.40.0.3")
		s.consistent()
		// It may lead to one that is yet to come.
		c.must("run", "-d", "--name", "early", "--network", "red", "--link", "late:l", "demo", "sleep", "3600")
		if out, _, code := s.CLI("exec", "early", "nslookup", "l"); code == 0 {
			t.Errorf("a link to nobody yet is answered: %s", out)
		}
		c.must("run", "-d", "--name", "late", "--network", "red", "demo", "sleep", "3600")
		contains(t, "nslookup l", s.Must("exec", "early", "nslookup", "l"), s.endpoints("late")["red"].IPAddress)
		c.must("rm", "-f", "early", "late")
		// It leads to whoever has the name.
		c.must("rm", "-f", "web")
		if out, _, code := s.CLI("exec", "db", "nslookup", "w"); code == 0 {
			t.Errorf("a link to nobody is answered: %s", out)
		}
		c.must("run", "-d", "--name", "squatter", "--network", "red", "demo", "sleep", "3600")
		c.must("run", "-d", "--name", "web", "--network", "red", "demo", "sleep", "3600")
		contains(t, "nslookup w", s.Must("exec", "db", "nslookup", "w"), "10.30.0.5")
		c.must("network", "connect", "blue", "web")
		contains(t, "nslookup b", s.Must("exec", "db", "nslookup", "b"), "10.40.0.3")
		if env := s.Must("exec", "db", "env"); strings.Contains(env, "W_PORT") {
			t.Errorf("a link on an own network is in the environment:\n%s", env)
		}
		s.consistent()
	})
}
