package trace

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/trace/netfilter"
	"github.com/fairlead/fairlead/trace/picture"
)

const inDB, inWeb = "nsenter --net=/netns/db ", "nsenter --net=/netns/web "

// causes are changes of the picture, and what is told of each: the code, the hop where the
// packet was last seen, and the first command that mends it.
var causes = []struct {
	ask    string
	change func(p *picture.Picture)
	code   string
	hop    HopKind
	mend   string
}{
	{"db web:81", none, "nothing-listening", HopContainer, inWeb + "ss -ltnup"},
	{"db web:82", none, "loopback-only", HopContainer, inWeb + "ss -ltnp sport = :82"},
	{"db web:80/udp", none, "other-protocol", HopContainer, inWeb + "ss -ltnup"},
	{"outside web:81", none, "not-published", HopOutside, "fairlead run -p 81:81/tcp …"},
	{"outside web:80/udp", none, "other-protocol", HopOutside, "fairlead run -p 80:80/udp …"},
	{"db web:80", func(p *picture.Picture) { p.Containers[0].Running, p.Containers[0].Namespace = false, nil }, "container-stopped", HopContainer, "fairlead start web"},
	{"db web:80", func(p *picture.Picture) { p.Containers[0].Namespace.Listeners[0].Stopped = true }, "process-stopped", HopContainer, "kill -CONT 9"},
	{"host 127.0.0.1:8080", func(p *picture.Picture) { p.Host.Listeners = nil }, "relay-dead", HopHost, healHint},
	{"host 127.0.0.1:8080", func(p *picture.Picture) { p.Host.Listeners[0].Process = "nginx" }, "port-taken", HopHost, "kill 7"},
	{"db 192.0.2.9", withoutDefault, "no-default-route", HopContainer, inDB + "ip route add default via 10.30.0.1 dev eth0"},
	{"-6 db 2001:db8::9", withoutDefault, "no-default-route", HopContainer, inDB + "ip -6 route add default via fd00:30::1 dev eth0"},
	{"db 192.0.2.9", func(p *picture.Picture) {
		withoutDefault(p)
		p.Networks[0].Internal, p.Attachments[1].Endpoints[0].Gateway4 = true, netip.Addr{}
	}, "internal-network", HopContainer, "fairlead network connect bridge db"},
	{"db 192.0.2.9", sysctl("net/ipv4/ip_forward", "0"), "forwarding-off", HopBridge, "sysctl -w net.ipv4.ip_forward=1"},
	{"-6 db 2001:db8::9", sysctl("net/ipv6/conf/all/forwarding", "0"), "ipv6-forwarding-off", HopBridge, "sysctl -w net.ipv6.conf.all.forwarding=1"},
	{"db 192.0.2.9", func(p *picture.Picture) { ruleset(p, "", "") }, "no-source-nat", HopUplink, "iptables -t nat -A POSTROUTING -s 10.30.0.0/24 ! -o br0 -j MASQUERADE"},
	{"-6 db 2001:db8::9", func(p *picture.Picture) { ruleset(p, "", "") }, "no-source-nat", HopUplink, "ip6tables -t nat -A POSTROUTING -s fd00:30::/64 ! -o br0 -j MASQUERADE"},
	{"db 192.0.2.9", rule("nat", "POSTROUTING", "-o uplink -j SNAT --to-source 192.0.2.77"), "wrong-source-nat", HopUplink, "iptables-legacy -t nat -D POSTROUTING 1"},
	{"db 192.0.2.9", func(p *picture.Picture) {
		ruleset(p, saved[rules4]+"*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -s 10.30.0.0/24 -j CT --notrack\n", "")
	}, "no-source-nat", HopUplink, "iptables-legacy -t raw -D PREROUTING 1"},
	{"db 192.0.2.9", rule("filter", "FORWARD", "-d 192.0.2.9/32 -j DROP"), "foreign-drop", HopBridge, "iptables-legacy -t filter -D FORWARD 1"},
	{"db 192.0.2.9", func(p *picture.Picture) {
		ruleset(p, strings.Replace(saved[rules4], ":FORWARD ACCEPT", ":FORWARD DROP", 1), "")
	}, "foreign-policy-drop", HopBridge, "iptables-legacy -P FORWARD ACCEPT"},
	{"db 192.0.2.9", rule("filter", "FORWARD", "-m conntrack --ctstate ESTABLISHED -j DROP"), "foreign-drop", HopUplink, "iptables-legacy -t filter -D FORWARD 1"},
	{"db 192.0.2.9", func(p *picture.Picture) { p.Host.Tracked = 99 }, "conntrack-full", HopBridge, "sysctl -w net.netfilter.nf_conntrack_max=131072"},
	{"db 192.0.2.9", hostRoute(picture.Route{Kind: picture.Blackhole, Dst: netip.MustParsePrefix("192.0.2.9/32")}), "route-blackhole", HopBridge, "ip route del blackhole 192.0.2.9/32"},
	{"outside web:80", hostRoute(picture.Route{Kind: picture.Unicast, Dst: netip.MustParsePrefix("10.30.0.2/32"), Link: uplink}), "route-overlap", HopUplink, "ip route del 10.30.0.2/32 dev uplink"},
	{"db 192.0.2.9", func(p *picture.Picture) {
		p.Host.Rules = append(p.Host.Rules, picture.Rule{Priority: 100, From: netip.MustParsePrefix("10.30.0.0/24"), Kind: picture.Prohibit})
	}, "rule-diverts", HopBridge, "ip rule del priority 100"},
	{"db web:80", port(func(l *picture.Link) { l.Up = false }), "veth-down", HopPeer, "ip link set veth1 up"},
	{"db web:80", port(func(l *picture.Link) { l.Master = 0 }), "veth-off-bridge", HopPeer, "ip link set veth1 master br0"},
	{"db web:80", port(func(l *picture.Link) { l.Blocked = true }), "port-blocked", HopPeer, "bridge link set dev veth1 state 3"},
	{"db web:80", func(p *picture.Picture) { p.Host.Links[webPort-1].MTU, p.Host.Links[bridge-1].MTU = 1280, 1280 }, "mtu-black-hole", HopPeer, "ip link set veth1 mtu 1500"},
	{"db web:80", func(p *picture.Picture) {
		p.Host.Links[webPort-1].Isolated, p.Host.Links[dbPort-1].Isolated = true, true
	}, "ports-isolated", HopBridge, "bridge link set dev veth2 isolated off"},
	{"db 192.0.2.9", func(p *picture.Picture) { p.Host.Links[bridge-1].Up = false }, "bridge-down", HopPeer, "ip link set br0 up"},
	{"db 192.0.2.9", func(p *picture.Picture) { p.Host.Links[uplink-1].Up = false }, "uplink-down", HopBridge, "ip link set uplink up"},
	{"db 192.0.2.9", func(p *picture.Picture) { p.Host.Links[uplink-1].Carrier = false }, "uplink-no-carrier", HopBridge, "ip -s link show dev uplink"},
	{"db 192.0.2.9", func(p *picture.Picture) { db(p).Links[1].Up = false; withoutDefault(p) }, "link-down", HopContainer, inDB + "ip link set eth0 up && " + inDB + "ip route replace default via 10.30.0.1 dev eth0 && " + inDB + "ip -6 route replace default via fd00:30::1 dev eth0"},
	{"db 192.0.2.9", gateway("10.30.0.250"), "wrong-gateway", HopContainer, inDB + "ip route replace default via 10.30.0.1 dev eth0"},
	{"db 192.0.2.9", gateway("10.30.0.2"), "wrong-gateway", HopContainer, inDB + "ip route replace default via 10.30.0.1 dev eth0"},
	{"web 10.30.0.3", func(p *picture.Picture) {
		web(p).Links[1].Addrs = append(web(p).Links[1].Addrs, netip.MustParsePrefix("10.30.0.3/24"))
	}, "duplicate-address", HopPeer, inWeb + "ip addr del 10.30.0.3/24 dev eth0"},
	{"outside web:80", func(p *picture.Picture) {
		p.Host.Neighbours = []picture.Neighbour{{Link: bridge, Addr: addr("10.30.0.2"), MAC: mac(dbMAC), Permanent: true}}
	}, "wrong-neighbour", HopBridge, "ip neigh del 10.30.0.2 dev br0"},
	{"db web", func(p *picture.Picture) { web(p).Sysctls["net/ipv4/icmp_echo_ignore_all"] = "1" }, "echo-ignored", HopContainer, inWeb + "sysctl -w net.ipv4.icmp_echo_ignore_all=0"},
	{"outside web:80", func(p *picture.Picture) {
		web(p).Sysctls["net/ipv4/conf/eth0/rp_filter"] = "1"
		web(p).Routes = append(web(p).Routes, picture.Route{Table: tableMain, Kind: picture.Unicast, Dst: netip.MustParsePrefix("192.0.2.0/24"), Link: lo})
	}, "rp-filter", HopContainer, inWeb + "sysctl -w net.ipv4.conf.eth0.rp_filter=0"},
	{"db nosuch.example", resolution(picture.Resolution{Asked: []netip.Addr{resolverAddr}, Unknown: true}), "name-unknown", HopContainer, "fairlead network connect --alias nosuch.example back CONTAINER"},
	{"db nosuch.example", resolution(picture.Resolution{Asked: []netip.Addr{resolverAddr}, Silent: []netip.Addr{resolverAddr}}), "dns-silent", HopContainer, "fairlead daemon --dns SERVER"},
	{"db nosuch.example", func(p *picture.Picture) {
		resolution(picture.Resolution{Asked: []netip.Addr{addr("127.0.0.9")}})(p)
		db(p).Nameservers = []netip.Addr{addr("127.0.0.9")}
	}, "resolv-conf-wrong", HopContainer, "fairlead exec db sh -c 'echo nameserver 127.0.0.11 > /etc/resolv.conf'"},
	{"db nosuch.example", func(p *picture.Picture) {
		resolution(picture.Resolution{Asked: []netip.Addr{resolverAddr}, Silent: []netip.Addr{resolverAddr}})(p)
		withoutTable(p)
	}, "resolver-cut-off", HopContainer, "fairlead restart db"},
}

