package firewall_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
)

// apart is a site with a network whose containers are kept apart, and one whose are
// not:
//
//	a, b, c on br-x 172.20.0.{2,3,4}, fd00:20::{2,3,4}; a is linked to b, port 80
//	app, web on br-a 172.18.0.{2,3}
//
// Port 80 of b and c is published, on 8002 and 8003.
type apart struct {
	*site
	a, b, c, web, app *lab.Host
}

// member is one container of br-x.
func (s *apart) member(name string, n int, permits ...firewall.Permit) firewall.Member {
	four := netip.AddrFrom4([4]byte{172, 20, 0, byte(n)})
	six := netip.AddrFrom16([16]byte{0: 0xfd, 3: 0x20, 15: byte(n)})
	m := firewall.Member{
		Networks: map[string]spec.Network{"br-x": s.policy.Networks[0]}, Permits: permits,
		Attachment: spec.Attachment{Sandbox: spec.Sandbox{ID: name}, Endpoints: []spec.Endpoint{{
			NetworkID: "br-x", Bridge: "br-x", HostIf: "v" + name, Interface: "eth0",
			Addr4: netip.PrefixFrom(four, 24), Addr6: netip.PrefixFrom(six, 64), Spoofing: true,
		}}},
	}
	for _, proto := range []spec.Proto{spec.TCP, spec.UDP} {
		for host, container := range map[string]netip.Addr{"0.0.0.0": four, "[::]": six} {
			m.Ports = append(m.Ports, spec.PortBinding{Proto: proto, Host: ap(host + ":800" + string(rune('0'+n))), Container: netip.AddrPortFrom(container, 80)})
		}
	}
	return m
}

// link permits what a link from vFROM at 172.20.0.from and fd00:20::from to port 80
// of another does.
func link(from string, n int, to string, m int) []firewall.Permit {
	var out []firewall.Permit
	for _, pair := range [][2]netip.Addr{
		{netip.AddrFrom4([4]byte{172, 20, 0, byte(n)}), netip.AddrFrom4([4]byte{172, 20, 0, byte(m)})},
		{netip.AddrFrom16([16]byte{0: 0xfd, 3: 0x20, 15: byte(n)}), netip.AddrFrom16([16]byte{0: 0xfd, 3: 0x20, 15: byte(m)})},
	} {
		for _, proto := range []spec.Proto{spec.TCP, spec.UDP} {
			out = append(out, firewall.Permit{From: pair[0], To: pair[1], Proto: proto, Port: 80, FromIf: "v" + from, ToIf: "v" + to, Bridge: "br-x"})
		}
	}
	return out
}

func newApart(t *testing.T, brNetfilter bool) *apart {
	return newApartOn(t, brNetfilter, false)
}

// newApartOn has br-x be the host's own, or not.
func newApartOn(t *testing.T, brNetfilter, foreign bool) *apart {
	t.Helper()
	s := &apart{site: newHosts(t)}
	s.brNetfilter(brNetfilter)
	s.policy.Networks = []spec.Network{s.network("br-x", "172.20.0", "fd00:20:"), s.network("br-a", "172.18.0", "fd00:18:")}
	s.policy.Networks[0].ICC, s.policy.Networks[0].Foreign = false, foreign
	if foreign {
		s.host.Run("ip", "link", "set", "br-x", "group", "0")
	}
	// Policy stands before the first port is there.
	s.replace(t)
	permits := link("a", 2, "b", 3)
	for _, m := range []firewall.Member{s.member("a", 2, permits...), s.member("b", 3, permits...), s.member("c", 4)} {
		s.apply(t, s.backend().AddMember(m))
	}
	s.a = s.plug("a", "br-x", "172.20.0", "fd00:20:", 2)
	s.b = s.plug("b", "br-x", "172.20.0", "fd00:20:", 3)
	s.c = s.plug("c", "br-x", "172.20.0", "fd00:20:", 4)
	s.app = s.plug("app", "br-a", "172.18.0", "fd00:18:", 2)
	s.web = s.plug("web", "br-a", "172.18.0", "fd00:18:", 3)
	for _, h := range []*lab.Host{s.a, s.b} {
		for _, proto := range []string{"tcp", "udp"} {
			h.Listen(proto, "0.0.0.0:81")
			h.Listen(proto, "[::]:81")
		}
	}
	return s
}

// barred checks that the target, which the host reaches, is not reached.
func (s *apart) barred(t *testing.T, from *lab.Host, proto, target string) {
	t.Helper()
	lab.Unreachable(t, from, proto, target, lab.Probe{From: s.host, Proto: proto, Addr: target})
}

