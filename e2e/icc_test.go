package e2e

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// iccOff makes a network whose containers are kept apart, as --icc=false does with
// the default one.
var iccOff = []string{"-o", "com.docker.network.bridge.enable_icc=false"}

// TestC3: with --icc=false the containers of the default network do not reach each
// other by any protocol, nor by Ethernet frames of their own making; a network's own
// option does the same. The host and outside reach and are reached as before.
func TestC3(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newSiteOn(t, backend, "--icc=false", "--ipv6")
		s.Must(append([]string{"network", "create", "--ipv6", "apart"}, iccOff...)...)
		s.Must("network", "create", "--ipv6", "together")
		for _, network := range []string{"bridge", "apart"} {
			a, b := s.idle("--network", network), s.idle("--network", network, "-p", "80")
			s.keptApart(a, b)
			// The way out, and in by a published port, is open.
			port := s.inspect(b.id).NetworkSettings.Ports["80/tcp"][0].HostPort
			b.sees(s.outside, "tcp", at(host4, port), outside4)
			out := s.outside.Listen("tcp", at(outside4, "0"))
			lab.Reachable(t, a.Host, "tcp", out.Addr.String())
			if r := lab.Seen(t, a.Host, "tcp", at(host4, port)); r.Host != b.Name() {
				t.Errorf("%s answered at the published port", r.Host)
			}
			s.consistent()
		}
		// The frames are such as arrive where nothing bars the way.
		a, b := s.idle("--network", "together"), s.idle("--network", "together")
		if heard := frames(t, a, b); len(heard) != 0 {
			t.Errorf("control: of the frames sent where containers may reach each other these were lost: %q", heard)
		}
		s.Restart()
		a, b = s.idle(), s.idle()
		s.keptApart(a, b)
	})
}

// keptApart fails the test if one of two containers, neighbours on a network, reaches
// the other. Servers are left on port 80.
func (s *site) keptApart(a, b box) {
	s.t.Helper()
	var pairs [][2]lab.Probe
	for _, way := range [][2]box{{a, b}, {b, a}} {
		client, server := way[0], way[1]
		for any, addr := range map[string]netip.Addr{"0.0.0.0": server.addr4, "::": server.addr6} {
			if !addr.IsValid() {
				continue
			}
			for _, proto := range []string{"tcp", "udp"} {
				server.serve(proto, at(any, "80"))
				to := at(addr, "80")
				pairs = append(pairs, [2]lab.Probe{from(client.Host, proto, to), from(s.host, proto, to)})
			}
			pairs = append(pairs, [2]lab.Probe{from(client.Host, "icmp", addr.String()), from(s.host, "icmp", addr.String())})
		}
	}
	barred(s.t, pairs...)
	if lost := frames(s.t, a, b); len(lost) != len(frameKinds) {
		s.t.Errorf("of %d kinds of frame only these were stopped: %q", len(frameKinds), lost)
	}
}

// frameKinds are Ethernet frames as a container may make them by itself: to its
// neighbour, to all, and to a group; of no known protocol, and as IPv4, IPv6 and ARP.
var frameKinds = []struct {
	name      string
	to        net.HardwareAddr // nil is the neighbour
	etherType uint16
	// payload wraps the text; nil leaves it bare.
	payload func(a, b box, text string) []byte
}{
	{"unicast", nil, lab.EtherTypeTest, nil},
	{"broadcast", net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, lab.EtherTypeTest, nil},
	{"multicast", net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, lab.EtherTypeTest, nil},
	{"ARP", net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 0x0806, arpRequest},
	{"IPv4", nil, 0x0800, packet4},
	{"IPv6", nil, 0x86dd, packet6},
}

// arpRequest is one of the container's own (RFC 826): who has the neighbour's address.
func arpRequest(a, b box, text string) []byte {
	out := []byte{0, 1, 8, 0, 6, 4, 0, 1}
	for _, n := range a.s.inspect(a.id).NetworkSettings.Networks {
		mac, err := net.ParseMAC(n.MacAddress)
		if err != nil {
			a.s.t.Fatal(err)
		}
		out = append(out, mac...)
	}
	out = append(out, a.addr4.AsSlice()...)
	out = append(append(out, make([]byte, 6)...), b.addr4.AsSlice()...)
	return append(out, text...)
}

