package fastpath_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/craft"
	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/kernel/fastpath"
)

// site is a host with three neighbours and no bridge between them: what gets from one to
// another was handed over.
type site struct {
	t     *testing.T
	host  *lab.Host
	at    map[string]*lab.Host
	ports map[string]fastpath.Port
	path  *fastpath.Path
}

const tag = "fptest"

func newSite(t *testing.T) *site {
	t.Helper()
	l := lab.New(t)
	s := &site{t: t, host: l.Host("host"), at: make(map[string]*lab.Host), ports: make(map[string]fastpath.Port)}
	for i, name := range []string{"a", "b", "c"} {
		h := l.Host(name)
		v4, v6 := fmt.Sprintf("10.9.0.%d", i+2), fmt.Sprintf("fd00:9::%d", i+2)
		l.Link(s.host.Port("v"+name), h.Port("eth0", v4+"/24", v6+"/64"))
		port := fastpath.Port{Segment: 1, Addrs: []netip.Addr{netip.MustParseAddr(v4), netip.MustParseAddr(v6)}}
		s.do(s.host, func() error {
			link, err := net.InterfaceByName("v" + name)
			port.Index = link.Index
			return err
		})
		s.do(h, func() error {
			link, err := net.InterfaceByName("eth0")
			port.MAC = link.HardwareAddr
			return err
		})
		s.at[name], s.ports[name] = h, port
	}
	s.path = s.open(fastpath.Open)
	s.allow(time.Hour)
	return s
}

func (s *site) do(h *lab.Host, f func() error) {
	s.t.Helper()
	if err := h.Do(f); err != nil {
		s.t.Fatal(err)
	}
}

// open is a path with the program at every port and no port that takes part.
func (s *site) open(open func(string) (*fastpath.Path, error)) *fastpath.Path {
	s.t.Helper()
	var p *fastpath.Path
	s.do(s.host, func() (err error) {
		if p, err = open(tag); err != nil {
			return err
		}
		for _, port := range s.ports {
			if err := p.Attach(port.Index); err != nil {
				return err
			}
		}
		return nil
	})
	s.t.Cleanup(func() { _ = p.Close() })
	return p
}

func (s *site) allow(d time.Duration) {
	s.t.Helper()
	if err := s.path.Allow(d); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) add(ports ...fastpath.Port) {
	s.t.Helper()
	for _, p := range ports {
		if err := s.path.Add(p); err != nil {
			s.t.Fatal(err)
		}
	}
}

// frame is one that a sends to b, unless it says otherwise.
type frame struct {
	what              string
	from, to          string // addresses
	fromMAC, toMAC    net.HardwareAddr
	protocol          byte
	port              uint16 // the receiver's
	fragment          uint16 // of IPv4, in the header's form
	options, extended bool
	tagged            bool
	longer            int // than it is, by what its header says
	handed            bool
}

func (f frame) bytes(s *site) []byte {
	a, b := s.ports["a"], s.ports["b"]
	src, dst := f.fromMAC, f.toMAC
	if src == nil {
		src = a.MAC
	}
	if dst == nil {
		dst = b.MAC
	}
	out := slices.Concat(dst, src)
	if f.tagged {
		out = append(out, 0x81, 0, 0, 7)
	}
	ports := binary.BigEndian.AppendUint16([]byte{0x30, 0x39}, f.port)
	payload := append(append(ports, make([]byte, 16)...), "mark of "+f.what+"."...)
	from, to := netip.MustParseAddr(f.from), netip.MustParseAddr(f.to)
	if from.Is4() {
		header := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, f.protocol, 0, 0}
		if f.options {
			header[0] = 0x46
		}
		binary.BigEndian.PutUint16(header[6:], f.fragment)
		header = slices.Concat(header, from.AsSlice(), to.AsSlice())
		if f.options {
			header = append(header, 0x94, 4, 0, 0) // a router alert
		}
		binary.BigEndian.PutUint16(header[2:], uint16(len(header)+len(payload)+f.longer))
		return slices.Concat(out, []byte{8, 0}, header, payload)
	}
	next := f.protocol
	if f.extended {
		payload = append([]byte{f.protocol, 0, 1, 4, 0, 0, 0, 0}, payload...)
		next = 60 // destination options
	}
	header := []byte{0x60, 0, 0, 0, 0, 0, next, 64}
	binary.BigEndian.PutUint16(header[4:], uint16(len(payload)+f.longer))
	return slices.Concat(out, []byte{0x86, 0xdd}, header, from.AsSlice(), to.AsSlice(), payload)
}

