package trace

import (
	"net"
	"net/netip"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/trace/netfilter"
	"github.com/fairlead/fairlead/trace/picture"
)

// Indices of the links of pictured.
const (
	lo, eth0               = 1, 2
	uplink, bridge         = 2, 3
	webPort, dbPort        = 4, 5
	webIndex, dbIndex      = 14, 15
	rules4, rules6         = "ip", "ip6"
	webPath, dbPath        = "/netns/web", "/netns/db"
	webMAC, dbMAC, hostMAC = "02:42:0a:1e:00:02", "02:42:0a:1e:00:03", "02:42:0a:1e:00:01"
)

// saved are the rules of the picture's host, of iptables: source NAT, and a published port.
var saved = map[string]string{
	rules4: `*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -p tcp -m addrtype --dst-type LOCAL -m tcp --dport 8080 -j DNAT --to-destination 10.30.0.2:80
-A POSTROUTING -s 10.30.0.0/24 ! -o br0 -j MASQUERADE
COMMIT
*filter
:FORWARD ACCEPT [0:0]
COMMIT
`,
	rules6: `*nat
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -s fd00:30::/64 ! -o br0 -j MASQUERADE
COMMIT
`,
}

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

func mac(text string) net.HardwareAddr {
	m, err := net.ParseMAC(text)
	if err != nil {
		panic(err)
	}
	return m
}

// everybodysRules are those that every namespace begins with.
func everybodysRules() (out []picture.Rule) {
	for _, v6 := range []bool{false, true} {
		out = append(out,
			picture.Rule{Priority: 0, IPv6: v6, Table: tableLocal, Kind: picture.Unicast, Suppress: -1},
			picture.Rule{Priority: 32766, IPv6: v6, Table: tableMain, Kind: picture.Unicast, Suppress: -1})
	}
	return out
}

