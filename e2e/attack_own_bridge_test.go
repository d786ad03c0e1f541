package e2e

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/fairlead/fairlead/internal/craft"
	"github.com/fairlead/fairlead/internal/lab"
)

// TestAttackOwnBridge is on a bridge of the host's own whose containers are kept apart.
// Two that may give themselves addresses and routes do not find each other by these, by
// the gateway either; where nobody guards them they do. The bridge believes no sender. And
// the addresses that containers make of a prefix of the user's own router are theirs.
//
// Rows 3 and 4.
func TestAttackOwnBridge(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	neighbour := s.ownBridge()
	s.startOn(nftables, "--bridge", "bridge0", "--ipv6", "--icc=false")
	c1, c2 := s.idle(), s.idle()
	u1, u2 := s.idle("--network", "name=bridge,driver-opt="+unguarded), s.idle("--network", "name=bridge,driver-opt="+unguarded)

	var pairs [][2]lab.Probe
	for i, p := range [][2]box{{c1, c2}, {u1, u2}} {
		from4, to4 := "192.168.10.10"+string(rune('0'+2*i)), "192.168.10.10"+string(rune('1'+2*i))
		from6, to6 := "fd00:10::10"+string(rune('0'+2*i)), "fd00:10::10"+string(rune('1'+2*i))
		for _, end := range []struct {
			box
			own4, other4, own6, other6 string
		}{{p[0], from4, to4, from6, to6}, {p[1], to4, from4, to6, from6}} {
			// The host says that there is a shorter way, which is barred.
			end.Sysctl("net.ipv4.conf.all.accept_redirects", "0")
			end.Sysctl("net.ipv4.conf.eth0.accept_redirects", "0")
			end.Sysctl("net.ipv6.conf.eth0.accept_redirects", "0")
			end.Run("ip", "addr", "add", end.own4+"/32", "dev", "eth0")
			end.Run("ip", "addr", "add", end.own6+"/128", "dev", "eth0", "nodad")
			end.Run("ip", "route", "add", end.other4+"/32", "via", own4, "src", end.own4)
			end.Run("ip", "-6", "route", "add", end.other6+"/128", "via", own6, "src", end.own6)
		}
		p[1].serve("tcp", at("0.0.0.0", "80"))
		p[1].serve("tcp", at("::", "80"))
		pairs = append(pairs, [2]lab.Probe{from(p[0].Host, "tcp", at(to4, "80")), from(p[0].Host, "tcp", at(to6, "80"))})
	}
	barred(t, [2]lab.Probe{pairs[0][0], pairs[1][0]}, [2]lab.Probe{pairs[0][1], pairs[1][1]})

	// The bridge knows where they are, and is told nothing else.
	of := func(b box) (party, string) {
		p := partyOf(t, b.Host, b.addr4)
		return p, portOf(strings.ReplaceAll(s.host.Run("bridge", "fdb", "show", "br", "bridge0"), "permanent", ""), p.mac.String())
	}
	p2, port := of(c2)
	if port == "unknown" {
		t.Errorf("the bridge does not know where %s is", p2.mac)
	}
	var wire *craft.Wire
	if err := c1.Do(func() (err error) { wire, err = craft.Open("eth0"); return err }); err != nil {
		t.Fatal(err)
	}
	defer wire.Close()
	lldp := forgedFrame{what: "LLDP", frame: ether(p2.mac, linkLocalGroup, layers.EthernetTypeLinkLayerDiscovery, make([]byte, 46))}
	lldp.send(t, wire)
	if _, now := of(c2); now != port {
		t.Errorf("the bridge takes %s for that of c1 by a frame of LLDP: behind %s, before %s", p2.mac, now, port)
	}
	s.robbedByTheNeighbour(t, neighbour, c1)
	s.routedByTheUser(t, neighbour, c1)
	s.consistent()
}

// robbedByTheNeighbour has a machine behind an uplink of the bridge send under the
// container's hardware address, and as a neighbour whom the bridge does not know, the
// control. The first is not believed; and no port of ours leads to a root bridge.
func (s *site) robbedByTheNeighbour(t *testing.T, neighbour *lab.Host, c box) {
	t.Helper()
	var wire *craft.Wire
	if err := neighbour.Do(func() (err error) { wire, err = craft.Open("eth0"); return err }); err != nil {
		t.Fatal(err)
	}
	defer wire.Close()
	mac, nobody := partyOf(t, c.Host, c.addr4).mac, net.HardwareAddr{2, 0x66, 0, 0, 0, 1}
	behind := func(mac net.HardwareAddr) string {
		return portOf(strings.ReplaceAll(s.host.Run("bridge", "fdb", "show", "br", "bridge0"), "permanent", ""), mac.String())
	}
	before := behind(mac)
	for _, from := range []net.HardwareAddr{mac, nobody} {
		forgedFrame{what: "a stolen address", frame: ether(from, everybody, 0x88b5, make([]byte, 46))}.send(t, wire)
	}
	uplink := ""
	eventually(t, "the bridge learns where a neighbour is", func() bool { uplink = behind(nobody); return uplink != "unknown" })
	if now := behind(mac); now != before || now == uplink {
		t.Errorf("the bridge takes %s for that of a neighbour: behind %s, before %s", mac, now, before)
	}
	lab.Reachable(t, neighbour, "icmp", c.addr4.String())
	if port := s.host.Run("bridge", "-d", "link", "show", "dev", before); !strings.Contains(port, "root_block on") {
		t.Errorf("the root bridge may be behind a container's port:\n%s", port)
	}
}

// routedByTheUser has the neighbour be the router of the user's own bridge.
func (s *site) routedByTheUser(t *testing.T, neighbour *lab.Host, c box) {
	t.Helper()
	const prefix, router = "2001:db8:5::", "2001:db8:5::200"
	neighbour.Run("ip", "-6", "addr", "add", router+"/64", "dev", "eth0", "nodad")
	p := partyOf(t, neighbour, netip.MustParseAddr("192.168.10.200"))
	local := linkLocalOf(p.mac)
	advert := ip(local, allNodes, layers.IPProtocolICMPv6, icmp6(local, allNodes, layers.ICMPv6TypeRouterAdvertisement, routerAdvert(p.mac, prefix)))
	var wire *craft.Wire
	if err := neighbour.Do(func() (err error) { wire, err = craft.Open("eth0"); return err }); err != nil {
		t.Fatal(err)
	}
	defer wire.Close()
	// To the container alone: the host's bridge would make itself an address, too.
	mac := partyOf(t, c.Host, c.addr4).mac
	id := linkLocalOf(mac).As16()
	made := netip.MustParseAddr(prefix).As16()
	copy(made[8:], id[8:])
	own := netip.AddrFrom16(made).String()
	eventually(t, "a container heeds the router of the user's own bridge", func() bool {
		forgedFrame{what: "a router advertisement", frame: ether(p.mac, mac, layers.EthernetTypeIPv6, advert)}.send(t, wire)
		return strings.Contains(c.Run("ip", "-6", "-o", "addr"), own)
	})
	lab.Reachable(t, neighbour, "icmp", own)
	if r := c.Try("ping", "-n", "-c3", "-W5", "-I", own, router); r.Code != 0 {
		t.Errorf("the router does not answer the address that the container made: %s%s", r.Stdout, r.Stderr)
	}
}
