package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/craft"
	"github.com/fairlead/fairlead/internal/lab"
)

// forgedFrame is a frame that a container sends past its own stack.
type forgedFrame struct {
	what  string
	frame []byte
	// mark is what of the frame is heard again, and of no other.
	mark []byte
	// reason is what the guard calls it; "" for an honest frame, which passes.
	reason string
	// dropped has it sent by a thread that has no CAP_NET_RAW any more.
	dropped bool
}

// party is one end of a forgery.
type party struct {
	mac    net.HardwareAddr
	v4, v6 netip.Addr
	local  netip.Addr // its link-local address
}

// stage is a network on which one container forges what another, or the host, is to
// believe.
type stage struct {
	r              *attackRange
	network        string
	from, to       box
	me, victim, gw party
	bridge         string
	// alone has the victim hear alone, and not the host.
	alone bool
}

func newStage(t *testing.T, r *attackRange, network string, from, to box) stage {
	t.Helper()
	s := stage{r: r, network: network, from: from, to: to, me: partyOf(t, from.Host, from.addr4), victim: partyOf(t, to.Host, to.addr4)}
	gateway := netip.MustParseAddr(r.inspect(from.id).NetworkSettings.Networks[network].Gateway)
	s.gw = partyOf(t, r.host, gateway)
	l, _ := linkWith(t, r.host, gateway.String())
	s.bridge = l.Name
	return s
}

// partyOf is who has the address on the host.
func partyOf(t *testing.T, h *lab.Host, addr netip.Addr) party {
	t.Helper()
	l, all := linkWith(t, h, addr.String())
	p := party{mac: l.HardwareAddr, v4: addr}
	for _, a := range all {
		switch x := netip.MustParsePrefix(a.String()).Addr(); {
		case x.Is6() && x.IsLinkLocalUnicast():
			p.local = x
		case x.Is6():
			p.v6 = x
		}
	}
	return p
}

// perform sends the frames, again and again for a second, and longer as long as one that
// must be heard is not. A frame is heard that comes in at the victim or at the host.
func (s stage) perform(t *testing.T, frames []forgedFrame, must func(forgedFrame) bool) {
	t.Helper()
	ears := []*craft.Wire{s.wire(t, s.to.Host, "eth0")}
	if !s.alone {
		ears = append(ears, s.wire(t, s.r.host, s.bridge))
	}
	mouth := s.wire(t, s.from.Host, "eth0")
	for _, w := range append(ears, mouth) {
		defer w.Close()
	}
	heard := make([]bool, len(frames))
	missing := func() bool {
		for i, f := range frames {
			if must(f) && !heard[i] {
				return true
			}
		}
		return false
	}
	for begin := time.Now(); time.Since(begin) < time.Second || missing() && time.Since(begin) < 10*time.Second; {
		for _, f := range frames {
			f.send(t, mouth)
		}
		for _, ear := range ears {
			err := ear.Listen(time.Now().Add(150*time.Millisecond), func(frame []byte) bool {
				for i, f := range frames {
					heard[i] = heard[i] || bytes.Contains(frame, f.mark)
				}
				return false
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, f := range frames {
		switch want := must(f); {
		case want && !heard[i]:
			t.Errorf("on %s: %s: it is not heard, and must be", s.network, f.what)
		case !want && heard[i]:
			t.Errorf("on %s: %s: it is heard, and must not be", s.network, f.what)
		}
	}
}

// wire opens a link of the host.
func (s stage) wire(t *testing.T, h *lab.Host, dev string) (w *craft.Wire) {
	t.Helper()
	if err := h.Do(func() (err error) { w, err = craft.Open(dev); return err }); err != nil {
		t.Fatal(err)
	}
	return w
}

func (f forgedFrame) send(t *testing.T, w *craft.Wire) {
	t.Helper()
	w.MAC = f.frame[6:12]
	send := func() error {
		return w.SendFrame(f.frame[:6], binary.BigEndian.Uint16(f.frame[12:]), f.frame[14:])
	}
	if f.dropped {
		wanted := send
		send = func() error { return withoutNetRaw(wanted) }
	}
	if err := send(); err != nil {
		t.Fatalf("%s: %v", f.what, err)
	}
}

// withoutNetRaw runs f on a thread whose CAP_NET_RAW is not in effect meanwhile.
func withoutNetRaw(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var all [2]unix.CapUserData
	if err := unix.Capget(&head, &all[0]); err != nil {
		return err
	}
	few := all
	few[0].Effective &^= 1 << unix.CAP_NET_RAW
	if err := unix.Capset(&head, &few[0]); err != nil {
		return err
	}
	return errors.Join(f(), unix.Capset(&head, &all[0]))
}

// guarded performs what the guard of the network stops, and sees it counted.
func (s stage) guarded(t *testing.T, frames []forgedFrame) {
	t.Helper()
	before := s.counts()
	s.perform(t, frames, func(f forgedFrame) bool { return f.reason == "" })
	after := s.counts()
	kinds := 0
	for _, f := range frames {
		if f.reason == "" {
			continue
		}
		if kinds++; after.reasons[f.reason] <= before.reasons[f.reason] {
			t.Errorf("on %s: %s: not counted as %q: %d, and %d before", s.network, f.what, f.reason, after.reasons[f.reason], before.reasons[f.reason])
		}
	}
	if port := s.port(); after.ports[port]-before.ports[port] < kinds {
		t.Errorf("on %s: port %s counts %d dropped, %d before: want %d more", s.network, port, after.ports[port], before.ports[port], kinds)
	}
}

// open performs the same where nothing guards: everything is heard.
func (s stage) open(t *testing.T, frames []forgedFrame) {
	t.Helper()
	s.perform(t, frames, func(forgedFrame) bool { return true })
}

// port is the host's end of the sender's cable.
func (s stage) port() string {
	return "veth" + s.r.inspect(s.from.id).NetworkSettings.Networks[s.network].EndpointID[:7]
}

// dropCounts are what nft shows of the guard: packets by reason, and by port.
type dropCounts struct{ reasons, ports map[string]int }

var (
	reasonCount = regexp.MustCompile(`counter packets (\d+) bytes \d+ (?:goto frames_caught|drop) comment "(.*)"`)
	portCount   = regexp.MustCompile(`"(veth\w+)" counter packets (\d+) bytes`)
)

func (s stage) counts() dropCounts {
	text := s.r.host.Run("nft", "list", "table", "bridge", "fairlead")
	c := dropCounts{make(map[string]int), make(map[string]int)}
	for _, m := range reasonCount.FindAllStringSubmatch(text, -1) {
		n, _ := strconv.Atoi(m[1])
		c.reasons[m[2]] += n
	}
	for _, m := range portCount.FindAllStringSubmatch(text, -1) {
		c.ports[m[1]], _ = strconv.Atoi(m[2])
	}
	return c
}

// mustSerialize is the layers in bytes, with lengths and checksums.
func mustSerialize(parts ...gopacket.SerializableLayer) []byte {
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...); err != nil {
		panic(err) // the test's own mistake
	}
	return slices.Clone(buf.Bytes())
}

// ether is a frame.
func ether(from, to net.HardwareAddr, typ layers.EthernetType, payload []byte) []byte {
	return slices.Concat(to, from, []byte{byte(typ >> 8), byte(typ)}, payload)
}

// The groups that all hosts of a network hear.
var (
	everybody = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	allNodes  = netip.MustParseAddr("ff02::1")
	toNodes   = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
)

// arp is an ARP packet: an answer, or a question.
func arp(answer bool, fromMAC net.HardwareAddr, from netip.Addr, toMAC net.HardwareAddr, to netip.Addr) []byte {
	op := uint16(layers.ARPRequest)
	if answer {
		op = layers.ARPReply
	}
	return mustSerialize(&layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: op,
		SourceHwAddress: fromMAC, SourceProtAddress: from.AsSlice(), DstHwAddress: toMAC, DstProtAddress: to.AsSlice(),
	})
}

// ip is a packet of whichever family the addresses are of. An IPv6 one may have further
// headers, whose first is next.
func ip(src, dst netip.Addr, next layers.IPProtocol, payload []byte) []byte {
	if dst.Is4() {
		return mustSerialize(&layers.IPv4{Version: 4, TTL: 255, SrcIP: src.AsSlice(), DstIP: dst.AsSlice(), Protocol: next}, gopacket.Payload(payload))
	}
	return mustSerialize(&layers.IPv6{Version: 6, HopLimit: 255, SrcIP: src.AsSlice(), DstIP: dst.AsSlice(), NextHeader: next}, gopacket.Payload(payload))
}

// udp is a datagram without its IP header.
func udp(src, dst netip.Addr, from, to uint16, text string) []byte {
	l := &layers.UDP{SrcPort: layers.UDPPort(from), DstPort: layers.UDPPort(to)}
	network(l, src, dst)
	return mustSerialize(l, gopacket.Payload(text))
}

// icmp6 is a message of ICMPv6 without its IP header.
func icmp6(src, dst netip.Addr, typ uint8, body []byte) []byte {
	l := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, 0)}
	network(l, src, dst)
	return mustSerialize(l, gopacket.Payload(body))
}