func none(*picture.Picture) {}

func web(p *picture.Picture) *picture.Namespace { return p.Containers[0].Namespace }
func db(p *picture.Picture) *picture.Namespace  { return p.Containers[1].Namespace }

// withoutTable has the resolver of db on a port that nothing leads to.
func withoutTable(p *picture.Picture) {
	db(p).Nameservers = []netip.Addr{resolverAddr}
	db(p).Listeners = append(db(p).Listeners, picture.Listener{Proto: "udp", At: netip.AddrPortFrom(resolverAddr, 40000)})
}

func withoutDefault(p *picture.Picture) {
	db(p).Routes = slices.DeleteFunc(db(p).Routes, func(r picture.Route) bool { return r.Dst.Bits() == 0 })
}

func sysctl(key, value string) func(*picture.Picture) {
	return func(p *picture.Picture) { p.Host.Sysctls[key] = value }
}

func hostRoute(r picture.Route) func(*picture.Picture) {
	r.Table = tableMain
	return func(p *picture.Picture) { p.Host.Routes = append(p.Host.Routes, r) }
}

func port(change func(*picture.Link)) func(*picture.Picture) {
	return func(p *picture.Picture) { change(&p.Host.Links[webPort-1]) }
}

func gateway(a string) func(*picture.Picture) {
	return func(p *picture.Picture) {
		for i := range db(p).Routes {
			if r := &db(p).Routes[i]; r.Via == addr("10.30.0.1") {
				r.Via = addr(a)
			}
		}
	}
}