func TestKeptApart(t *testing.T) {
	withAndWithoutBrNetfilter(t, func(t *testing.T, on bool) {
		s := newApart(t, on)
		bar := s.tries(t)
		for _, proto := range []string{"tcp", "udp"} {
			// What the link opens, and what is not in its way.
			seen(t, s.a, proto, "172.20.0.3:80", "b", "172.20.0.2")
			seen(t, s.a, proto, "[fd00:20::3]:80", "b", "fd00:20::2")
			seen(t, s.app, proto, "172.18.0.3:80", "web", "172.18.0.2")
			// Published ports, also one's own.
			for _, from := range []*lab.Host{s.a, s.c} {
				seen(t, from, proto, "198.51.100.1:8004", "c", "172.20.0.1")
				seen(t, from, proto, "[2001:db8:1::1]:8004", "c", "fd00:20::1")
				seen(t, from, proto, "172.20.0.1:8004", "c", "172.20.0.1")
				seen(t, from, proto, "198.51.100.1:8003", "b", "172.20.0.1")
			}
			seen(t, s.outside, proto, "198.51.100.1:8004", "c", "198.51.100.2")
			seen(t, s.app, proto, "198.51.100.1:8004", "c", "172.20.0.1")
			// Not by another port, nor the other way, nor by another.
			bar(s.a, proto, "172.20.0.3:81")
			bar(s.a, proto, "[fd00:20::3]:81")
			bar(s.b, proto, "172.20.0.2:80")
			bar(s.b, proto, "[fd00:20::2]:80")
			bar(s.c, proto, "172.20.0.3:80")
			bar(s.c, proto, "[fd00:20::3]:80")
			bar(s.a, proto, "172.20.0.4:80")
		}
		bar(s.a, "icmp", "172.20.0.3")
		bar(s.a, "icmp", "fd00:20::4")
		// Out, and the host, as ever.
		seen(t, s.a, "tcp", "198.51.100.2:7", "outside", "198.51.100.1")
		seen(t, s.a, "tcp", "172.20.0.1:7", "host", "172.20.0.2")
		seen(t, s.a, "tcp", "[fd00:20::1]:7", "host", "fd00:20::2")
	})
}

// Not by way of the gateway either: a container may write routes of its own.
func TestKeptApartByTheGateway(t *testing.T) {
	withAndWithoutBrNetfilter(t, func(t *testing.T, on bool) {
		s := newApart(t, on)
		bar := s.tries(t)
		for _, from := range []*lab.Host{s.a, s.c} {
			for _, n := range []string{"2", "3", "4"} {
				from.Run("ip", "route", "replace", "172.20.0."+n+"/32", "via", "172.20.0.1")
				from.Run("ip", "-6", "route", "replace", "fd00:20::"+n+"/128", "via", "fd00:20::1")
			}
		}
		for _, proto := range []string{"tcp", "udp"} {
			bar(s.a, proto, "172.20.0.4:80")
			bar(s.a, proto, "[fd00:20::4]:80")
			bar(s.c, proto, "172.20.0.3:80")
			bar(s.c, proto, "[fd00:20::3]:80")
		}
	})
}

// A link holds from the first packet to the last, and follows a container that comes
// back with another address.
func TestLinkMoves(t *testing.T) {
	withAndWithoutBrNetfilter(t, func(t *testing.T, on bool) {
		s := newApart(t, on)
		seen(t, s.a, "tcp", "172.20.0.3:80", "b", "172.20.0.2")
		permits := link("a", 2, "b", 3)
		s.apply(t, s.backend().RemoveMember(s.member("b", 3, permits...)))
		moved := link("a", 2, "d", 5)
		s.apply(t, s.backend().AddMember(s.member("d", 5, moved...)))
		s.plug("d", "br-x", "172.20.0", "fd00:20:", 5)
		for _, proto := range []string{"tcp", "udp"} {
			seen(t, s.a, proto, "172.20.0.5:80", "d", "172.20.0.2")
			seen(t, s.a, proto, "[fd00:20::5]:80", "d", "fd00:20::2")
			s.barred(t, s.c, proto, "172.20.0.5:80")
		}
		// a's own end takes everything along.
		s.apply(t, s.backend().RemoveMember(s.member("a", 2, moved...)).Then(s.backend().AddMember(s.member("a", 2))))
		s.barred(t, s.a, "udp", "172.20.0.5:80")
	})
}