// routes are those that addresses bring along, and the default ones by gateways.
func routes(links []picture.Link, by int, gateways ...string) (out []picture.Route) {
	for _, l := range links {
		for _, p := range l.Addrs {
			out = append(out,
				picture.Route{Table: tableLocal, Kind: picture.Local, Dst: netip.PrefixFrom(p.Addr(), p.Addr().BitLen()), Link: l.Index},
				picture.Route{Table: tableMain, Kind: picture.Unicast, Dst: p.Masked(), Link: l.Index})
		}
	}
	for _, g := range gateways {
		a := netip.MustParseAddr(g)
		dst := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if a.Is6() {
			dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		out = append(out, picture.Route{Table: tableMain, Kind: picture.Unicast, Dst: dst, Via: a, Link: by})
	}
	return out
}

// stack is a container's namespace.
func stack(path string, index int, m string, addrs ...string) *picture.Namespace {
	links := []picture.Link{
		{Index: lo, Name: "lo", Up: true, Carrier: true, MTU: 65536, Addrs: prefixes("127.0.0.1/8", "::1/128")},
		{Index: eth0, Name: "eth0", Kind: "veth", MAC: mac(m), MTU: 1500, Peer: index, Up: true, Carrier: true, Addrs: prefixes(addrs...)},
	}
	return &picture.Namespace{
		Path: path, Links: links, Routes: routes(links, eth0, "10.30.0.1", "fd00:30::1"), Rules: everybodysRules(), Sysctls: map[string]string{"net/ipv4/ip_forward": "0"},
		Nameservers: []netip.Addr{resolverAddr},
	}
}

// pictured is a host with containers web and db on network back, and web's port 80 published
// as 8080; everything reaches everything.
func pictured() *picture.Picture {
	links := []picture.Link{
		{Index: lo, Name: "lo", Up: true, Carrier: true, MTU: 65536, Addrs: prefixes("127.0.0.1/8", "::1/128")},
		{Index: uplink, Name: "uplink", Up: true, Carrier: true, MTU: 1500, Addrs: prefixes("192.0.2.1/24", "2001:db8::1/64")},
		{Index: bridge, Name: "br0", Kind: "bridge", MAC: mac(hostMAC), MTU: 1500, Up: true, Carrier: true, Addrs: prefixes("10.30.0.1/24", "fd00:30::1/64")},
		{Index: webPort, Name: "veth1", Kind: "veth", Master: bridge, Peer: eth0, MTU: 1500, Up: true, Carrier: true},
		{Index: dbPort, Name: "veth2", Kind: "veth", Master: bridge, Peer: eth0, MTU: 1500, Up: true, Carrier: true},
	}
	p := &picture.Picture{
		Host: picture.Namespace{
			Links: links, Routes: routes(links, uplink), Rules: everybodysRules(), MaxTracked: 100,
			Sysctls:   map[string]string{"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"},
			Listeners: []picture.Listener{{Proto: "tcp", At: netip.MustParseAddrPort("0.0.0.0:8080"), Process: "fairlead", PID: 7}},
		},
		Networks: []spec.Network{{
			ID: "n1", Name: "back", Bridge: "br0", Masquerade: true, ICC: true, IPv4: true, IPv6: true,
			Subnets: []spec.Subnet{
				{Prefix: netip.MustParsePrefix("10.30.0.0/24"), Gateway: netip.MustParseAddr("10.30.0.1")},
				{Prefix: netip.MustParsePrefix("fd00:30::/64"), Gateway: netip.MustParseAddr("fd00:30::1")},
			},
		}},
		Resolutions: map[string]picture.Resolution{}, Firewall: "iptables", UserlandProxy: true,
	}
	ruleset(p, saved[rules4], saved[rules6])
	for _, c := range []struct {
		name, path, port, mac string
		index                 int
		addr4, addr6          string
	}{
		{"web", webPath, "veth1", webMAC, webPort, "10.30.0.2/24", "fd00:30::2/64"},
		{"db", dbPath, "veth2", dbMAC, dbPort, "10.30.0.3/24", "fd00:30::3/64"},
	} {
		p.Containers = append(p.Containers, picture.Container{
			ID: c.name + "0000", Name: c.name, Running: true, Status: "Up", Mode: "back", PID: 100 + c.index, Networks: []string{"back"},
			Namespace: stack(c.path, c.index, c.mac, c.addr4, c.addr6),
		})
		p.Attachments = append(p.Attachments, spec.Attachment{
			Sandbox: spec.Sandbox{ID: c.name + "0000", Path: c.path, Name: c.name},
			Endpoints: []spec.Endpoint{{
				NetworkID: "n1", Network: "back", Bridge: "br0", HostIf: c.port, Interface: "eth0", MAC: spec.HardwareAddr(mac(c.mac)),
				Addr4: netip.MustParsePrefix(c.addr4), Addr6: netip.MustParsePrefix(c.addr6),
				Gateway4: netip.MustParseAddr("10.30.0.1"), Gateway6: netip.MustParseAddr("fd00:30::1"),
			}},
		})
	}
	p.Host.Links[webPort-1].Peer, p.Host.Links[dbPort-1].Peer = webIndex, dbIndex
	p.Containers[0].Namespace.Links[1].Index, p.Containers[1].Namespace.Links[1].Index = webIndex, dbIndex
	for i, index := range []int{webIndex, dbIndex} {
		for j := range p.Containers[i].Namespace.Routes {
			if r := &p.Containers[i].Namespace.Routes[j]; r.Link == eth0 {
				r.Link = index
			}
		}
	}
	p.Containers[0].Namespace.Listeners = []picture.Listener{
		{Proto: "tcp", At: netip.MustParseAddrPort("[::]:80"), Dual: true, PID: 9, Process: "httpd"},
		{Proto: "tcp", At: netip.MustParseAddrPort("127.0.0.1:82")},
	}
	p.Attachments[0].Ports = []spec.PortBinding{{Proto: "tcp", Host: netip.MustParseAddrPort("0.0.0.0:8080"), Container: netip.MustParseAddrPort("10.30.0.2:80")}}
	return p
}

// ruleset gives the host other rules, of iptables-legacy.
func ruleset(p *picture.Picture, v4, v6 string) {
	p.Host.Ruleset.Tables = append(netfilter.ParseSaved(v4, netfilter.FamilyIPv4), netfilter.ParseSaved(v6, netfilter.FamilyIPv6)...)
}