func resolution(r picture.Resolution) func(*picture.Picture) {
	return func(p *picture.Picture) { p.Resolutions["nosuch.example"] = r }
}

// TestCauses: each change is told with the hop and the command, and by itself.
func TestCauses(t *testing.T) {
	t.Parallel()
	for _, c := range causes {
		p := pictured()
		c.change(p)
		e, err := Explain(p, question(t, c.ask))
		if err != nil || e.Reachable || len(e.Causes) != 1 || e.Causes[0].Code != c.code {
			t.Errorf("%s: %v: %+v; want %s", c.ask, err, e.Causes, c.code)
			continue
		}
		first, _, _ := strings.Cut(append(e.Causes[0].Mend, "")[0], "  # ")
		if e.Stopped == nil || e.Stopped.Kind != c.hop || first != c.mend {
			t.Errorf("%s, %s: at %+v, mended by %q; want %s and %q", c.ask, c.code, e.Stopped, first, c.hop, c.mend)
		}
	}
}

// TestOurPolicy: what our own table drops is told as what was asked for, not as a rule.
func TestOurPolicy(t *testing.T) {
	t.Parallel()
	drop := func(p *picture.Picture, family uint8, hook netfilter.Hook) {
		p.Table = "fairlead"
		p.Host.Ruleset.Tables = append(p.Host.Ruleset.Tables, &netfilter.Table{
			Family: family, Name: "fairlead", Chains: map[string]*netfilter.Chain{"c": {Name: "c", Type: "filter", Hook: hook, Drop: true}},
		})
	}
	for _, c := range []struct {
		ask    string
		family uint8
		hook   netfilter.Hook
		change func(n *spec.Network)
		code   string
	}{
		{"db web:80", netfilter.FamilyBridge, netfilter.Forward, func(n *spec.Network) { n.ICC = false }, "icc-off"},
		{"db 192.0.2.9", netfilter.FamilyInet, netfilter.Forward, func(n *spec.Network) { n.Internal = true }, "internal-network"},
		{"db 192.0.2.9", netfilter.FamilyBridge, netfilter.Prerouting, func(*spec.Network) {}, "guard"},
		{"outside 10.30.0.2:80", netfilter.FamilyInet, netfilter.Forward, func(*spec.Network) {}, "not-published"},
	} {
		p := pictured()
		c.change(&p.Networks[0])
		drop(p, c.family, c.hook)
		e, err := Explain(p, question(t, c.ask))
		if err != nil || len(e.Causes) != 1 || e.Causes[0].Code != c.code {
			t.Errorf("%s: %v: %+v; want %s", c.ask, err, e.Causes, c.code)
		}
	}
}
