package e2e

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// iface is one interface as `ip -j addr` shows it.
type iface struct {
	Name    string `json:"ifname"`
	MAC     string `json:"address"`
	MTU     int    `json:"mtu"`
	State   string `json:"operstate"`
	Master  string `json:"master"`
	Alias   string `json:"ifalias"`
	Flags   []string
	Stats   struct{ RX struct{ Packets int } } `json:"stats64"`
	AddrSet []struct {
		Local  string
		Length int `json:"prefixlen"`
		Scope  string
	} `json:"addr_info"`
}

// interfaces lists a host's interfaces by name.
func interfaces(t *testing.T, h *lab.Host) map[string]iface {
	t.Helper()
	var list []iface
	if err := json.Unmarshal([]byte(h.Run("ip", "-j", "-s", "addr")), &list); err != nil {
		t.Fatal(err)
	}
	all := make(map[string]iface)
	for _, i := range list {
		all[i.Name] = i
	}
	return all
}

// addrs are an interface's addresses with their lengths, link-local ones left out.
func (i iface) addrs() string {
	var list []string
	for _, a := range i.AddrSet {
		if a.Scope != "link" {
			list = append(list, a.Local+"/"+itoa(a.Length))
		}
	}
	return strings.Join(list, " ")
}

// TestA7: `ip a` and `ip r` in a bridge container show eth0 with the next free
// address of the subnet, a MAC of 02:42: and the address's four bytes, and the
// default route by the bridge's address.
func TestA7(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Must("network", "create", "--ipv6", "--subnet", "10.30.0.0/24", "--subnet", "fd00:30::/64", "dual")
	for _, c := range []struct{ network, addr, mac, route, addr6, route6 string }{
		{"bridge", "172.17.0.2/16", "02:42:ac:11:00:02", "default via 172.17.0.1 dev eth0", "", ""},
		{"bridge", "172.17.0.3/16", "02:42:ac:11:00:03", "default via 172.17.0.1 dev eth0", "", ""},
		{"dual", "10.30.0.2/24", "02:42:0a:1e:00:02", "default via 10.30.0.1 dev eth0", "fd00:30::2/64", "default via fd00:30::1 dev eth0"},
	} {
		id := s.idle("--network", c.network).id
		contains(t, "ip a", s.Must("exec", id, "ip", "a"), "eth0", "inet "+c.addr, "link/ether "+c.mac, "inet 127.0.0.1/8")
		contains(t, "ip r", s.Must("exec", id, "ip", "r"), c.route)
		if c.addr6 == "" {
			if got := s.Must("exec", id, "ip", "-6", "a", "show", "dev", "eth0"); got != "" {
				t.Errorf("eth0 has IPv6 on a network without: %s", got)
			}
			continue
		}
		contains(t, "ip a", s.Must("exec", id, "ip", "-6", "a"), "inet6 "+c.addr6)
		contains(t, "ip -6 r", s.Must("exec", id, "ip", "-6", "r"), c.route6)
	}
	// The lowest that is free is the next.
	first := strings.TrimSpace(s.Must("ps", "-q", "--no-trunc", "-a", "--filter", "name=none-such"))
	if first != "" {
		t.Errorf("a filter that nothing meets gives %q", first)
	}
	ids := strings.Fields(s.Must("ps", "-q", "--no-trunc"))
	for _, id := range ids {
		if s.inspect(id).NetworkSettings.Networks["bridge"].IPAddress == "172.17.0.2" {
			s.Must("rm", "-f", id)
		}
	}
	if got := s.idle().addr4.String(); got != "172.17.0.2" {
		t.Errorf("the next container got %s, and 172.17.0.2 was free", got)
	}
}

// TestA9: with --network host the container sees the host's interfaces and listens
// on the host's ports with no NAT; nothing is published.
func TestA9(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newSiteOn(t, backend)
		id := s.Must("run", "-d", "--net", "host", "-p", "8080:80", "demo", "httpd", "-f", "-p", "9000", "-h", "/www")
		inside := s.Must("exec", id, "ip", "-o", "link")
		outside := s.host.Run("ip", "-o", "link")
		for _, name := range []string{"uplink", "fairlead0"} {
			contains(t, "ip link inside", inside, ": "+name)
			contains(t, "ip link on the host", outside, ": "+name)
		}
		if in, out := s.Must("exec", id, "readlink", "/proc/self/ns/net"), s.host.Run("readlink", "/proc/self/ns/net"); in != out {
			t.Errorf("namespace inside %s, on the host %s", in, out)
		}
		eventually(t, "outside gets the page from the host's port 9000", func() bool {
			return s.outside.Try("busybox", "wget", "-q", "-O-", "http://"+host4+":9000/").Stdout == page
		})
		lab.Unreachable(t, s.outside, "tcp", at(host4, "8080"), lab.Probe{From: s.outside, Proto: "tcp", Addr: at(host4, "9000")})
		if ports := s.Must("ps", "--format", "{{.Ports}}"); ports != "" {
			t.Errorf("ps shows ports %q", ports)
		}
		if got := s.inspect(id); got.HostConfig.NetworkMode != "host" || len(got.NetworkSettings.Ports) != 0 {
			t.Errorf("inspect: mode %s, ports %v", got.HostConfig.NetworkMode, got.NetworkSettings.Ports)
		}
		if rules := s.host.Run("nft", "list", "ruleset"); strings.Contains(rules, "8080") {
			t.Errorf("the firewall speaks of port 8080:\n%s", rules)
		}
		s.consistent()
	})
}

