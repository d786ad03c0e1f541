package e2e

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

func itoa(n int) string { return strconv.Itoa(n) }

// ports lists the ports of a bridge on the host.
func (s *site) ports(bridge string) (names []string) {
	s.t.Helper()
	for line := range strings.Lines(s.host.Run("bridge", "link")) {
		if strings.Contains(line, " master "+bridge+" ") {
			names = append(names, strings.Fields(line)[1])
		}
	}
	return names
}

// TestA8: `bridge link` on the host shows one veth for each running container, gone
// when the container stops; its name is the container's, by the endpoint's alias.
func TestA8(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newSiteOn(t, backend)
		if got := s.ports("fairlead0"); len(got) != 0 {
			t.Errorf("ports with no container: %q", got)
		}
		a := s.run("--name", "a", "demo", "sh", "-c", "trap exit TERM; sleep 3600 & wait")
		b := s.idle("--name", "b")
		before := s.ports("fairlead0")
		if len(before) != 2 || !strings.HasPrefix(before[0], "veth") {
			t.Errorf("ports with two containers: %q", before)
		}
		bridge := interfaces(t, s.host)["fairlead0"]
		if bridge.addrs() != "172.17.0.1/16" || bridge.State != "UP" {
			t.Errorf("the bridge has %q and is %s", bridge.addrs(), bridge.State)
		}
		s.Must("stop", "a")
		eventually(t, "one port after one has stopped", func() bool { return len(s.ports("fairlead0")) == 1 })
		if _, err := os.Stat(a.Path()); !os.IsNotExist(err) {
			t.Errorf("the stopped container's namespace is there: %v", err)
		}
		s.Must("start", "a")
		if got := s.ports("fairlead0"); len(got) != 2 {
			t.Errorf("ports after it has started again: %q", got)
		}
		s.Must("rm", "-f", "a", "b")
		eventually(t, "no port after both were removed", func() bool { return len(s.ports("fairlead0")) == 0 })
		eventually(t, "the kernel has taken the links away", func() bool {
			left := slices.Collect(maps.Keys(interfaces(t, s.host)))
			return !slices.ContainsFunc(before, func(port string) bool {
				name, _, _ := strings.Cut(strings.TrimSuffix(port, ":"), "@")
				return slices.Contains(left, name)
			})
		})
		_ = b
		s.consistent()
	})
}

