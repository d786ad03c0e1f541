package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// client is one of the two command lines, which mean the same.
type client struct {
	name string
	must func(args ...string) string
	try  func(args ...string) lab.Result
}

// forClients runs a test with `fairlead` and with Docker's own client, each on a site
// of its own.
func forClients(t *testing.T, test func(t *testing.T, s *site, c client), daemonArgs ...string) {
	t.Helper()
	t.Parallel()
	t.Run("fairlead", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, daemonArgs...)
		test(t, s, client{"fairlead", s.Must, func(args ...string) lab.Result {
			out, errs, code := s.CLI(args...)
			return lab.Result{Stdout: out, Stderr: errs, Code: code}
		}})
	})
	t.Run("docker", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, daemonArgs...)
		test(t, s, client{"docker", s.mustDocker, func(args ...string) lab.Result { return s.docker(nil, args...) }})
	})
}

// refused fails the test unless the command fails and says why.
func (c client) refused(t *testing.T, says string, args ...string) {
	t.Helper()
	r := c.try(args...)
	if r.Code == 0 || !strings.Contains(r.Stderr, says) {
		t.Errorf("%s %s: exit code %d, %s; want %q", c.name, strings.Join(args, " "), r.Code, r.Stderr, says)
	}
}

// endpoint is what the tests read of one network in `inspect`.
type endpoint struct {
	NetworkID, EndpointID, Gateway, IPAddress, MacAddress, GlobalIPv6Address, IPv6Gateway string
	IPPrefixLen, GwPriority                                                               int
	Aliases, DNSNames, Links                                                              []string
	DriverOpts                                                                            map[string]string
	IPAMConfig                                                                            struct{ LinkLocalIPs []string }
}

func (s *site) endpoints(ref string) map[string]endpoint {
	s.t.Helper()
	type inspected struct {
		NetworkSettings struct{ Networks map[string]endpoint }
	}
	return decode[[]inspected](s.t, s.Must("inspect", ref))[0].NetworkSettings.Networks
}

// makeNetworks makes red and blue, with both families.
func makeNetworks(c client) {
	c.must("network", "create", "--ipv6", "--subnet", "10.30.0.0/24", "--subnet", "fd00:30::/64", "red")
	c.must("network", "create", "--ipv6", "--subnet", "10.40.0.0/24", "--subnet", "fd00:40::/64", "blue")
}

// TestConnect: a running container is put on a further network and taken off it;
// interface, address, names, /etc/hosts and default route follow at once, and
// published ports stay.
func TestConnect(t *testing.T) {
	forClients(t, func(t *testing.T, s *site, c client) {
		makeNetworks(c)
		web := s.idle("--name", "web", "-p", "8080:80", "--network", "red")
		peer := s.idle("--name", "peer", "--network", "blue")
		web.serve("tcp", "0.0.0.0:80")
		web.serve("tcp", "[::]:80")
		barred(t, [2]lab.Probe{from(peer.Host, "tcp", "10.30.0.2:80"), from(s.host, "tcp", "10.30.0.2:80")})
		c.must("network", "connect", "--alias", "www", "--ip", "10.40.0.77", "--ip6", "fd00:40::77", "blue", "web")
		if got := interfaces(t, web.Host)["eth1"].addrs(); got != "10.40.0.77/24 fd00:40::77/64" {
			t.Errorf("eth1 has %q", got)
		}
		web.sees(peer.Host, "tcp", "10.40.0.77:80", peer.addr4)
		web.sees(peer.Host, "tcp", "[fd00:40::77]:80", peer.addr6)
		for _, name := range []string{"web", "www", web.id[:12]} {
			contains(t, "nslookup "+name, s.Must("exec", "peer", "nslookup", name), "10.40.0.77")
		}
		contains(t, "/etc/hosts", s.Must("exec", "web", "cat", "/etc/hosts"), "10.30.0.2\t"+web.id[:12], "10.40.0.77\t"+web.id[:12], "fd00:40::77\t"+web.id[:12])
		e := s.endpoints("web")["blue"]
		if e.IPAddress != "10.40.0.77" || e.GlobalIPv6Address != "fd00:40::77" || !slices.Equal(e.Aliases, []string{"www"}) ||
			!slices.Equal(e.DNSNames, []string{"web", "www", web.id[:12]}) || e.EndpointID == "" || e.MacAddress == "" {
			t.Errorf("inspect shows %+v", e)
		}
		web.sees(s.outside, "tcp", at(host4, "8080"), outside4)
		c.refused(t, "endpoint with name web already exists in network blue", "network", "connect", "blue", "web")
		s.consistent()
		c.must("network", "disconnect", "red", "web")
		if all := interfaces(t, web.Host); len(all) != 2 || all["eth1"].Name == "" {
			t.Errorf("interfaces after the disconnect: %+v", all)
		}
		contains(t, "routes", web.Run("ip", "route"), "default via 10.40.0.1")
		contains(t, "routes", web.Run("ip", "-6", "route"), "default via fd00:40::1")
		if hosts := s.Must("exec", "web", "cat", "/etc/hosts"); strings.Contains(hosts, "10.30.0.2") || !strings.Contains(hosts, "10.40.0.77") {
			t.Errorf("/etc/hosts after the disconnect:\n%s", hosts)
		}
		web.sees(s.outside, "tcp", at(host4, "8080"), outside4)
		web.sees(s.outside, "tcp", at(host6, "8080"), outside6)
		c.refused(t, "is not connected to network red", "network", "disconnect", "red", "web")
		// It stays so through a restart of the container, and of the daemon.
		c.must("restart", "-t", "0", "web")
		if all := s.endpoints("web"); len(all) != 1 || all["blue"].IPAddress != "10.40.0.77" {
			t.Errorf("networks after a restart: %+v", all)
		}
		s.consistent()
	})
}

