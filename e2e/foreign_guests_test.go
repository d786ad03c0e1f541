package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/lab"
)

// neighbour is another program on the host with guests of its own on a bridge: what
// it types to set itself up. In the rules the bridge is BR, its subnets NET4 and
// NET6, and the guest that port 2022 of the host leads to GUEST4 and GUEST6.
type neighbour struct {
	name, bridge string
	rules        string
	// open says that it lets everybody at its guests.
	open bool
}

// Each as the program's own source, and a host that runs it, have them.
var neighbours = []neighbour{
	{name: "libvirt by iptables", bridge: "virbr0", rules: `
		for t in 4 6; do
			test $t = 4 && { ipt=iptables; net=NET4; guest=GUEST4; to=GUEST4:22; host=192.0.2.1; }
			test $t = 6 && { ipt=ip6tables; net=NET6; guest=GUEST6; to=[GUEST6]:22; host=2001:db8::1; }
			for c in INP OUT FWO FWI FWX; do $ipt -N LIBVIRT_$c; done
			$ipt -I INPUT -j LIBVIRT_INP; $ipt -I OUTPUT -j LIBVIRT_OUT
			$ipt -I FORWARD -j LIBVIRT_FWO; $ipt -I FORWARD -j LIBVIRT_FWI; $ipt -I FORWARD -j LIBVIRT_FWX
			$ipt -t nat -N LIBVIRT_PRT; $ipt -t nat -I POSTROUTING -j LIBVIRT_PRT
			for p in 53 67; do $ipt -A LIBVIRT_INP -i BR -p udp --dport $p -j ACCEPT; $ipt -A LIBVIRT_OUT -o BR -p udp --dport $p -j ACCEPT; done
			$ipt -A LIBVIRT_FWO -s $net -i BR -j ACCEPT; $ipt -A LIBVIRT_FWO -i BR -j REJECT
			$ipt -A LIBVIRT_FWI -d $net -o BR -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; $ipt -A LIBVIRT_FWI -o BR -j REJECT
			$ipt -A LIBVIRT_FWX -i BR -o BR -j ACCEPT
			$ipt -t nat -A LIBVIRT_PRT -s $net ! -d $net -p tcp -j MASQUERADE --to-ports 1024-65535
			$ipt -t nat -A LIBVIRT_PRT -s $net ! -d $net -j MASQUERADE
			$ipt -t nat -A PREROUTING -d $host -p tcp --dport 2022 -j DNAT --to $to
			$ipt -I FORWARD -o BR -d $guest -p tcp --dport 22 -j ACCEPT
		done`},
	{name: "libvirt by nftables", bridge: "virbr0", rules: `
		for t in 4 6; do
			test $t = 4 && { ip=ip; net=NET4; guest=GUEST4; to=GUEST4:22; host=192.0.2.1; }
			test $t = 6 && { ip=ip6; net=NET6; guest=GUEST6; to=[GUEST6]:22; host=2001:db8::1; }
			nft -f - <<-END
				table $ip libvirt_network {
					chain guest_output { $ip saddr $net iif BR counter accept; iif BR counter reject; }
					chain guest_input { oif BR $ip daddr $guest tcp dport 22 counter accept; oif BR $ip daddr $net ct state related,established counter accept; oif BR counter reject; }
					chain guest_cross { iif BR oif BR counter accept; }
					chain forward { type filter hook forward priority filter; policy accept; counter jump guest_cross; counter jump guest_input; counter jump guest_output; }
					chain guest_nat { type nat hook postrouting priority srcnat; policy accept; $ip saddr $net $ip daddr != $net counter masquerade; }
					chain published { type nat hook prerouting priority dstnat; policy accept; $ip daddr $host tcp dport 2022 dnat to $to; }
				}
			END
		done`},
	{name: "LXD", bridge: "lxdbr0", open: true, rules: `
		nft -f - <<-END
			table inet lxd {
				chain pstrt.lxdbr0 { type nat hook postrouting priority srcnat; policy accept; ip saddr NET4 ip daddr != NET4 masquerade; ip6 saddr NET6 ip6 daddr != NET6 masquerade; }
				chain fwd.lxdbr0 { type filter hook forward priority filter; policy accept; ip version 4 oifname "BR" accept; ip version 4 iifname "BR" accept; ip6 version 6 oifname "BR" accept; ip6 version 6 iifname "BR" accept; }
				chain in.lxdbr0 { type filter hook input priority filter; policy accept; iifname "BR" tcp dport 53 accept; iifname "BR" udp dport { 53, 67, 547 } accept; }
				chain prert.proxy { type nat hook prerouting priority dstnat; policy accept; ip daddr 192.0.2.1 tcp dport 2022 dnat ip to GUEST4:22; ip6 daddr 2001:db8::1 tcp dport 2022 dnat ip6 to [GUEST6]:22; }
			}
		END`},
	{name: "Docker", bridge: "docker0", rules: dockerRules("iptables", "ip6tables")},
	{name: "Docker by iptables-legacy", bridge: "docker0", rules: dockerRules("iptables-legacy", "ip6tables-legacy")},
}