func network(l interface {
	SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
}, src, dst netip.Addr,
) {
	var header gopacket.NetworkLayer = &layers.IPv6{SrcIP: src.AsSlice(), DstIP: dst.AsSlice(), NextHeader: layers.IPProtocolICMPv6}
	if dst.Is4() {
		header = &layers.IPv4{SrcIP: src.AsSlice(), DstIP: dst.AsSlice(), Protocol: layers.IPProtocolUDP}
	} else if _, datagram := l.(*layers.UDP); datagram {
		header = &layers.IPv6{SrcIP: src.AsSlice(), DstIP: dst.AsSlice(), NextHeader: layers.IPProtocolUDP}
	}
	if err := l.SetNetworkLayerForChecksum(header); err != nil {
		panic(err)
	}
}

// linkOption is an option of neighbour discovery with a hardware address: the source's
// (1) or the target's (2).
func linkOption(kind byte, mac net.HardwareAddr) []byte {
	return append([]byte{kind, 1}, mac...)
}

// etherTypeOf is the family's.
func etherTypeOf(packet []byte) layers.EthernetType {
	if packet[0]>>4 == 4 {
		return layers.EthernetTypeIPv4
	}
	return layers.EthernetTypeIPv6
}

// forged counts the texts, so that each is one frame's: frames are on their way from
// several stages at once.
var forged atomic.Int64

// forgedText is what a frame carries, to be known again.
func forgedText() string {
	return fmt.Sprintf("forged %d: %s", forged.Add(1), strings.Repeat("x", 8))
}

// linkLocalOf is the address that a hardware address makes (RFC 4291, appendix A).
func linkLocalOf(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
}

// together runs subtests on one site at once. Each by t.Parallel would wait for its turn
// behind all tests that have not begun, and the site with it.
func together(t *testing.T, tests map[string]func(*testing.T)) {
	t.Helper()
	var wg sync.WaitGroup
	for name, test := range tests {
		wg.Go(func() { t.Run(name, test) })
	}
	wg.Wait()
}