// TestA10: with --network container:ID there are the same interfaces, address, MAC
// and counters as in the first container; they reach each other on lo and have file
// systems and processes of their own; a stopped or unknown container is refused.
func TestA10(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.importImage("web", "EXPOSE 80")
	s.Must("run", "-d", "--name", "first", "web", "sh", "-c", "echo mine >/tmp/first; exec httpd -f -h /www")
	second := s.Must("run", "-d", "--name", "second", "--network", "container:first", "web", "sleep", "3600")
	for _, command := range [][]string{
		{"ip", "link"},
		{"ip", "addr"},
		{"ip", "route"},
		{"cat", "/sys/class/net/eth0/address"},
		{"readlink", "/proc/self/ns/net"},
		{"hostname"},
		{"cat", "/etc/hosts"},
	} {
		a, b := s.Must(append([]string{"exec", "first"}, command...)...), s.Must(append([]string{"exec", "second"}, command...)...)
		if a != b || a == "" {
			t.Errorf("%s: first says %q, second %q", strings.Join(command, " "), a, b)
		}
	}
	// Counters too: what one sends the other sees sent.
	sent := func(name string) int {
		n, err := strconv.Atoi(s.Must("exec", name, "cat", "/sys/class/net/eth0/statistics/tx_packets"))
		if err != nil {
			t.Error(err)
		}
		return n
	}
	before := sent("second")
	s.Must("exec", "first", "ping", "-c3", "-W5", "172.17.0.1")
	if after := sent("second"); after < before+3 {
		t.Errorf("second counts %d packets sent, and %d after first has sent 3", before, after)
	}
	eventually(t, "second reaches first on lo", func() bool {
		out, _, _ := s.CLI("exec", "second", "wget", "-q", "-O-", "http://127.0.0.1:80/")
		return out == page
	})
	if _, _, code := s.CLI("exec", "second", "test", "-e", "/tmp/first"); code != 1 {
		t.Errorf("second sees first's file: exit code %d", code)
	}
	if ps := s.Must("exec", "second", "ps"); strings.Contains(ps, "httpd") {
		t.Errorf("second sees first's processes:\n%s", ps)
	}
	if got := s.inspect(second); got.HostConfig.NetworkMode != "container:"+s.inspect("first").ID || len(got.NetworkSettings.Networks) != 0 {
		t.Errorf("inspect: mode %s, networks %v", got.HostConfig.NetworkMode, got.NetworkSettings.Networks)
	}
	// The second's end leaves the first's network alone.
	s.Must("rm", "-f", "second")
	contains(t, "ip addr of first", s.Must("exec", "first", "ip", "addr"), "172.17.0.2")
	s.consistent()
	s.Must("kill", "first")
	s.Must("wait", "first")
	for ref, says := range map[string]string{
		"first":  "cannot join network of a non running container",
		"nobody": "no such container: nobody",
	} {
		_, stderr, code := s.CLI("run", "--rm", "--network", "container:"+ref, "demo", "true")
		if code != 125 || !strings.Contains(strings.ToLower(stderr), says) {
			t.Errorf("join %s: exit code %d, %q; want 125 and %q", ref, code, stderr, says)
		}
	}
	s.consistent()
}

// TestA11: with --network none there is only lo.
func TestA11(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.idle("--net", "none")
	all := interfaces(t, b.Host)
	if len(all) != 1 || all["lo"].addrs() != "127.0.0.1/8 ::1/128" {
		t.Errorf("interfaces: %+v", all)
	}
	if got := s.Must("exec", b.id, "ip", "route"); got != "" {
		t.Errorf("routes: %s", got)
	}
	b.serve("tcp", "127.0.0.1:80")
	lab.Reachable(t, b.Host, "tcp", "127.0.0.1:80")
	if _, stderr, code := s.CLI("exec", b.id, "ping", "-c1", "-W1", host4); code != 1 || !strings.Contains(stderr, "unreachable") {
		t.Errorf("ping out of none: exit code %d, %s", code, stderr)
	}
	s.consistent()
}

// TestA12: the default mode is bridge.
func TestA12(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	got := s.inspect(s.idle().id)
	if _, there := got.NetworkSettings.Networks["bridge"]; !there || len(got.NetworkSettings.Networks) != 1 {
		t.Errorf("networks of a container with no --network: %v", got.NetworkSettings.Networks)
	}
	if got.HostConfig.NetworkMode != "bridge" && got.HostConfig.NetworkMode != "default" {
		t.Errorf("mode %q", got.HostConfig.NetworkMode)
	}
	contains(t, "ps", s.Must("ps", "--format", "{{.Networks}}"), "bridge")
}