const a4, b4, c4, a6, b6 = "10.9.0.2", "10.9.0.3", "10.9.0.4", "fd00:9::2", "fd00:9::3"

// TestHandedOver: what two ports of a segment send each other under their own addresses
// is handed over, and nothing else is.
func TestHandedOver(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	other := s.ports["c"]
	other.Segment = 2
	s.add(s.ports["a"], s.ports["b"], other)
	c := other.MAC
	frames := []frame{
		{what: "TCP", from: a4, to: b4, protocol: 6, port: 80, handed: true},
		{what: "UDP", from: a4, to: b4, protocol: 17, port: 80, handed: true},
		{what: "UDP, not to be fragmented", from: a4, to: b4, protocol: 17, port: 80, fragment: 0x4000, handed: true},
		{what: "TCP6", from: a6, to: b6, protocol: 6, port: 80, handed: true},
		{what: "UDP6", from: a6, to: b6, protocol: 17, port: 80, handed: true},
		{what: "TCP at a DHCP client's port", from: a4, to: b4, protocol: 6, port: 546, handed: true},
		{what: "ICMP", from: a4, to: b4, protocol: 1},
		{what: "ICMPv6", from: a6, to: b6, protocol: 58},
		{what: "SCTP", from: a4, to: b4, protocol: 132},
		{what: "a first fragment", from: a4, to: b4, protocol: 17, port: 80, fragment: 0x2000},
		{what: "a later fragment", from: a4, to: b4, protocol: 17, port: 80, fragment: 0x0010},
		{what: "the reserved bit", from: a4, to: b4, protocol: 17, port: 80, fragment: 0x8000},
		{what: "options", from: a4, to: b4, protocol: 17, port: 80, options: true},
		{what: "an extension header", from: a6, to: b6, protocol: 17, port: 80, extended: true},
		{what: "a DHCP server's answer", from: a4, to: b4, protocol: 17, port: 68},
		{what: "a DHCPv6 server's answer", from: a6, to: b6, protocol: 17, port: 546},
		{what: "another's address", from: c4, to: b4, protocol: 17, port: 80},
		{what: "nobody's address", from: "192.0.2.1", to: b4, protocol: 17, port: 80},
		{what: "another's hardware address", from: a4, to: b4, fromMAC: c, protocol: 17, port: 80},
		{what: "to another's hardware address", from: a4, to: b4, toMAC: c, protocol: 17, port: 80},
		{what: "to all", from: a4, to: b4, toMAC: net.HardwareAddr{255, 255, 255, 255, 255, 255}, protocol: 17, port: 80},
		{what: "to another segment", from: a4, to: c4, toMAC: c, protocol: 17, port: 80},
		{what: "to nobody", from: a4, to: "192.0.2.1", protocol: 17, port: 80},
		{what: "IPv4's addresses as IPv6 maps them", from: "::ffff:" + a4, to: "::ffff:" + b4, protocol: 17, port: 80},
		{what: "IPv4's addresses as the table has them", from: "ffff:ffff:ffff:ffff:a09:2::", to: "ffff:ffff:ffff:ffff:a09:3::", protocol: 17, port: 80},
		{what: "an IPv4 address to send to", from: a6, to: "ffff:ffff:ffff:ffff:a09:3::", protocol: 17, port: 80},
		{what: "longer than it is", from: a4, to: b4, protocol: 17, port: 80, longer: 1},
		{what: "shorter than its header", from: a4, to: b4, protocol: 17, port: 80, longer: -60},
		{what: "IPv6 that is longer than it is", from: a6, to: b6, protocol: 17, port: 80, longer: 1},
		{what: "shorter than it is", from: a4, to: b4, protocol: 17, port: 80, longer: -1, handed: true},
		{what: "a VLAN", from: a4, to: b4, tagged: true, protocol: 17, port: 80},
	}
	s.send("a", frames[:1]...) // which the bridge is to see
	s.send("a", frames[3])
	// Which a bridge never sends back where it came from.
	s.send("a", frame{what: "to itself", from: a4, to: a4, toMAC: s.ports["a"].MAC, protocol: 17, port: 80})
	heard := s.exchange("a", "b", frames)
	if n, _ := s.path.Received(s.ports["a"]); n > 0 {
		t.Error("what a container sends to itself is handed over")
	}
	for _, f := range frames {
		if heard[f.what] != f.handed {
			t.Errorf("%s: handed over is %t, want %t", f.what, heard[f.what], f.handed)
		}
	}
	if n, bytes := s.path.Received(s.ports["b"]); n < 6 || bytes < n*14 {
		t.Errorf("%d frames of %d bytes were counted", n, bytes)
	}
}

