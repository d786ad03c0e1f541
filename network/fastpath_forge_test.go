package network

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/craft"
	"github.com/fairlead/fairlead/network/spec"
)

// forger makes frames of a container that may send what it likes: most of what is in one is
// as it should be, and some is not.
type forger struct {
	*rand.Rand
	macs []net.HardwareAddr // the container's own first, then the one it sends to
	v4   []netip.Addr       // in the same order
	v6   []netip.Addr
}

// pick is mostly the i-th, and else any.
func pick[T any](f *forger, of []T, i int) T {
	if f.IntN(5) > 0 {
		return of[i]
	}
	return of[f.IntN(len(of))]
}

// mostly is usual, and else one of the others.
func mostly[T any](f *forger, usual T, others ...T) T {
	return pick(f, append([]T{usual}, others...), 0)
}

// frame makes one with a mark of its own, which is not always left in it.
func (f *forger) frame(n int) []byte {
	payload := fmt.Appendf(make([]byte, 20), "forged %d.", n)
	payload = append(payload, make([]byte, []int{0, 20, 1400, 9000}[f.IntN(4)])...)
	payload[12] = 5 << 4 // of TCP, the words of its header
	binary.BigEndian.PutUint16(payload, mostly[uint16](f, 999, 67, 68, 546, 547))
	binary.BigEndian.PutUint16(payload[2:], mostly[uint16](f, 80, 67, 68, 546, 547, 0))
	binary.BigEndian.PutUint16(payload[4:], mostly(f, uint16(len(payload)), 0, 4, 0xffff))
	packet, kind := f.four(payload), []byte{8, 0}
	if f.IntN(2) == 0 {
		packet, kind = f.six(payload), []byte{0x86, 0xdd}
	}
	out := slices.Concat(pick(f, f.macs, 1), pick(f, f.macs, 0))
	out = append(out, mostly(f, nil, []byte{0x81, 0, 0, 0}, []byte{0x81, 0, 0, 1}, []byte{0x88, 0xa8, 0, 2, 0x81, 0, 0, 3})...)
	out = append(out, mostly(f, kind, []byte{8, 0}, []byte{0x86, 0xdd}, []byte{8, 6}, []byte{0, 40})...)
	out = append(out, packet...)
	if f.IntN(10) == 0 {
		out = out[:14+f.IntN(len(out)-14)]
	}
	return out
}

func (f *forger) protocol() byte { return mostly[byte](f, 17, 6, 6, 1, 58, 0, 44, 60, 132, 136) }

func (f *forger) four(payload []byte) []byte {
	words := mostly(f, 5, 6, 15)
	header := make([]byte, 4*words)
	header[0] = mostly(f, 0x40|byte(words), 0x44, 0x4f, 0x55, 0x65, 0x45)
	length := len(header) + len(payload)
	binary.BigEndian.PutUint16(header[2:], uint16(mostly(f, length, length+9, length-9, 20, 0)))
	binary.BigEndian.PutUint16(header[6:], mostly[uint16](f, 0, 0x4000, 0x2000, 0x8000, 1, 0x2010))
	header[8], header[9] = mostly[byte](f, 64, 1, 0), f.protocol()
	copy(header[12:], pick(f, f.v4, 0).AsSlice())
	copy(header[16:], pick(f, f.v4, 1).AsSlice())
	for i := 20; i < len(header); i++ {
		header[i] = mostly[byte](f, 1, 0x83, 0x89, 0)
	}
	if f.IntN(5) > 0 {
		binary.BigEndian.PutUint16(header[10:], checksum(header))
	}
	return append(header, payload...)
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	return ^uint16(sum + sum>>16)
}

func (f *forger) six(payload []byte) []byte {
	header := make([]byte, 40)
	header[0] = mostly[byte](f, 0x60, 0x40, 0x45, 0x70)
	binary.BigEndian.PutUint16(header[4:], uint16(mostly(f, len(payload), 0, 4, 9000)))
	header[6], header[7] = f.protocol(), mostly[byte](f, 64, 1, 0)
	copy(header[8:], pick(f, f.v6, 0).AsSlice())
	copy(header[24:], pick(f, f.v6, 1).AsSlice())
	return append(header, payload...)
}

// virtual is struct virtio_net_hdr (linux/virtio_net.h), with which a sender says that what
// it gives is more than one packet, and how to cut it. The kernel takes few that do not fit
// the frame.
func (f *forger) virtual(frame []byte) []byte {
	h := make([]byte, 10)
	if f.IntN(2) == 0 || len(frame) < 54 {
		return h
	}
	cut, start, protocol := byte(1), 34, frame[23] // TCP over IPv4
	if frame[12] == 0x86 {
		cut, start, protocol = 4, 54, frame[20]
	}
	header, sum := start+20, 16
	if protocol == unix.IPPROTO_UDP {
		cut, header, sum = 5, start+8, 6
	}
	h[0] = mostly[byte](f, 1, 0) // the checksum is to be made
	h[1] = mostly[byte](f, cut, 0, 1, 3, 4, 5)
	for i, usual := range []int{header, 500, start, sum} {
		binary.NativeEndian.PutUint16(h[2+2*i:], uint16(mostly(f, usual, 0, 1, f.IntN(len(frame)), 0xffff)))
	}
	return h
}

// ear is a wire with what of the frames was heard there.
type ear struct {
	name  string
	wire  *craft.Wire
	heard map[int]bool
}