// ethernet is the MAC address of an interface.
func ethernet(t *testing.T, h *lab.Host, name string) (mac net.HardwareAddr) {
	t.Helper()
	err := h.Do(func() error {
		i, err := net.InterfaceByName(name)
		if err == nil {
			mac = i.HardwareAddr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return mac
}

// Nor is there anything below IP: no frame passes, to one or to all, whatever it says
// that it carries.
func TestFramesKeptApart(t *testing.T) {
	withAndWithoutBrNetfilter(t, func(t *testing.T, on bool) {
		s := newApart(t, on)
		all := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		group := net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
		arp := arpRequest(netip.MustParseAddr("172.20.0.3"), netip.MustParseAddr("172.20.0.4"))
		for _, frame := range []struct {
			what      string
			to        net.HardwareAddr // nil is the other's own
			etherType uint16
			payload   []byte
		}{
			{"unknown", nil, lab.EtherTypeTest, []byte("a word or two")},
			{"unknown, to all", all, lab.EtherTypeTest, []byte("a word or two")},
			{"unknown, to a group", group, lab.EtherTypeTest, []byte("a word or two")},
			{"IPv4", nil, 0x0800, []byte("a word or two")},
			{"IPv6", nil, 0x86dd, []byte("a word or two")},
			{"802.1Q", nil, 0x8100, []byte("\x00\x05\x88\xb5a word or two")},
			{"ARP", all, 0x0806, arp},
			{"ARP to one", nil, 0x0806, arp},
		} {
			try := func(from, to *lab.Host) bool {
				ear := to.Frames("eth0")
				defer ear.Close()
				dest := frame.to
				if dest == nil {
					dest = ethernet(t, to, "eth0")
				}
				from.SendFrame("eth0", dest, frame.etherType, frame.payload)
				return len(ear.Missing([]string{string(frame.payload[4:])}, 200*time.Millisecond)) == 0 // a socket does not show the tag
			}
			// br_netfilter itself drops what is no packet.
			if (!on || frame.etherType != 0x0800 && frame.etherType != 0x86dd) && !try(s.app, s.web) {
				t.Errorf("%s: control: it does not pass where nothing bars the way", frame.what)
			}
			for _, pair := range [][2]*lab.Host{{s.b, s.c}, {s.c, s.b}, {s.a, s.c}} {
				if try(pair[0], pair[1]) {
					t.Errorf("%s: it passes from %s to %s", frame.what, pair[0].Name(), pair[1].Name())
				}
			}
			// Between linked containers ARP alone passes, under one's own address.
			if got, want := try(s.b, s.a), frame.etherType == 0x0806; got != want {
				t.Errorf("%s: between linked containers it passes: %v, want %v", frame.what, got, want)
			}
			if try(s.a, s.b) {
				t.Errorf("%s: it passes between linked containers, as from an address that the sender has not", frame.what)
			}
		}
	})
}

// arpRequest asks who has the address (RFC 826), as from one that may not be one's own.
func arpRequest(from, to netip.Addr) []byte {
	b := []byte{0, 1, 8, 0, 6, 4, 0, 1, 2, 0x42, 1, 2, 3, 4}
	b = append(b, from.AsSlice()...)
	return append(append(b, 0, 0, 0, 0, 0, 0), to.AsSlice()...)
}

// A link is for its container, not for another that writes its address into packets,
// sent to the neighbour or to the gateway.
func TestLinkIsNotBorrowed(t *testing.T) {
	withAndWithoutBrNetfilter(t, func(t *testing.T, on bool) {
		s := newApart(t, on)
		const text = "under whose name"
		bridge := ethernet(t, s.host, "br-x")
		// The host has found its neighbour by then.
		seen(t, s.host, "tcp", "172.20.0.3:80", "b", "172.20.0.1")
		seen(t, s.host, "tcp", "[fd00:20::3]:80", "b", "fd00:20::1")
		for name, packet := range map[string]struct {
			etherType uint16
			bytes     []byte
		}{
			"IPv4": {0x0800, datagram(netip.MustParseAddr("172.20.0.2"), netip.MustParseAddr("172.20.0.3"), 80, text)},
			"IPv6": {0x86dd, datagram(netip.MustParseAddr("fd00:20::2"), netip.MustParseAddr("fd00:20::3"), 80, text)},
		} {
			try := func(from *lab.Host, to net.HardwareAddr) bool {
				ear := s.b.Frames("eth0")
				defer ear.Close()
				from.SendFrame("eth0", to, packet.etherType, packet.bytes)
				return len(ear.Missing([]string{text}, 300*time.Millisecond)) == 0
			}
			if !try(s.a, ethernet(t, s.b, "eth0")) {
				t.Errorf("%s: control: the linked container's own datagram does not pass", name)
			}
			if !try(s.a, bridge) {
				t.Errorf("%s: control: the linked container's own datagram does not pass by the gateway", name)
			}
			for to, mac := range map[string]net.HardwareAddr{"the neighbour": ethernet(t, s.b, "eth0"), "the gateway": bridge} {
				if try(s.c, mac) {
					t.Errorf("%s: by %s another's datagram passes under the address of the linked container", name, to)
				}
			}
		}
	})
}

// A datagram that is sent in pieces is judged by the first.
func TestLinkTakesFragments(t *testing.T) {
	withAndWithoutBrNetfilter(t, func(t *testing.T, on bool) {
		s := newApart(t, on)
		answered := func(target string) bool {
			c, err := s.a.Dial("udp", target, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for range 3 { // the first may wait for the neighbour's address, and be dropped for its length
				if _, err = c.Write(make([]byte, 5000)); err != nil {
					t.Fatal(err)
				}
				_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
				if _, err = c.Read(make([]byte, 100)); err == nil {
					return true
				}
			}
			return false
		}
		for _, host := range []string{"172.20.0.3", "[fd00:20::3]"} {
			if !answered(host + ":80") {
				t.Errorf("a long datagram to %s does not pass the link", host)
			}
			if answered(host + ":81") {
				t.Errorf("a long datagram to %s passes to a port that the link does not open", host)
			}
		}
	})
}

// What comes from a port that a link opens is an answer: it does not begin a TCP
// connection. (Where br_netfilter is on, connection tracking knows more.)
func TestAnswersOpenNothing(t *testing.T) {
	t.Parallel()
	for _, foreign := range []bool{false, true} {
		s := newApartOn(t, false, foreign)
		s.answersOpenNothing(t, ethernet(t, s.a, "eth0"))
		if foreign { // where the bridge's table decides on this, too
			seen(t, s.host, "tcp", "172.20.0.2:81", "a", "172.20.0.1")
			seen(t, s.host, "tcp", "[fd00:20::2]:81", "a", "fd00:20::1")
			s.answersOpenNothing(t, ethernet(t, s.host, "br-x"))
		}
	}
}

// answersOpenNothing has b send segments to a, by the hardware address.
func (s *apart) answersOpenNothing(t *testing.T, by net.HardwareAddr) {
	t.Helper()
	const syn, synAck, ack = 0x02, 0x12, 0x10
	for etherType, ends := range map[uint16][2]string{0x0800: {"172.20.0.3", "172.20.0.2"}, 0x86dd: {"fd00:20::3", "fd00:20::2"}} {
		for flags, want := range map[byte]bool{syn: false, synAck: true, ack: true} {
			ear := s.a.Frames("eth0")
			const text = "from port 80"
			s.b.SendFrame("eth0", by, etherType, packet(netip.MustParseAddr(ends[0]), netip.MustParseAddr(ends[1]), unix.IPPROTO_TCP, segment(80, 81, flags, text)))
			if got := len(ear.Missing([]string{text}, 300*time.Millisecond)) == 0; got != want {
				t.Errorf("%#04x: a segment to %s with flags %#02x passes: %v, want %v", etherType, by, flags, got, want)
			}
			ear.Close()
		}
	}
}

// segment is one of TCP, without a checksum, which an ear does not want.
func segment(from, to uint16, flags byte, text string) []byte {
	b := make([]byte, 20, 20+len(text))
	binary.BigEndian.PutUint16(b, from)
	binary.BigEndian.PutUint16(b[2:], to)
	b[12], b[13] = 5<<4, flags
	return append(b, text...)
}

// datagram is a UDP packet from port 4000, without a checksum, which IPv6 wants and an
// ear does not.
func datagram(from, to netip.Addr, port uint16, text string) []byte {
	udp := make([]byte, 8, 8+len(text))
	binary.BigEndian.PutUint16(udp, 4000)
	binary.BigEndian.PutUint16(udp[2:], port)
	binary.BigEndian.PutUint16(udp[4:], uint16(8+len(text)))
	return packet(from, to, unix.IPPROTO_UDP, append(udp, text...))
}

// packet is one of IPv4 (RFC 791) or IPv6 (RFC 8200).
func packet(from, to netip.Addr, proto byte, content []byte) []byte {
	if from.Is6() {
		head := make([]byte, 8, 40)
		head[0], head[6], head[7] = 0x60, proto, 64
		binary.BigEndian.PutUint16(head[4:], uint16(len(content)))
		return append(append(append(head, from.AsSlice()...), to.AsSlice()...), content...)
	}
	head := make([]byte, 12, 20)
	head[0], head[8], head[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(head[2:], uint16(20+len(content)))
	head = append(append(head, from.AsSlice()...), to.AsSlice()...)
	var sum uint32
	for i := 0; i < len(head); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(head[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(head[10:], ^uint16(sum))
	return append(head, content...)
}