// TestConnectStopped: what is connected while it does not run is on its networks when
// it starts, also after the daemon was killed.
func TestConnectStopped(t *testing.T) {
	forClients(t, func(t *testing.T, s *site, c client) {
		makeNetworks(c)
		c.must("create", "--name", "web", "--network", "red", "demo", "sleep", "3600")
		c.must("network", "connect", "--gw-priority", "7", "--link-local-ip", "169.254.9.9", "blue", "web")
		s.Kill()
		s.Restart()
		c.must("start", "web")
		web := s.Container(s.inspect("web").ID)
		all := interfaces(t, web)
		if all["eth0"].addrs() != "10.30.0.2/24 fd00:30::2/64" || !strings.Contains(web.Run("ip", "addr", "show", "eth1"), "169.254.9.9") {
			t.Errorf("interfaces: %+v", all)
		}
		contains(t, "routes", web.Run("ip", "route"), "default via 10.40.0.1 dev eth1")
		c.must("stop", "-t", "0", "web")
		c.must("network", "disconnect", "red", "web")
		c.must("network", "disconnect", "blue", "web")
		c.refused(t, "is not connected to network blue", "network", "disconnect", "blue", "web")
		if got := s.endpoints("web"); len(got) != 0 {
			t.Errorf("networks of a container that is on none: %v", got)
		}
		// One that is on none starts on the network of its mode.
		c.must("start", "web")
		if got := s.endpoints("web"); len(got) != 1 || got["red"].IPAddress != "10.30.0.2" {
			t.Errorf("networks: %v", got)
		}
		s.consistent()
	})
}