func dockerRules(ipt4, ipt6 string) string {
	return strings.NewReplacer("IPT4", ipt4, "IPT6", ipt6).Replace(`
		for t in 4 6; do
			test $t = 4 && { ipt=IPT4; net=NET4; guest=GUEST4; to=GUEST4:22; loop=127.0.0.0/8; }
			test $t = 6 && { ipt=IPT6; net=NET6; guest=GUEST6; to=[GUEST6]:22; loop=::1; }
			$ipt -t nat -N DOCKER; $ipt -N DOCKER; $ipt -N DOCKER-ISOLATION-STAGE-1; $ipt -N DOCKER-ISOLATION-STAGE-2; $ipt -N DOCKER-USER
			$ipt -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
			$ipt -t nat -A OUTPUT ! -d $loop -m addrtype --dst-type LOCAL -j DOCKER
			$ipt -t nat -A POSTROUTING -s $net ! -o BR -j MASQUERADE
			$ipt -t nat -A DOCKER -i BR -j RETURN
			$ipt -t nat -A DOCKER ! -i BR -p tcp --dport 2022 -j DNAT --to-destination $to
			$ipt -P FORWARD DROP
			$ipt -A FORWARD -j DOCKER-USER; $ipt -A FORWARD -j DOCKER-ISOLATION-STAGE-1
			$ipt -A FORWARD -o BR -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
			$ipt -A FORWARD -o BR -j DOCKER; $ipt -A FORWARD -i BR ! -o BR -j ACCEPT; $ipt -A FORWARD -i BR -o BR -j ACCEPT
			$ipt -A DOCKER -d $guest ! -i BR -o BR -p tcp --dport 22 -j ACCEPT
			$ipt -A DOCKER-ISOLATION-STAGE-1 -i BR ! -o BR -j DOCKER-ISOLATION-STAGE-2; $ipt -A DOCKER-ISOLATION-STAGE-1 -j RETURN
			$ipt -A DOCKER-ISOLATION-STAGE-2 -o BR -j DROP; $ipt -A DOCKER-ISOLATION-STAGE-2 -j RETURN
			$ipt -A DOCKER-USER -j RETURN
		done`)
}

const (
	guestNet4, guestNet6 = "192.168.122.0/24", "fd00:122::/64"
	guest4, guest6       = "192.168.122.10", "fd00:122::10"
	guestGW4, guestGW6   = "192.168.122.1", "fd00:122::1"
)

// guests are two on the neighbour's bridge.
type guests struct {
	s          *site
	n          neighbour
	first, two *lab.Host
}

// moveIn sets the neighbour up with its guests; the host becomes a router, if it is
// none.
func (s *site) moveIn(n neighbour) *guests {
	s.t.Helper()
	g := &guests{s: s, n: n, first: s.lab.Host("guest1"), two: s.lab.Host("guest2")}
	s.host.Run("ip", "link", "add", n.bridge, "type", "bridge")
	s.host.Run("ip", "addr", "add", guestGW4+"/24", "dev", n.bridge)
	s.host.Run("ip", "addr", "add", guestGW6+"/64", "dev", n.bridge, "nodad")
	s.host.Run("ip", "link", "set", n.bridge, "up")
	for _, guest := range []struct {
		host               *lab.Host
		port, addr4, addr6 string
	}{{g.first, "vnet1", guest4, guest6}, {g.two, "vnet2", "192.168.122.11", "fd00:122::11"}} {
		s.lab.Link(s.host.Port(guest.port), guest.host.Port("eth0", guest.addr4+"/24", guest.addr6+"/64"))
		s.host.Run("ip", "link", "set", guest.port, "master", n.bridge)
		guest.host.DefaultRoute("eth0", guestGW4, guestGW6)
	}
	s.host.Router()
	s.host.Run("sh", "-ec", strings.NewReplacer("BR", n.bridge, "NET4", guestNet4, "NET6", guestNet6, "GUEST4", guest4, "GUEST6", guest6).Replace(n.rules))
	for _, any := range []string{"0.0.0.0", "[::]"} {
		for _, port := range []string{"22", "23"} {
			g.first.Listen("tcp", any+":"+port)
		}
		g.two.Listen("tcp", any+":23")
	}
	return g
}

// fare fails the test unless the guests have the traffic that their program gives
// them, and no other.
func (g *guests) fare(when string) {
	g.s.t.Helper()
	var shut [][2]lab.Probe
	for _, way := range []struct{ outside, host, also, guest, second string }{
		{outside4, host4, second4, guest4, "192.168.122.11"}, {outside6, host6, second6, guest6, "fd00:122::11"},
	} {
		if r := lab.Seen(g.s.t, g.first, "tcp", at(way.outside, "80")); r.Peer.Addr().String() != way.host && r.Peer.Addr().String() != way.also {
			g.s.t.Errorf("outside sees a guest as %s", r.Peer)
		}
		lab.Reachable(g.s.t, g.first, "tcp", at(way.second, "23"))
		lab.Reachable(g.s.t, g.s.host, "tcp", at(way.guest, "23"))
		if r := lab.Seen(g.s.t, g.s.outside, "tcp", at(way.host, "2022")); r.Host != "guest1" || r.Peer.Addr().String() != way.outside {
			g.s.t.Errorf("at the forwarded port %s answers, and sees %s", r.Host, r.Peer)
		}
		if !g.n.open {
			shut = append(shut, [2]lab.Probe{from(g.s.outside, "tcp", at(way.guest, "23")), from(g.s.host, "tcp", at(way.guest, "23"))})
		}
	}
	barred(g.s.t, shut...)
	if g.s.t.Failed() {
		g.s.t.Fatalf("so guests fare after: %s\n%s", when, g.s.rules())
	}
}