// TestA13: `network inspect bridge` is Docker's JSON.
func TestA13(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.idle("--name", "one")
	type inspected struct {
		Name, Id, Created, Scope, Driver string
		EnableIPv6, Internal             bool
		IPAM                             struct {
			Driver string
			Config []struct{ Subnet, Gateway string }
		}
		Containers map[string]struct{ Name, EndpointID, MacAddress, IPv4Address, IPv6Address string }
		Options    map[string]string
		Labels     map[string]string
	}
	got := decode[[]inspected](t, s.Must("network", "inspect", "bridge"))
	if len(got) != 1 {
		t.Fatalf("%d networks", len(got))
	}
	n := got[0]
	if n.Name != "bridge" || len(n.Id) != 64 || n.Scope != "local" || n.Driver != "bridge" || n.EnableIPv6 || n.Internal || n.Created == "" || n.Labels == nil {
		t.Errorf("network: %+v", n)
	}
	if len(n.IPAM.Config) != 1 || n.IPAM.Config[0].Subnet != "172.17.0.0/16" || n.IPAM.Config[0].Gateway != "172.17.0.1" || n.IPAM.Driver != "default" {
		t.Errorf("IPAM: %+v", n.IPAM)
	}
	c := n.Containers[b.id]
	if len(n.Containers) != 1 || c.Name != "one" || len(c.EndpointID) != 64 || c.MacAddress != "02:42:ac:11:00:02" || c.IPv4Address != "172.17.0.2/16" || c.IPv6Address != "" {
		t.Errorf("containers: %+v", n.Containers)
	}
	if c.EndpointID != s.inspect("one").NetworkSettings.Networks["bridge"].EndpointID {
		t.Error("the endpoint has another ID in the container's inspect")
	}
	for key, want := range map[string]string{
		"com.docker.network.bridge.default_bridge":       "true",
		"com.docker.network.bridge.enable_icc":           "true",
		"com.docker.network.bridge.enable_ip_masquerade": "true",
		"com.docker.network.bridge.host_binding_ipv4":    "0.0.0.0",
		"com.docker.network.bridge.name":                 "fairlead0",
		"com.docker.network.driver.mtu":                  "1500",
	} {
		if n.Options[key] != want {
			t.Errorf("option %s is %q, want %q", key, n.Options[key], want)
		}
	}
	// One of the user's own shows what it was made with.
	s.Must("network", "create", "--ipv6", "--subnet", "10.30.0.0/24", "--gateway", "10.30.0.9", "--subnet", "fd00:30::/64", "--label", "a=b", "mine")
	s.Must("run", "-d", "--network", "mine", "--ip", "10.30.0.77", "--ip6", "fd00:30::77", "--mac-address", "02:00:00:00:00:77", "--name", "two", "demo", "sleep", "3600")
	n = decode[[]inspected](t, s.Must("network", "inspect", "mine"))[0]
	if !n.EnableIPv6 || len(n.IPAM.Config) != 2 || n.IPAM.Config[0].Gateway != "10.30.0.9" || n.IPAM.Config[1].Gateway != "fd00:30::1" || n.Labels["a"] != "b" {
		t.Errorf("network mine: %+v", n)
	}
	for _, c := range n.Containers {
		if c.IPv4Address != "10.30.0.77/24" || c.IPv6Address != "fd00:30::77/64" || c.MacAddress != "02:00:00:00:00:77" {
			t.Errorf("container on mine: %+v", c)
		}
	}
	contains(t, "network ls", s.Must("network", "ls"), "bridge", "host", "none", "mine")
	s.consistent()
}

// TestA16: two containers on one bridge reach each other by address with no NAT.
func TestA16(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newSiteOn(t, backend)
		s.Must("network", "create", "--ipv6", "dual")
		for _, network := range []string{"bridge", "dual"} {
			a, b := s.idle("--network", network), s.idle("--network", network)
			for _, proto := range []string{"tcp", "udp"} {
				b.serve(proto, "0.0.0.0:7")
				b.sees(a.Host, proto, at(b.addr4, "7"), a.addr4)
				if network == "dual" {
					b.serve(proto, "[::]:7")
					b.sees(a.Host, proto, at(b.addr6, "7"), a.addr6)
				}
			}
			lab.Reachable(t, a.Host, "icmp", b.addr4.String())
		}
	})
}

// TestB5: `lsns` lists a running container's namespace, which can be entered by
// EXEC_ROOT/netns/ID.
func TestB5(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.idle()
	key := s.inspect(b.id).NetworkSettings.SandboxKey
	if key != filepath.Join(s.ExecRoot, "netns", b.id) {
		t.Errorf("sandbox key %s", key)
	}
	id := s.Must("exec", b.id, "readlink", "/proc/self/ns/net")
	inode := strings.TrimSuffix(strings.TrimPrefix(id, "net:["), "]")
	// It fails where a process of another test ends while it looks at that.
	eventually(t, "lsns lists the container's namespace", func() bool {
		r := s.host.Try("lsns", "-t", "net", "-n", "-o", "NS,COMMAND")
		return r.Code == 0 && strings.Contains(r.Stdout, inode)
	})
	if got := s.host.Run("nsenter", "--net="+key, "readlink", "/proc/self/ns/net"); got != id {
		t.Errorf("nsenter came to %s, want %s", got, id)
	}
	contains(t, "nsenter", s.host.Run("nsenter", "--net="+key, "ip", "addr"), "172.17.0.2/16")
	s.Must("rm", "-f", b.id)
	if _, err := os.Stat(key); !os.IsNotExist(err) {
		t.Errorf("the namespace of a removed container: %v", err)
	}
}
