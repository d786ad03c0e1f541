package e2e

import (
	"net"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/fairlead/fairlead/internal/lab"
)

// apart is a network whose containers are kept apart.
const apart = "com.docker.network.bridge.enable_icc=false"

// TestAttackApart has a container with CAP_NET_RAW send what it may, by its own
// addresses, to a neighbour that it is kept apart from: nothing arrives, with the guard
// and without. Where containers may reach each other the same arrives.
//
// And it has one on a network without IPv6 be a router: nobody there gets an address by
// it, nor has one. (The same words are believed where TestAttackForgery is deceived, and
// here once IPv6 is turned on.)
//
// Rows 4 and 17.
func TestAttackApart(t *testing.T) {
	type stages struct{ on, kept, keptUnguarded, plain, plainUnguarded stage }
	attackedWith(t, nil, func(t *testing.T, r *attackRange) (all stages) {
		pair := func(network string, n byte, args ...string) stage {
			third := string(rune('0' + n))
			args = append(args, "--subnet", "10.11"+third+".0.0/24")
			r.Must(append(append([]string{"network", "create"}, args...), network)...)
			return newStage(t, r, network, r.idle("--network", network), r.idle("--network", network))
		}
		all.on = newStage(t, r, "A", r.a1, r.a2)
		all.on.alone = true
		for i, s := range []*stage{&all.kept, &all.keptUnguarded} {
			args := []string{"--ipv6", "--subnet", "fd00:11" + string(rune('0'+i)) + "::/64", "--opt", apart}
			if i == 1 {
				args = append(args, "--opt", unguarded)
			}
			*s = pair([]string{"N", "N-unguarded"}[i], byte(i), args...)
			s.alone = true
			for _, port := range []string{at("0.0.0.0", "80"), at("::", "80")} {
				s.to.serve("tcp", port)
				s.to.serve("udp", port)
			}
		}
		all.plain, all.plainUnguarded = pair("V", 2), pair("V-unguarded", 3, "--opt", unguarded)
		return all
	}, func(t *testing.T, r *attackRange, all stages) {
		all.on.perform(t, all.on.strange(), func(forgedFrame) bool { return true })
		apartStages(t, r, []stage{all.kept, all.keptUnguarded}, []stage{all.plain, all.plainUnguarded})
	})
}

// apartStages has nobody hear another where containers are kept apart, and a container that
// advertises itself heeded by nobody where there is no IPv6.
func apartStages(t *testing.T, r *attackRange, kept, plain []stage) {
	t.Helper()
	tests := map[string]func(*testing.T){}
	for _, s := range kept {
		tests[s.network] = func(t *testing.T) {
			s.perform(t, s.strange(), func(forgedFrame) bool { return false })
			var pairs [][2]lab.Probe
			for _, proto := range []string{"tcp", "udp"} {
				for _, addr := range []string{at(s.victim.v4, "80"), at(s.victim.v6, "80")} {
					pairs = append(pairs, [2]lab.Probe{from(s.from.Host, proto, addr), from(r.host, proto, addr)})
				}
			}
			barred(t, pairs...)
		}
	}
	for _, s := range plain {
		tests[s.network] = s.withoutIPv6
	}
	together(t, tests)
}

// strange are frames of every kind, under the sender's own addresses.
func (s stage) strange() []forgedFrame {
	out := []forgedFrame{
		s.arp("an ARP question", "", everybody, arp(false, s.me.mac, s.me.v4, nil6, s.victim.v4)),
		s.arp("an ARP answer", "", s.victim.mac, arp(true, s.me.mac, s.me.v4, s.victim.mac, s.victim.v4)),
	}
	for _, to := range []net.HardwareAddr{s.victim.mac, everybody, toNodes} {
		for _, typ := range []layers.EthernetType{lab.EtherTypeTest, 0x8035, layers.EthernetTypePPPoEDiscovery, 0x0100} {
			text := []byte(forgedText())
			out = append(out, forgedFrame{what: "type " + typ.String(), frame: ether(s.me.mac, to, typ, text), mark: text})
		}
		text := []byte(forgedText())
		out = append(out, forgedFrame{what: "a VLAN's frame", frame: ether(s.me.mac, to, layers.EthernetTypeDot1Q, append([]byte{0, 5, 0x88, 0xb5}, text...)), mark: text})
	}
	return append(out,
		s.packet("a datagram", "", s.victim.mac, ip(s.me.v4, s.victim.v4, layers.IPProtocolUDP, udp(s.me.v4, s.victim.v4, 4000, 80, forgedText()))),
		s.packet("a datagram by IPv6", "", s.victim.mac, ip(s.me.v6, s.victim.v6, layers.IPProtocolUDP, udp(s.me.v6, s.victim.v6, 4000, 80, forgedText()))),
		s.packet("a SYN", "", s.victim.mac, ip(s.me.v4, s.victim.v4, layers.IPProtocolTCP, opening(forgedText()))),
		s.packet("a SYN by IPv6", "", s.victim.mac, ip(s.me.v6, s.victim.v6, layers.IPProtocolTCP, opening(forgedText()))))
}

// opening opens a TCP connection to port 80, and carries a text. It has no checksum, which
// an ear does not want.
func opening(text string) []byte {
	const port, flagSYN, words = 80, 0x02, 5
	head := make([]byte, 4*words)
	head[0], head[3], head[12], head[13] = 4, port, words<<4, flagSYN
	return append(head, text...)
}

// withoutIPv6 has the container advertise itself as a router where there is no IPv6.
func (s stage) withoutIPv6(t *testing.T) {
	t.Helper()
	local := linkLocalOf(s.me.mac)
	advert := s.packet("a router advertisement", reasonIPv6, toNodes, ip(local, allNodes, layers.IPProtocolICMPv6,
		icmp6(local, allNodes, layers.ICMPv6TypeRouterAdvertisement, routerAdvert(s.me.mac, "2001:db8:bad::"))))
	routes := s.routesOf(s.r.host.Run("ip", "-6", "route"))
	if s.network == "V" {
		s.guarded(t, []forgedFrame{advert})
	} else {
		s.open(t, []forgedFrame{advert})
	}
	for h, dev := range map[*lab.Host]string{s.to.Host: "eth0", s.from.Host: "eth0", s.r.host: s.bridge} {
		if out := strings.TrimSpace(h.Run("ip", "-6", "-o", "addr", "show", "dev", dev)); out != "" {
			t.Errorf("on %s, without IPv6: %s of %s has %s", s.network, dev, h.Name(), out)
		}
	}
	if now := s.routesOf(s.r.host.Run("ip", "-6", "route")); now != routes {
		t.Errorf("on %s, without IPv6: the host's routes were\n%s\nand are now\n%s", s.network, routes, now)
	}
	if s.network == "V" {
		return
	}
	// The control: the words would be heeded.
	s.to.Sysctl("net.ipv6.conf.eth0.accept_ra", "1")
	s.to.Sysctl("net.ipv6.conf.eth0.disable_ipv6", "0")
	eventually(t, "a router's words are heeded once there is IPv6", func() bool {
		s.say(t, advert)
		return strings.Contains(s.to.Run("ip", "-6", "addr", "show", "dev", "eth0"), "2001:db8:bad:")
	})
	s.to.Sysctl("net.ipv6.conf.eth0.disable_ipv6", "1")
}
