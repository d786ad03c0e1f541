package fastpath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/faultpoint"
)

// Flow is a TCP connection between a container and somebody outside. Conntrack has to have
// it as established, and to take its segments whatever their sequence numbers say, for it
// does not see them all.
type Flow struct {
	// Outside, Host and Container are its ends: on the container's link it goes between
	// Container and Outside, on the host's own between Host, which may be Container, and
	// Outside. All are of one family.
	Outside, Host, Container netip.AddrPort
	// Port is the container's, which has to take part.
	Port Port
	// Gateway is the hardware address that the container sends to, and MTU the length of the
	// packets that it may be sent.
	Gateway net.HardwareAddr
	MTU     int
	// Link is the index of the host's own interface, with its hardware address.
	Link    int
	LinkMAC net.HardwareAddr
	// NextHop is who is next behind it, and LinkMTU the length of the packets on that way.
	NextHop netip.Addr
	LinkMTU int
}

// flowKey is one direction of a flow: where its segments come in, with the addresses, as
// IPv6 has them, and ports that they have there, in the packet's order of bytes.
type flowKey struct {
	at       uint32
	ports    [4]byte
	from, to [16]byte
}

// flowState is what becomes of a segment.
type flowState struct {
	from, to [16]byte
	ports    [4]byte
	// The sums are what checksums grow by: IPv4's header's with its TTL, TCP's for the
	// addresses and for the ports.
	headerSum, addrSum, portSum uint32
	// The hardware address that the frames are for.
	macStart uint16
	_        uint16
	macEnd   uint32
	// macs are whom they are for and from behind the container's port.
	macs [12]byte
	link uint32 // where they go
	// hopFamily and hop are struct bpf_redir_neigh; 0 of what goes to a container.
	hopFamily uint32
	hop       [16]byte
	mtu       uint32
	// closing says that a segment was seen that begins or ends something.
	closing uint32
	// slot counts what goes to a container, as if a neighbour sent it.
	slot uint32
	_    uint32
	// acked is what was acknowledged when the owner last heard of that, or at first, and ack by
	// the last segment; 0 where nothing was.
	acked, ack uint32
	// seen is when the host last saw a segment, and last when there was one.
	seen, last uint64
	// back is the other direction.
	back flowKey
}

// Stands for a slot of nobody.
const noSlot = homes + probes - 1

// mappedPrefix is what stands before an IPv4 address in the IPv6 address for it.
var mappedPrefix = binary.NativeEndian.Uint32([]byte{0, 0, 0xff, 0xff})

// keys are those of both directions, what comes in from outside first.
func (f Flow) keys() (in, out flowKey) {
	in = flowKey{uint32(f.Link), ports(f.Outside, f.Host), f.Outside.Addr().As16(), f.Host.Addr().As16()}
	out = flowKey{uint32(f.Port.Index), ports(f.Container, f.Outside), f.Container.Addr().As16(), f.Outside.Addr().As16()}
	return in, out
}

func (f Flow) states() (in, out flowState) {
	inKey, outKey := f.keys()
	in = translated(inKey, f.LinkMAC, f.Outside, f.Container)
	copy(in.macs[:], f.Port.MAC)
	copy(in.macs[6:], f.Gateway)
	in.link, in.mtu = uint32(f.Port.Index), uint32(f.MTU)
	out = translated(outKey, f.Gateway, f.Host, f.Outside)
	out.link, out.mtu, out.slot = uint32(f.Link), uint32(f.LinkMTU), noSlot
	if hop := f.NextHop.Unmap(); hop.Is4() {
		out.hopFamily = unix.AF_INET
		copy(out.hop[:], hop.AsSlice())
	} else {
		out.hopFamily, out.hop = unix.AF_INET6, hop.As16()
	}
	return in, out
}

func ports(from, to netip.AddrPort) (p [4]byte) {
	binary.BigEndian.PutUint16(p[:], from.Port())
	binary.BigEndian.PutUint16(p[2:], to.Port())
	return p
}

// translated is what the segments get in place of what their key has.
func translated(k flowKey, mac net.HardwareAddr, from, to netip.AddrPort) flowState {
	s := flowState{from: from.Addr().As16(), to: to.Addr().As16(), ports: ports(from, to)}
	s.macStart, s.macEnd = binary.NativeEndian.Uint16(mac), binary.NativeEndian.Uint32(mac[2:])
	s.addrSum = growth(k.from[:], s.from[:]) + growth(k.to[:], s.to[:])
	s.portSum = growth(k.ports[:], s.ports[:])
	s.headerSum = s.addrSum + growth([]byte{2, unix.IPPROTO_TCP}, []byte{1, unix.IPPROTO_TCP})
	return s
}