// TestConnectRefused: what cannot be is refused in Docker's words, and changes nothing.
func TestConnectRefused(t *testing.T) {
	forClients(t, func(t *testing.T, s *site, c client) {
		makeNetworks(c)
		s.idle("--name", "web", "--network", "red")
		s.idle("--name", "hosted", "--network", "host")
		s.idle("--name", "shared", "--network", "container:web")
		s.idle("--name", "alone", "--network", "none")
		before := s.Must("inspect", "web", "hosted", "shared", "alone")
		shared := "container sharing network namespace with another container or host cannot be connected to any other network"
		for args, says := range map[string]string{
			"connect blue shared": shared, "connect blue hosted": shared,
			"connect host web":                      "container cannot be disconnected from host network or connected to host network",
			"disconnect host hosted":                "container cannot be disconnected from host network or connected to host network",
			"connect blue alone":                    "cannot be connected to multiple networks with one of the networks in private (none) mode",
			"connect none web":                      "cannot be connected to multiple networks with one of the networks in private (none) mode",
			"connect --ip 172.17.0.9 bridge web":    "user specified IP address is supported on user defined networks only",
			"connect --alias w bridge web":          "network-scoped alias is supported only for containers in user defined networks",
			"connect --ip 10.50.0.9 blue web":       "no configured subnet contains IP address 10.50.0.9",
			"connect --ip 10.40.0.1 blue web":       "10.40.0.1",
			"connect --link a:b:c blue web":         "bad format for links: a:b:c",
			"connect --driver-opt speed=1 blue web": `unknown driver option "speed"`,
			"connect nosuch web":                    "network nosuch not found",
			"connect blue nosuch":                   "No such container: nosuch",
			"disconnect blue web":                   "is not connected to network blue",
			"disconnect -f blue nosuch":             "endpoint nosuch not found",
		} {
			c.refused(t, says, append([]string{"network"}, words(args)...)...)
		}
		if after := s.Must("inspect", "web", "hosted", "shared", "alone"); after != before {
			t.Errorf("refusals changed something:\n%s\n%s", before, after)
		}
		// None is left for another network by its name.
		c.must("network", "disconnect", "none", "alone")
		c.must("network", "connect", "blue", "alone")
		if got := s.endpoints("alone"); len(got) != 1 || got["blue"].IPAddress != "10.40.0.2" {
			t.Errorf("networks: %v", got)
		}
		s.consistent()
	})
}

// TestEndpointSettings: run takes several networks with the settings of each.
func TestEndpointSettings(t *testing.T) {
	forClients(t, func(t *testing.T, s *site, c client) {
		makeNetworks(c)
		id := c.must("run", "-d", "--name", "web", "-h", "host1", "--domainname", "example.org", "--add-host", "up:host-gateway", "--add-host", "db:10.0.0.9",
			"--network", "name=red,alias=r1,alias=r2,ip=10.30.0.30,mac-address=02:42:0a:1e:00:aa,\"driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.IFNAME.hop_limit=33\"",
			"--network", "name=blue,ip6=fd00:40::30,link-local-ip=fe80::30,gw-priority=9,driver-opt=com.docker.network.endpoint.ifname=up0",
			"demo", "sleep", "3600")
		web := s.Container(id)
		all := interfaces(t, web)
		if all["eth0"].addrs() != "10.30.0.30/24 fd00:30::2/64" || all["eth0"].MAC != "02:42:0a:1e:00:aa" || all["up0"].addrs() != "10.40.0.2/24 fd00:40::30/64" {
			t.Errorf("interfaces: %+v", all)
		}
		contains(t, "up0", web.Run("ip", "-6", "addr", "show", "up0"), "fe80::30")
		contains(t, "routes", web.Run("ip", "route"), "default via 10.40.0.1 dev up0")
		contains(t, "routes", web.Run("ip", "-6", "route"), "default via fd00:40::1 dev up0")
		for key, want := range map[string]string{"ipv4/conf/eth0/log_martians": "1", "ipv6/conf/eth0/hop_limit": "33", "ipv6/conf/up0/hop_limit": "64"} {
			if got := s.Must("exec", "web", "cat", "/proc/sys/net/"+key); got != want {
				t.Errorf("%s is %s, want %s", key, got, want)
			}
		}
		contains(t, "/etc/hosts", s.Must("exec", "web", "cat", "/etc/hosts"),
			"172.17.0.1\tup", "10.0.0.9\tdb", "10.30.0.30\thost1.example.org host1", "fd00:40::30\thost1.example.org host1")
		if got := s.Must("exec", "web", "hostname"); got != "host1" {
			t.Errorf("hostname %s", got)
		}
		red, blue := s.endpoints("web")["red"], s.endpoints("web")["blue"]
		if !slices.Equal(red.DNSNames, []string{"web", "r1", "r2", id[:12], "host1"}) || red.Gateway != "10.30.0.1" || red.GwPriority != 0 {
			t.Errorf("red: %+v", red)
		}
		if !slices.Equal(blue.DNSNames, []string{"web", id[:12], "host1"}) || blue.Gateway != "10.40.0.1" || blue.IPv6Gateway != "fd00:40::1" ||
			blue.GwPriority != 9 || !slices.Equal(blue.IPAMConfig.LinkLocalIPs, []string{"fe80::30"}) {
			t.Errorf("blue: %+v", blue)
		}
		c.refused(t, "unknown driver option", "run", "--network", "name=red,driver-opt=com.docker.network.endpoint.mtu=9", "demo", "true")
		c.refused(t, "unrecognised network interface sysctl", "run", "--network",
			"name=red,driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.eth0.log_martians=1", "demo", "true")
		s.consistent()
	})
}