// protocolTest is for experiments (RFC 3692), in IPv4 and IPv6.
const protocolTest = 253

// packet4 is an IPv4 packet (RFC 791) such as br_netfilter lets pass, which has a
// look at the header.
func packet4(a, b box, text string) []byte {
	return ipv4(a.addr4, b.addr4, protocolTest, []byte(text))
}

func ipv4(from, to netip.Addr, protocol byte, payload []byte) []byte {
	h := make([]byte, 20, 20+len(payload))
	h[0], h[8], h[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(h[2:], uint16(cap(h)))
	copy(h[12:], from.AsSlice())
	copy(h[16:], to.AsSlice())
	var sum uint32
	for i := 0; i < len(h); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum+sum>>16))
	return append(h, payload...)
}

// packet6 is an IPv6 packet (RFC 8200), of link-local addresses where the network has
// no others.
func packet6(a, b box, text string) []byte {
	h := make([]byte, 40, 40+len(text))
	h[0], h[6], h[7] = 0x60, protocolTest, 64
	binary.BigEndian.PutUint16(h[4:], uint16(len(text)))
	from, to := netip.MustParseAddr("fe80::1234"), netip.MustParseAddr("fe80::5678")
	if a.addr6.IsValid() {
		from, to = a.addr6, b.addr6
	}
	copy(h[8:], from.AsSlice())
	copy(h[24:], to.AsSlice())
	return append(h, text...)
}

// frames sends one frame of each kind from a container to its neighbour, and returns
// those that did not arrive.
func frames(t *testing.T, a, b box) (lost []string) {
	t.Helper()
	to, err := net.ParseMAC(interfaces(t, b.Host)["eth0"].MAC)
	if err != nil {
		t.Fatal(err)
	}
	ear := b.Frames("eth0")
	defer ear.Close()
	var marks []string
	for _, kind := range frameKinds {
		dest := kind.to
		if dest == nil {
			dest = to
		}
		mark := fmt.Sprintf("%s from %s", kind.name, a.id[:12])
		payload := []byte(mark)
		if kind.payload != nil {
			payload = kind.payload(a, b, mark)
		}
		a.SendFrame("eth0", dest, kind.etherType, payload)
		marks = append(marks, mark)
	}
	return ear.Missing(marks, 300*time.Millisecond)
}

// TestC5: icc changed in the configuration file holds after a restart, for running
// and for new containers, whichever way it was changed.
func TestC5(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newHosts(t)
		file := filepath.Join(s.lab.Dir("config"), "daemon.json")
		configure := func(text string) {
			t.Helper()
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		configure(`{"icc": true, "ipv6": true}`)
		s.startOn(backend, "--config-file", file)
		a, b := s.idle(), s.idle()
		b.serve("tcp", "0.0.0.0:7")
		b.sees(a.Host, "tcp", at(b.addr4, "7"), a.addr4)
		configure(`{"icc": false, "ipv6": true}`)
		s.Restart()
		s.keptApart(a, b)
		c := s.idle()
		s.keptApart(c, s.idle())
		lab.Unreachable(t, c.Host, "tcp", at(b.addr4, "7"), from(s.host, "tcp", at(b.addr4, "7")))
		configure(`{"ipv6": true}`) // the default is true
		s.Restart()
		b.sees(a.Host, "tcp", at(b.addr4, "7"), a.addr4)
		b.sees(c.Host, "tcp", at(b.addr4, "7"), c.addr4)
		b.sees(s.idle().Host, "tcp", at(b.addr4, "7"), "172.17.0.6")
		if lost := frames(t, a, b); len(lost) != 0 {
			t.Errorf("these frames are still stopped: %q", lost)
		}
		s.consistent()
	})
}