// send sends the frames out of the host's eth0.
func (s *site) send(from string, frames ...frame) {
	s.t.Helper()
	for _, f := range frames {
		s.do(s.at[from], func() error { return sendRaw("eth0", f.bytes(s)) })
	}
}

// exchange sends the frames, and one that is handed over behind them, and returns what
// was heard before that one.
func (s *site) exchange(from, to string, frames []frame) map[string]bool {
	s.t.Helper()
	last := frame{what: "the end", from: a4, to: b4, protocol: 17, port: 80}
	var wire *craft.Wire
	s.do(s.at[to], func() (err error) {
		wire, err = craft.Open("eth0")
		return err
	})
	defer wire.Close()
	heard := make(map[string]bool)
	ended := make(chan error)
	go func() {
		ended <- wire.Listen(time.Now().Add(10*time.Second), func(b []byte) bool {
			for _, f := range append(frames, last) {
				if bytes.Contains(b, []byte("mark of "+f.what+".")) {
					heard[f.what] = true
					if f.handed && !bytes.HasPrefix(b, f.bytes(s)) {
						s.t.Errorf("%s: sent was %x, heard is %x", f.what, f.bytes(s), b)
					}
				}
			}
			return heard[last.what]
		})
	}()
	s.send(from, append(slices.Clone(frames), last)...)
	if err := <-ended; err != nil || !heard[last.what] {
		s.t.Errorf("the last frame was not heard: %v", err)
	}
	return heard
}

// TestConnections: TCP and UDP work by the fast path alone, of both families, until the
// owner is not heard of; the bridge is shown a frame now and then.
func TestConnections(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.add(s.ports["a"], s.ports["b"])
	for _, pair := range [][2]string{{"a", "b"}, {"b", "a"}} {
		for _, a := range s.ports[pair[1]].Addrs {
			s.at[pair[0]].Run("ip", "neigh", "replace", a.String(), "lladdr", s.ports[pair[1]].MAC.String(), "dev", "eth0")
		}
	}
	for _, addr := range []string{b4 + ":80", "[" + b6 + "]:80"} {
		for _, proto := range []string{"tcp", "udp"} {
			s.at["b"].Listen(proto, addr)
			if r := lab.Seen(t, s.at["a"], proto, addr); r.Host != "b" || !slices.Contains(s.ports["a"].Addrs, r.Peer.Addr().Unmap()) {
				t.Errorf("%s %s: %s answered and saw %s", proto, addr, r.Host, r.Peer)
			}
		}
	}
	if n, _ := s.path.Received(s.ports["a"]); n == 0 {
		t.Error("no frame was counted")
	}
	received := func() string { return s.at["b"].Run("cat", "/proc/net/dev") }
	if before := received(); !strings.Contains(before, "eth0:") || field(before, "eth0:", 2) == "0" {
		t.Errorf("the receiver's end has counted nothing: %s", before)
	}
	s.allow(0)
	if _, err := s.at["a"].Ask("tcp", b4+":80", 300*time.Millisecond); err == nil {
		t.Error("frames are handed over though it is switched off")
	}
	s.allow(time.Nanosecond)
	passed := 0
	for ; passed < 100; passed++ { // the kernel's clock is coarse
		if _, err := s.at["a"].Ask("tcp", b4+":80", 300*time.Millisecond); err != nil {
			break
		}
	}
	if passed == 100 {
		t.Error("frames are handed over though the owner was not heard of in time")
	}
	s.allow(time.Hour)
	if err := s.path.Remove(s.ports["b"]); err != nil {
		t.Fatal(err)
	}
	if _, err := s.at["a"].Ask("tcp", b4+":80", 300*time.Millisecond); err == nil {
		t.Error("frames are handed over to a port that takes no part any more")
	}
}

func field(text, after string, n int) string {
	_, rest, _ := strings.Cut(text, after)
	fields := strings.Fields(rest)
	return fields[n-1]
}

func sendRaw(dev string, frame []byte) error {
	i, err := net.InterfaceByName(dev)
	if err != nil {
		return err
	}
	return send(i.Index, frame)
}