// TestHostGateway: the daemon says what host-gateway stands for.
func TestHostGateway(t *testing.T) {
	t.Parallel()
	s := newSite(t, "--host-gateway-ip", host4, "--host-gateway-ip", host6)
	contains(t, "/etc/hosts", s.Must("run", "--rm", "--add-host", "up=host-gateway", "demo", "cat", "/etc/hosts"), host4+"\tup", host6+"\tup")
}

// TestRenameNames: a container that is renamed is found under its new name alone.
func TestRenameNames(t *testing.T) {
	forClients(t, func(t *testing.T, s *site, c client) {
		makeNetworks(c)
		s.idle("--name", "old", "--network", "red", "--network-alias", "always")
		s.idle("--name", "peer", "--network", "red")
		c.must("rename", "old", "new")
		for _, name := range []string{"new", "always"} {
			contains(t, "nslookup "+name, s.Must("exec", "peer", "nslookup", name), "10.30.0.2")
		}
		if out, _, code := s.CLI("exec", "peer", "nslookup", "old"); code == 0 {
			t.Errorf("the old name is still answered: %s", out)
		}
		if got := s.endpoints("new")["red"].DNSNames; got[0] != "new" {
			t.Errorf("DNSNames %v", got)
		}
		var shown []struct {
			Containers map[string]struct{ Name string }
		}
		if err := json.Unmarshal([]byte(c.must("network", "inspect", "red")), &shown); err != nil {
			t.Fatal(err)
		}
		if got := shown[0].Containers[s.inspect("new").ID].Name; got != "new" {
			t.Errorf("network inspect calls it %s", got)
		}
		s.consistent()
	})
}

// TestNoEndpoint: what is asked of an endpoint is refused where there is none, and so
// is what is asked of a network that is not the container's own.
func TestNoEndpoint(t *testing.T) {
	forClients(t, func(t *testing.T, s *site, c client) {
		s.idle("--name", "web")
		for _, mode := range []string{"host", "none", "container:web"} {
			for flags, says := range map[string]string{
				"--ip 172.17.0.9": "user specified IP address is supported on user defined networks only", "--ip6 fd00::9": "user specified IP address",
				"--link-local-ip 169.254.1.1": "link-local IP address", "--network-alias w": "network-scoped alias",
				"--mac-address 02:42:ac:11:00:09": "mac-address and the network mode",
			} {
				c.refused(t, says, append([]string{"create", "--network", mode}, words(flags+" demo true")...)...)
			}
		}
		for args, says := range map[string]string{
			"--network host --sysctl net.ipv4.ip_forward=0 demo true":          "sysctl net.ipv4.ip_forward is not allowed in network mode host",
			"--network container:web --sysctl net.ipv4.ip_forward=0 demo true": "sysctl net.ipv4.ip_forward is not allowed in network mode container:",
			"--network container:web --dns-search example.org demo true":       "conflicting options: dns and the network mode",
			"--network container:web --domainname example.org demo true":       "conflicting options: domainname and the network mode",
			"--network container:web -h host1 demo true":                       "conflicting options: hostname and the network mode",
		} {
			c.refused(t, says, append([]string{"create"}, words(args)...)...)
		}
		if got := c.must("ps", "-aq"); len(strings.Fields(got)) != 1 {
			t.Errorf("refusals left containers: %s", got)
		}
	})
}