// inhabited are the lines of rules that do something: iptables leaves its tables and
// the kernel's chains when the last rule is gone.
func inhabited(rules string) string {
	var out strings.Builder
	for line := range strings.Lines(rules) {
		word := strings.TrimSpace(line)
		switch {
		case word == "" || word == "}" || word == "COMMIT" || strings.HasPrefix(word, "*"):
		case strings.HasPrefix(word, ":") && strings.Contains(word, " ACCEPT"):
		case strings.HasPrefix(word, "chain ") || strings.HasPrefix(word, "type ") && strings.HasSuffix(word, "policy accept;"):
		default:
			out.WriteString(line)
		}
	}
	return out.String()
}

// TestNeighbours: guests of libvirt, LXD and Docker have the same traffic before,
// with and after us, whichever of the two came first, and containers of ours have
// theirs beside them. Containers get no further into other programs' networks than
// outside does.
func TestNeighbours(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		for i, n := range neighbours {
			for j, when := range []string{"later", "first"} {
				if backend == iptables && n.name == "Docker" && when == "later" {
					// Its chains are there then, and ours: docs/FIREWALL.md.
					continue
				}
				if !chosen(slices.Index(backends, backend), i, j) {
					continue
				}
				t.Run(n.name+" "+when, func(t *testing.T) {
					t.Parallel()
					testNeighbour(t, backend, n, when == "first")
				})
			}
		}
	})
}

func testNeighbour(t *testing.T, backend string, n neighbour, first bool) {
	s := newHosts(t)
	for _, any := range []string{"0.0.0.0", "[::]"} {
		s.outside.Listen("tcp", any+":80")
	}
	s.outside.Run("ip", "route", "add", guestNet4, "via", host4)
	s.outside.Run("ip", "route", "add", guestNet6, "via", host6)
	var g *guests
	var before string
	if first {
		g = s.moveIn(n)
		g.fare("nothing")
		before = s.rules()
	}
	if backend == iptables {
		s.host.Expect("chain INPUT", "hook input", "chain OUTPUT", "type nat hook output", ": *raw", "ACCEPT", "COMMIT")
	}
	s.startOn(backend)
	if !first {
		// The host forwards for containers alone, until another wants it too.
		s.Must("network", "create", "--ipv6", "six")
		before = s.rules()
		s.host.Expect("link:", "address:", "route:", "sysctl:", "table", "missing", "tables: ", "rule:")
		g = s.moveIn(n)
	}
	g.fare("start")
	web := s.idle("-p", "8080:80")
	web.serve("tcp", "0.0.0.0:80")
	g.fare("run")
	s.Must("network", "create", "--ipv6", "--subnet", "10.30.0.0/24", "--subnet", "fd00:30::/64", "dual")
	dual := s.idle("--network", "dual", "-p", "8081:80")
	for _, any := range []string{"0.0.0.0", "[::]"} {
		dual.serve("tcp", any+":80")
	}
	g.fare("network create")
	s.everyWay("dual", "10.30.0.1", "fd00:30::1")
	for _, addr := range []string{host4, host6} {
		lab.Reachable(t, g.first, "tcp", at(addr, "8081"))
		lab.Reachable(t, dual.Host, "tcp", at(addr, "2022"))
	}
	shut := [][2]lab.Probe{{from(g.first, "tcp", at(dual.addr4, "80")), from(s.host, "tcp", at(dual.addr4, "80"))}}
	if !n.open {
		shut = append(shut,
			[2]lab.Probe{from(dual.Host, "tcp", at(guest4, "23")), from(s.host, "tcp", at(guest4, "23"))},
			[2]lab.Probe{from(dual.Host, "tcp", at(guest6, "23")), from(s.host, "tcp", at(guest6, "23"))})
	}
	barred(t, shut...)
	s.consistent()
	s.Restart()
	g.fare("restart")
	s.consistent()
	s.Must("rm", "-f", web.id, dual.id)
	s.Must("network", "rm", "dual")
	g.fare("stop")
	s.Teardown()
	if first {
		g.fare("teardown")
		if before, after := inhabited(before), inhabited(s.rules()); after != before {
			t.Errorf("the rules before (-) and after:\n%s", cmp.Diff(before, after))
		}
	}
	if after := s.rules(); strings.Contains(after, "fairlead") {
		t.Errorf("the rules after teardown:\n%s", after)
	}
}