// growth is what a one's complement sum grows by where one thing takes another's place, not
// folded; 0 where they are the same. The order of bytes does not matter to it (RFC 1071).
func growth(before, after []byte) (sum uint32) {
	for i := 0; i < len(before); i += 2 {
		if b, a := binary.NativeEndian.Uint16(before[i:]), binary.NativeEndian.Uint16(after[i:]); a != b {
			sum += uint32(^b) + uint32(a)
		}
	}
	return sum
}

// AddFlow has the flow take the fast path in both directions. A port that takes no part
// gives errdefs.ErrFailedPrecondition, and addresses that do not go together give
// errdefs.ErrInvalidArgument.
func (p *Path) AddFlow(f Flow) error {
	if err := p.addFlow(f); err != nil {
		return fmt.Errorf("have the connection of %v with %v take the fast path: %w", f.Container, f.Outside, err)
	}
	return nil
}

func (p *Path) addFlow(f Flow) error {
	if err := faultpoint.Here("fastpath.flow"); err != nil {
		return err
	}
	for _, mac := range []net.HardwareAddr{f.Port.MAC, f.Gateway, f.LinkMAC} {
		if len(mac) != 6 {
			return fmt.Errorf("%q is no Ethernet address: %w", mac, errdefs.ErrInvalidArgument)
		}
	}
	if !f.oneFamily() {
		return fmt.Errorf("it has addresses of two families, or none, by way of %v: %w", f.NextHop, errdefs.ErrInvalidArgument)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.table == nil:
		return errClosed
	case p.flows.lack != nil:
		return p.flows.lack
	case p.flows.lack6 != nil && !f.Container.Addr().Unmap().Is4():
		return p.flows.lack6
	}
	receiver := p.table.find(keyOf(f.Port.Segment|inSegment, f.Container.Addr()))
	if receiver == nil || receiver.to != uint32(f.Port.Index) {
		return fmt.Errorf("interface %d takes no part: %w", f.Port.Index, errdefs.ErrFailedPrecondition)
	}
	if err := p.flows.settle(p.table); err != nil {
		return err
	}
	inKey, outKey := f.keys()
	in, out := f.states()
	in.slot = uint32((uintptr(unsafe.Pointer(receiver)) - uintptr(unsafe.Pointer(&p.table.slots[0]))) / unsafe.Sizeof(slot{}))
	now := p.table.now.Load()
	in.seen, in.last, in.back = now, now, outKey
	out.seen, out.last, out.back = now, now, inKey
	if err := p.flows.table.Update(bytesOf(&outKey), bytesOf(&out), ebpf.UpdateNoExist); err != nil {
		return err
	}
	if err := p.flows.table.Update(bytesOf(&inKey), bytesOf(&in), ebpf.UpdateNoExist); err != nil {
		p.flows.removed.Add(1)
		return errors.Join(err, p.flows.table.Delete(bytesOf(&outKey)))
	}
	return nil
}

// oneFamily says that the ends are of one, and the next hop is of it as well: only what is
// next for IPv4 may have an IPv6 address (RFC 8950).
func (f Flow) oneFamily() bool {
	four := f.Outside.Addr().Unmap().Is4()
	for _, a := range []netip.Addr{f.Outside.Addr(), f.Host.Addr(), f.Container.Addr()} {
		if !a.IsValid() || a.Unmap().Is4() != four {
			return false
		}
	}
	return f.NextHop.IsValid() && (four || !f.NextHop.Unmap().Is4())
}

// RemoveFlow has the flow take the host's way again. One that is not there is no error.
func (p *Path) RemoveFlow(f Flow) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.table == nil || p.flows.lack != nil {
		return nil
	}
	in, out := f.keys()
	var errs []error
	for _, k := range []flowKey{in, out} {
		switch err := p.flows.table.Delete(bytesOf(&k)); {
		case err == nil:
			p.flows.removed.Add(1)
		case !errors.Is(err, ebpf.ErrKeyNotExist):
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("take the connection of %v with %v off the fast path: %w", f.Container, f.Outside, err)
	}
	return nil
}

// Quiet is for how long no segment of the flow was seen in either direction, up to when
// AllowFlows was called last. One that is not there gives errdefs.ErrNotFound.
func (p *Path) Quiet(f Flow) (time.Duration, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.table == nil || p.flows.lack != nil {
		return 0, errClosed
	}
	last := uint64(0)
	in, out := f.keys()
	for _, k := range []flowKey{in, out} {
		var s flowState
		switch err := p.flows.table.Lookup(bytesOf(&k), bytesOf(&s)); {
		case errors.Is(err, ebpf.ErrKeyNotExist):
			return 0, fmt.Errorf("the connection of %v with %v does not take the fast path: %w", f.Container, f.Outside, errdefs.ErrNotFound)
		case err != nil:
			return 0, fmt.Errorf("look at the connection of %v with %v: %w", f.Container, f.Outside, err)
		}
		last = max(last, s.last)
	}
	return time.Duration(max(p.table.now.Load(), last)-last) * p.tick, nil
}

func bytesOf[T any](v *T) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)) }