// hear sends the frames out of the container's link, and returns which came in where. What
// comes last goes over the bridge, and by one processor, so that nothing comes behind it.
func hear(t *testing.T, from spec.Attachment, ears []*ear, frames, virtual [][]byte) {
	t.Helper()
	sent := make(map[string]int)
	for i, f := range frames {
		sent[string(f)] = i
		if len(f) > 18 && (f[12] == 0x81 || f[12] == 0x88) { // the kernel takes a tag out
			sent[string(slices.Concat(f[:12], f[16:]))] = i
		}
	}
	mac := from.Endpoints[0].MAC
	addr := from.Endpoints[0].Addr4.Addr().AsSlice()
	last := slices.Concat(bytes.Repeat([]byte{0xff}, 6), mac, []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 1}, mac, addr, make([]byte, 6), addr, []byte("the last one"))
	ended := make(chan error, len(ears))
	for _, e := range ears {
		e.heard = make(map[int]bool)
		go func() {
			over := false
			err := e.wire.Listen(time.Now().Add(30*time.Second), func(b []byte) bool {
				if i, ok := sent[string(b)]; ok {
					e.heard[i] = true
				}
				over = bytes.Equal(b, last)
				return over
			})
			if err == nil && !over {
				err = errors.New(e.name + ": the last frame was not heard")
			}
			ended <- err
		}()
	}
	inside(t, from, func() (any, error) { return nil, sendAll(append(slices.Clone(frames), last), virtual) })
	for range ears {
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
}

// sendAll sends frames out of the eth0 of the calling thread's namespace. The kernel refuses
// some of what is said of them.
func sendAll(frames, virtual [][]byte) error {
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	for i := range 1024 {
		if before.IsSet(i) {
			one.Set(i)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return err
	}
	defer func() { _ = unix.SchedSetaffinity(0, &before) }()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	eth0, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return err
	}
	for i, f := range frames {
		v := make([]byte, 10)
		if i < len(virtual) {
			v = virtual[i]
		}
		err := unix.Sendto(fd, append(slices.Clone(v), f...), 0, &unix.SockaddrLinklayer{Ifindex: eth0.Index})
		if err != nil && i == len(frames)-1 {
			return err
		}
	}
	return nil
}

// TestFastPathForged: of frames that a container forges, the same come in, and at the same
// places, whether or not there is a fast path.
func TestFastPathForged(t *testing.T) {
	h, a, b := fastHost(t)
	c := h.attach(t, 3, "dual")
	h.joined(t, 3)
	// Its own link lets out more than the others take in.
	shell(t, "nsenter --net=%s ip link set eth0 mtu 9100", a.Sandbox.Path)
	f := &forger{Rand: rand.New(rand.NewPCG(1, 2))} // the same in every run
	for _, at := range []spec.Attachment{a, b, c} {
		e := at.Endpoints[0]
		f.macs = append(f.macs, net.HardwareAddr(e.MAC))
		f.v4, f.v6 = append(f.v4, e.Addr4.Addr()), append(f.v6, e.Addr6.Addr())
	}
	bridge, err := net.InterfaceByName(a.Endpoints[0].Bridge)
	if err != nil {
		t.Fatal(err)
	}
	f.macs = append(f.macs, bridge.HardwareAddr, net.HardwareAddr{255, 255, 255, 255, 255, 255}, net.HardwareAddr{1, 0, 94, 0, 0, 1}, net.HardwareAddr{2, 3, 4, 5, 6, 7})
	for _, s := range []string{"255.255.255.255", "0.0.0.0", "224.0.0.1", "127.0.0.1", "192.0.2.1"} {
		f.v4 = append(f.v4, netip.MustParseAddr(s))
	}
	for _, s := range []string{"::", "::1", "ff02::1", "fe80::1", "2001:db8::1"} {
		f.v6 = append(f.v6, netip.MustParseAddr(s))
	}
	for _, a := range f.v4[:3] { // as IPv6 maps them, and as the fast path has them
		f.v6 = append(f.v6, netip.AddrFrom16(a.As16()))
		b := a.As4()
		f.v6 = append(f.v6, netip.AddrFrom16([16]byte(slices.Concat(bytes.Repeat([]byte{0xff}, 8), b[:], make([]byte, 4)))))
	}
	var frames, virtual [][]byte
	for i := range 1000 {
		frames = append(frames, f.frame(i))
		virtual = append(virtual, f.virtual(frames[i]))
	}
	ears := []*ear{{name: "b"}, {name: "c"}, {name: "the bridge"}}
	ears[0].wire = inside(t, b, func() (*craft.Wire, error) { return craft.Open("eth0") })
	ears[1].wire = inside(t, c, func() (*craft.Wire, error) { return craft.Open("eth0") })
	if ears[2].wire, err = craft.Open(bridge.Name); err != nil {
		t.Fatal(err)
	}
	for _, e := range ears {
		defer e.wire.Close()
	}
	handed := func() (n uint64) { return h.handed(a) + h.handed(b) + h.handed(c) }
	before := handed()
	hear(t, a, ears, frames, virtual)
	fast := make([]map[int]bool, len(ears))
	for i, e := range ears {
		fast[i] = e.heard
	}
	if n := handed() - before; n < 50 {
		t.Errorf("%d frames passed the bridge by", n)
	}
	shell(t, "nft 'add table bridge mine; add chain bridge mine forward { type filter hook forward priority 0; }'")
	defer shell(t, "nft delete table bridge mine")
	h.reason(t, "nft chain bridge mine forward filters")
	before = handed()
	hear(t, a, ears, frames, virtual)
	if n := handed() - before; n > 0 {
		t.Errorf("%d frames passed the bridge by though they may not", n)
	}
	for i, e := range ears {
		if len(e.heard) == 0 {
			t.Errorf("%s heard nothing", e.name)
		}
		for n, frame := range frames {
			if fast[i][n] != e.heard[n] {
				t.Errorf("%s heard frame %d (%x, of %x): by the fast path %t, by the bridge %t", e.name, n, frame, virtual[n], fast[i][n], e.heard[n])
			}
		}
	}
}
