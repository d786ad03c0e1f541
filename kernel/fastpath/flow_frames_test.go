package fastpath_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/craft"
	"github.com/fairlead/fairlead/kernel/fastpath"
)

// Flags of TCP.
const (
	fin, syn, rst, psh, ack, urg = 1, 2, 4, 8, 16, 32
)

// segment is one of TCP, whole and with an acknowledgement, unless it says otherwise.
type segment struct {
	what           string
	from, to       netip.AddrPort
	fromMAC, toMAC net.HardwareAddr
	protocol       byte
	flags, ttl     byte
	label          byte   // the last of IPv6's flow label, by which the kernel tells connections
	id, fragment   uint16 // of IPv4, in the header's form
	version        byte   // the first byte of the IP header
	acked          uint32
	tcpOptions     []byte
	payload        []byte
	// options are IPv4's, or IPv6's extension header.
	options []byte
	tagged  bool
	longer  int // than it is, by what its header says
	padding int // bytes behind what belongs to it
	handed  bool
}

// sumOf is the one's complement sum of 16-bit words (RFC 1071), by a plain loop that shares
// nothing with what it judges.
func sumOf(parts ...[]byte) uint16 {
	sum := uint64(0)
	for _, p := range parts {
		for i, b := range p {
			if i%2 == 0 {
				sum += uint64(b) << 8
			} else {
				sum += uint64(b)
			}
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// bytes is the frame, with every checksum right.
func (s segment) bytes() []byte {
	tcp := binary.BigEndian.AppendUint16(nil, s.from.Port())
	tcp = binary.BigEndian.AppendUint16(tcp, s.to.Port())
	tcp = binary.BigEndian.AppendUint32(append(tcp, 1, 2, 3, 4), s.acked)
	tcp = append(tcp, byte(20+len(s.tcpOptions))<<2, s.flags|ack, 0x10, 0, 0, 0, 0, 0)
	tcp = slices.Concat(tcp, s.tcpOptions, []byte("mark of "+s.what+"."), s.payload)
	from, to := s.from.Addr().AsSlice(), s.to.Addr().AsSlice()
	pseudo := binary.BigEndian.AppendUint32([]byte{0, 6}, uint32(len(tcp)))
	binary.BigEndian.PutUint16(tcp[16:], ^sumOf(tcp, from, to, pseudo))
	out := slices.Concat(s.toMAC, s.fromMAC)
	if s.tagged {
		out = append(out, 0x81, 0, 0, 7)
	}
	pad := make([]byte, s.padding)
	if s.from.Addr().Is4() {
		header := slices.Concat([]byte{0x45, 0, 0, 0, 0, 0, 0, 0, s.ttl, s.protocol, 0, 0}, from, to, s.options)
		header[0] += byte(len(s.options) / 4)
		if s.version != 0 {
			header[0] = s.version
		}
		binary.BigEndian.PutUint16(header[2:], uint16(len(header)+len(tcp)+s.longer))
		binary.BigEndian.PutUint16(header[4:], s.id)
		binary.BigEndian.PutUint16(header[6:], s.fragment)
		binary.BigEndian.PutUint16(header[10:], ^sumOf(header))
		return slices.Concat(out, []byte{8, 0}, header, tcp, pad)
	}
	header := slices.Concat([]byte{0x61, 0x23, 0x45, s.label, 0, 0, s.protocol, s.ttl}, from, to, s.options)
	if s.version != 0 {
		header[0] = s.version
	}
	if s.options != nil {
		header[6] = 60 // destination options
	}
	binary.BigEndian.PutUint16(header[4:], uint16(len(s.options)+len(tcp)+s.longer))
	return slices.Concat(out, []byte{0x86, 0xdd}, header, tcp, pad)
}

// flowSite is a site where a is a container and b is outside.
type flowSite struct {
	*site
	link  *net.Interface
	flows []fastpath.Flow // of IPv4 and IPv6
}

var gatewayMAC = net.HardwareAddr{2, 0, 0, 0, 9, 1}

const flowMTU = 300

func newFlowSite(t *testing.T) *flowSite {
	t.Helper()
	s := &flowSite{site: newSite(t)}
	s.do(s.host, func() (err error) {
		if s.link, err = net.InterfaceByName("vb"); err != nil {
			return err
		}
		return s.path.AttachOutside(s.link.Index)
	})
	s.add(s.ports["a"])
	if err := s.path.AllowFlows(time.Hour); err != nil {
		t.Fatal(err)
	}
	for _, a := range [][3]string{
		{"198.51.100.2:40000", "198.51.100.1:80", a4 + ":8080"},
		{"[2001:db8::2]:40000", "[2001:db8::1]:80", "[" + a6 + "]:8080"},
	} {
		f := fastpath.Flow{
			Outside: netip.MustParseAddrPort(a[0]), Host: netip.MustParseAddrPort(a[1]), Container: netip.MustParseAddrPort(a[2]),
			Port: s.ports["a"], Gateway: gatewayMAC, MTU: flowMTU,
			Link: s.link.Index, LinkMAC: s.link.HardwareAddr, LinkMTU: flowMTU,
		}
		f.NextHop = f.Outside.Addr()
		s.host.Run("ip", "neigh", "replace", f.NextHop.String(), "lladdr", s.ports["b"].MAC.String(), "dev", "vb")
		s.flows = append(s.flows, f)
	}
	return s
}

func (s *flowSite) addFlows() {
	s.t.Helper()
	for _, f := range s.flows {
		if err := s.path.AddFlow(f); err != nil {
			s.t.Fatal(err)
		}
	}
}

// in is a segment of the flow that outside sends, and out is one that the container sends.
func (s *flowSite) in(f fastpath.Flow) segment {
	return segment{from: f.Outside, to: f.Host, fromMAC: s.ports["b"].MAC, toMAC: f.LinkMAC, protocol: 6, ttl: 64}
}

func (s *flowSite) out(f fastpath.Flow) segment {
	return segment{from: f.Container, to: f.Outside, fromMAC: f.Port.MAC, toMAC: f.Gateway, protocol: 6, ttl: 64}
}

// translated is what a segment has to become.
func (s *flowSite) translated(g segment) segment {
	for _, f := range s.flows {
		switch {
		case g.from == f.Outside && g.to == f.Host:
			g.to, g.fromMAC, g.toMAC = f.Container, f.Gateway, f.Port.MAC
		case g.from == f.Container && g.to == f.Outside:
			g.from, g.fromMAC, g.toMAC = f.Host, f.LinkMAC, s.ports["b"].MAC
		default:
			continue
		}
		break
	}
	g.ttl--
	return g
}

// variants are ways to change a segment of a flow of one family or both.
func variants(v6 bool) map[string]func(*segment) {
	router := []byte{0x94, 4, 0, 0}
	if v6 {
		router = []byte{6, 0, 1, 4, 0, 0, 0, 0}
	}
	v := map[string]func(*segment){
		"an acknowledgement":         func(g *segment) { g.handed = true },
		"data":                       func(g *segment) { g.handed, g.flags, g.payload = true, psh|urg, []byte("odd") },
		"options of TCP":             func(g *segment) { g.handed, g.tcpOptions = true, []byte{1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8} },
		"the last hop but one":       func(g *segment) { g.handed, g.ttl = true, 2 },
		"all hops":                   func(g *segment) { g.handed, g.ttl = true, 255 },
		"padding":                    func(g *segment) { g.handed, g.padding = true, 7 },
		"the last hop":               func(g *segment) { g.ttl = 1 },
		"no hop":                     func(g *segment) { g.ttl = 0 },
		"options of IP":              func(g *segment) { g.options = router },
		"a VLAN":                     func(g *segment) { g.tagged = true },
		"longer than it is":          func(g *segment) { g.longer = 1 },
		"shorter than its header":    func(g *segment) { g.longer = -len("mark of shorter than its header.") - 7 },
		"another version of IP":      func(g *segment) { g.version = 0x55 },
		"UDP":                        func(g *segment) { g.protocol = 17 },
		"another's hardware address": func(g *segment) { g.toMAC = net.HardwareAddr{2, 0, 0, 0, 9, 2} },
		"to all":                     func(g *segment) { g.toMAC = bytes.Repeat([]byte{255}, 6) },
		"one that differs late":      func(g *segment) { g.toMAC = append(slices.Clone(g.toMAC[:5]), g.toMAC[5]^1) },
		"one that differs early":     func(g *segment) { g.toMAC = append([]byte{g.toMAC[0] ^ 4}, g.toMAC[1:]...) },
		"from another port":          func(g *segment) { g.from = netip.AddrPortFrom(g.from.Addr(), g.from.Port()+1) },
		"to another port":            func(g *segment) { g.to = netip.AddrPortFrom(g.to.Addr(), g.to.Port()+1) },
		"from another address":       func(g *segment) { g.from = netip.AddrPortFrom(g.from.Addr().Next(), g.from.Port()) },
		"to another address":         func(g *segment) { g.to = netip.AddrPortFrom(g.to.Addr().Next(), g.to.Port()) },
	}
	header := 40
	if v6 {
		header = 60
	}
	fill := func(what string) []byte { return make([]byte, flowMTU-header-len("mark of "+what+".")) }
	v["as much as fits"] = func(g *segment) { g.handed, g.payload = true, fill("as much as fits") }
	v["more than fits"] = func(g *segment) { g.payload = append(fill("more than fits"), 0) }
	if !v6 {
		v["not to be fragmented"] = func(g *segment) { g.handed, g.fragment = true, 0x4000 }
		v["a first fragment"] = func(g *segment) { g.fragment = 0x2000 }
		v["a later fragment"] = func(g *segment) { g.fragment = 0x0010 }
		v["the reserved bit"] = func(g *segment) { g.fragment = 0x8000 }
		v["a short header"] = func(g *segment) { g.version = 0x44 }
	}
	return v
}

// TestFlowFrames: segments of a flow that nothing is odd about come out at the other end
// with the other addresses, one hop less and the checksums that belong to that, byte for
// byte; nothing else comes out.
func TestFlowFrames(t *testing.T) {
	t.Parallel()
	s := newFlowSite(t)
	s.addFlows()
	for i, f := range s.flows {
		s.send("a", frame{what: "for the bridge", from: f.Container.Addr().String(), to: f.Outside.Addr().String(), protocol: 6})
		for _, way := range []struct {
			from, to, dev string
			base          segment
		}{{"b", "a", "eth0", s.in(f)}, {"a", "b", "eth0", s.out(f)}} {
			var all []segment
			for what, change := range variants(i == 1) {
				g := way.base
				g.what = what
				change(&g)
				all = append(all, g)
			}
			last := way.base
			last.what, last.handed = "the end", true
			s.relay(way.from, way.to, append(all, last))
		}
	}
	if n, _ := s.path.Received(s.ports["a"]); n < 17 || n > 40 {
		t.Errorf("%d frames to the container were counted", n)
	}
}

// relay sends the segments and judges what comes out at the other end.
func (s *flowSite) relay(from, to string, segments []segment) {
	s.t.Helper()
	open := func(h string) (w *craft.Wire) {
		s.do(s.at[h], func() (err error) {
			w, err = craft.Open("eth0")
			return err
		})
		s.t.Cleanup(func() { _ = w.Close() })
		return w
	}
	sends, wire := open(from), open(to)
	for _, g := range segments {
		b := g.bytes()
		if err := sends.SendFrame(b[:6], binary.BigEndian.Uint16(b[12:]), b[14:]); err != nil {
			s.t.Fatal(err)
		}
	}
	heard := make(map[string][]byte)
	err := wire.Listen(time.Now().Add(5*time.Second), func(b []byte) bool {
		for _, g := range segments {
			if bytes.Contains(b, []byte("mark of "+g.what+".")) {
				heard[g.what] = bytes.Clone(b)
			}
		}
		return heard["the end"] != nil
	})
	if err != nil {
		s.t.Error(err)
	}
	for _, g := range segments {
		got, want := heard[g.what], s.translated(g).bytes()
		switch {
		case !g.handed && got != nil:
			s.t.Errorf("%s to %s: %s: handed over as %x", g.from, g.to, g.what, got)
		case g.handed && !bytes.Equal(got, want):
			s.t.Errorf("%s to %s: %s:\n got %x\nwant %x", g.from, g.to, g.what, got, want)
		}
	}
}
