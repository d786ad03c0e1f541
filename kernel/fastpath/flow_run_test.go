package fastpath_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/fastpath"
)

// run runs the program of flows with the segment where it comes in.
func (s *flowSite) run(g segment, flags uint32) (verdict int32, out []byte) {
	s.t.Helper()
	outside, index := false, s.ports["a"].Index
	if bytes.Equal(g.fromMAC, s.ports["b"].MAC) {
		outside, index = true, s.link.Index
	}
	s.do(s.host, func() (err error) {
		verdict, out, err = s.path.Run(outside, index, g.bytes(), flags)
		if errors.Is(err, unix.EINVAL) && flags == fastpath.Counted {
			verdict, out, err = s.path.Run(outside, index, g.bytes(), 0) // an older kernel
		}
		return err
	})
	return verdict, out
}

// TestGrowth: a sum that grows is that of what it grew to, whatever stands for nothing.
func TestGrowth(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	odd := []uint16{0, 1, 0xff, 0x100, 0xff00, 0xfffe, 0xffff}
	words := func() (b []byte) {
		for range 8 {
			w := uint16(random.Uint32())
			if random.IntN(2) == 0 {
				w = odd[random.IntN(len(odd))]
			}
			b = binary.NativeEndian.AppendUint16(b, w)
		}
		return b
	}
	sum := func(n uint64, b []byte) uint64 { // modulo 0xffff, which is what one's complement is
		for i := 0; i < len(b); i += 2 {
			n += uint64(binary.NativeEndian.Uint16(b[i:]))
		}
		return n % 0xffff
	}
	for range 100_000 {
		before, after := words(), words()
		if got, want := sum(uint64(fastpath.Growth(before, after)), before), sum(0, after); got != want {
			t.Fatalf("%x to %x: the sum becomes %x, want %x", before, after, got, want)
		}
	}
	if same := words(); fastpath.Growth(same, same) != 0 {
		t.Errorf("%x stays, and the sum grows", same)
	}
}

// TestFlowSums: the checksums are right whatever they were, and so is the sum of the whole
// that the hardware counted.
func TestFlowSums(t *testing.T) {
	t.Parallel()
	s := newFlowSite(t)
	routed := s.flows
	for _, f := range s.flows {
		f.Outside = nextPort(f.Outside)
		f.Host = f.Container
		routed = append(routed, f)
	}
	s.flows = routed
	s.addFlows()
	for _, f := range s.flows {
		for _, base := range []segment{s.in(f), s.out(f)} {
			for _, flags := range []uint32{0, fastpath.Counted} {
				s.sums(base, flags)
			}
		}
	}
}

// sums runs the program with segments whose checksum, or whose translation's, is one of those
// that are easily got wrong.
func (s *flowSite) sums(base segment, flags uint32) {
	s.t.Helper()
	for _, target := range []uint16{0, 1, 2, 0xff, 0x100, 0x101, 0xfffd, 0xfffe, 0xfdff, 0xfeff} {
		for _, later := range []bool{false, true} {
			g := base
			g.what = "even"
			g.payload = make([]byte, 2+len("mark of even.")%2)
			checksum := func(at func(segment) int) uint16 {
				judged := g
				if later {
					judged = s.translated(g)
				}
				return binary.BigEndian.Uint16(judged.bytes()[at(judged):])
			}
			// A checksum is what lacks to 0xffff: a word that was 0 grows by what the checksum is
			// to shrink by.
			word := func(at func(segment) int) uint16 {
				return uint16((uint32(checksum(at)) + 0xffff - uint32(target)) % 0xffff)
			}
			binary.BigEndian.PutUint16(g.payload[len(g.payload)-2:], word(tcpChecksum))
			ats := []func(segment) int{tcpChecksum}
			if g.from.Addr().Is4() {
				g.id = word(ip4Checksum)
				ats = append(ats, ip4Checksum)
			}
			for _, at := range ats {
				if got := checksum(at); got != target && (target != 0 || got != 0xffff) {
					s.t.Fatalf("a checksum is %x, want %x", got, target)
				}
			}
			verdict, out := s.run(g, flags)
			want := s.translated(g)
			s.same(g, verdict, out, want.bytes())
		}
	}
}

// same judges but the hardware addresses of what goes out, which are not written yet.
func (s *flowSite) same(g segment, verdict int32, out, want []byte) {
	s.t.Helper()
	const ether = 12
	if verdict != fastpath.Redirected || len(out) != len(want) || !bytes.Equal(out[ether:], want[ether:]) {
		s.t.Errorf("%s to %s: the program says %d\n got %x\nwant %x", g.from, g.to, verdict, out, want)
	}
}

// tcpChecksum is where TCP's is in the segment's frame, and ip4Checksum where IPv4's is.
func tcpChecksum(g segment) int {
	if g.from.Addr().Is6() {
		return 14 + 40 + 16
	}
	return 14 + 20 + 16
}

func ip4Checksum(segment) int { return 14 + 10 }

func nextPort(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), a.Port()+1) }
