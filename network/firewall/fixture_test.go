package firewall_test

import (
	"net/netip"

	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
)

func networks() []spec.Network {
	nets := []spec.Network{
		{Name: "bridge", Bridge: "fairlead0", Masquerade: true, ICC: true, Subnets: []spec.Subnet{{Prefix: pfx("172.17.0.0/16"), Gateway: netip.MustParseAddr("172.17.0.1")}}},
		{Name: "dual", Bridge: "br-dual", Masquerade: true, ICC: true, Subnets: []spec.Subnet{{Prefix: pfx("172.18.0.0/16")}, {Prefix: pfx("fd00:18::/64")}}},
		{Name: "internal", Bridge: "br-internal", Internal: true, Masquerade: true, ICC: true, Subnets: []spec.Subnet{{Prefix: pfx("10.9.0.0/24")}}},
		{Name: "routed", Bridge: "br-routed", ICC: true, Subnets: []spec.Subnet{{Prefix: pfx("10.10.0.0/24")}}},
		{Name: "host's own", Bridge: "bridge0", Foreign: true, Masquerade: true, ICC: true, Subnets: []spec.Subnet{{Prefix: pfx("192.168.10.0/24")}}},
		{Name: "routed by name", Bridge: "br-plain", Masquerade: true, ICC: true, Gateway4: spec.GatewayRouted, Gateway6: spec.GatewayNATUnprotected, Subnets: []spec.Subnet{{Prefix: pfx("10.12.0.0/24")}, {Prefix: pfx("fd00:12::/64")}}},
		{Name: "isolated in IPv6", Bridge: "br-half", Masquerade: true, ICC: true, Gateway6: spec.GatewayIsolated, Outbound4: netip.MustParseAddr("192.0.2.9"), Trusted: []string{"eth1", "wg0", "eth1"}, Subnets: []spec.Subnet{{Prefix: pfx("10.13.0.0/24")}, {Prefix: pfx("fd00:13::/64")}}},
		{Name: "no gateway, apart", Bridge: "br-bare", Masquerade: true, Subnets: []spec.Subnet{{Prefix: pfx("10.11.0.0/24")}}},
	}
	for i := range nets {
		nets[i].ID = nets[i].Bridge
	}
	return nets
}

func attachments() []spec.Attachment {
	return []spec.Attachment{
		{Ports: []spec.PortBinding{
			{Proto: spec.TCP, Host: ap("0.0.0.0:8080"), Container: ap("172.18.0.2:80")},
			{Proto: spec.TCP, Host: ap("[::]:8080"), Container: ap("[fd00:18::2]:80")},
		}},
		{Ports: []spec.PortBinding{
			{Proto: spec.UDP, Host: ap("192.0.2.1:53"), Container: ap("172.17.0.2:53")},
			{Proto: spec.UDP, Host: ap("[2001:db8::1]:53"), Container: ap("[fd00:18::3]:53")},
		}},
		{Ports: []spec.PortBinding{
			{Proto: spec.TCP, Host: ap("127.0.0.1:81"), Container: ap("172.17.0.3:80")},
			{Proto: spec.TCP, Host: ap("[::1]:81"), Container: ap("[fd00:18::3]:80")},
			{Proto: spec.TCP, Host: ap("[::]:82"), Container: ap("172.17.0.3:80")},
			{Proto: spec.TCP, Host: ap("[2001:db8::1]:83"), Container: ap("172.17.0.3:80")},
		}},
		{},
	}
}

func backend(table string) firewall.NFTables { return firewall.NFTables{Table: table} }

// members are attachments on no network in particular.
func members(attachments ...spec.Attachment) []firewall.Member {
	var out []firewall.Member
	for _, a := range attachments {
		out = append(out, firewall.Member{Attachment: a})
	}
	return out
}

// fullMembers are attachments on networks(), of every kind that has elements of its
// own.
func fullMembers() []firewall.Member {
	out := members(attachments()...)
	byID := map[string]spec.Network{}
	for _, n := range networks() {
		byID[n.ID] = n
	}
	on := func(bridge, port, addr4, addr6 string, bindings ...spec.PortBinding) firewall.Member {
		e := spec.Endpoint{NetworkID: bridge, Bridge: bridge, HostIf: port, MAC: spec.HardwareAddr{2, 0x42, 0, 0, 0, port[len(port)-1] - '0'}}
		if addr4 != "" {
			e.Addr4 = pfx(addr4)
		}
		if addr6 != "" {
			e.Addr6 = pfx(addr6)
		}
		return firewall.Member{Networks: byID, Attachment: spec.Attachment{Endpoints: []spec.Endpoint{e}, Ports: bindings}}
	}
	permit := firewall.Permit{
		From: netip.MustParseAddr("10.11.0.2"), To: netip.MustParseAddr("10.11.0.3"), Proto: spec.TCP, Port: 80, FromIf: "veth1", ToIf: "veth2",
	}
	apart := []firewall.Member{on("br-bare", "veth1", "10.11.0.2/24", ""), on("br-bare", "veth2", "10.11.0.3/24", "")}
	for i := range apart {
		apart[i].Permits = []firewall.Permit{permit}
	}
	apart[0].Endpoints[0].LinkLocal = []netip.Addr{netip.MustParseAddr("169.254.0.7"), netip.MustParseAddr("fe80::7")}
	var ports []spec.PortBinding
	for port := uint16(8000); port < 8100; port++ {
		for host, container := range map[string]string{"0.0.0.0": "10.12.0.2", "::": "fd00:12::2"} {
			ports = append(ports, spec.PortBinding{
				Proto: spec.TCP, Host: netip.AddrPortFrom(netip.MustParseAddr(host), port), Container: netip.AddrPortFrom(netip.MustParseAddr(container), port),
			})
		}
	}
	ports = append(ports, spec.PortBinding{Proto: spec.UDP, Host: ap("0.0.0.0:5353"), Container: ap("10.12.0.2:53")})
	return append(append(out, apart...), on("br-plain", "veth3", "10.12.0.2/24", "fd00:12::2/64", ports...))
}
