// Package capture takes copies of the packets that pass the interfaces of a network
// namespace: an AF_PACKET socket with a ring that is shared with the kernel
// (TPACKET_V3, packet(7)), made inside the namespace.
//
// A Source costs nothing until it is open and leaves nothing when it is closed: the
// kernel closes it with the process, however that ends. Its memory is the ring, whose
// size never changes: a reader that is slow loses packets, which are counted.
//
// What the bytes mean, whose they are and where they go is somebody else's business.
package capture

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/faultpoint"
	"github.com/fairlead/fairlead/kernel/netns"
)

// MaxSnapLen is the longest part of a packet that is ever kept, as in tcpdump.
const MaxSnapLen = 262144

// DefaultRingBytes is how much memory a ring has of which nothing is said.
const DefaultRingBytes = 4 << 20

// blockBytes is what the kernel hands over at a time. A packet does not span blocks,
// and the longest there are by default have 64 KiB (GSO_LEGACY_MAX_SIZE).
const blockBytes = 128 << 10

// fewestBlocks is how many there are at least, for a reader that is kept from reading for
// some milliseconds.
const fewestBlocks = 8

// blockTimeout is how long a packet waits at most, in milliseconds, for others to be handed over with.
const blockTimeout = 10

// Options say what is kept of which packets.
type Options struct {
	// Filter is a classic BPF program for the interface's link layer: what it returns is
	// how many bytes of the packet are kept, 0 that it is not wanted. None wants all. The
	// kernel has taken a VLAN tag out of the packet by the time the filter sees it.
	Filter []bpf.RawInstruction
	// SnapLen is how many bytes of a packet are kept at most; 0 is MaxSnapLen. Not for a
	// Filter, which says so itself.
	SnapLen int
	// RingBytes is how much memory there is for packets not yet read; 0 is DefaultRingBytes.
	// It is rounded up to whole blocks of 128 KiB, eight at least. A block is handed over
	// after 10 ms though it may have one packet only: who reads in bursts needs many.
	RingBytes int
	// Promiscuous also gives what is not for the interface's own address: of a bridge, what
	// passes between its ports. Only with the name of an interface.
	Promiscuous bool
}

// Packet is one packet as an interface had it.
type Packet struct {
	// Time is when the kernel saw it, to the nanosecond.
	Time time.Time
	// Index is the interface's.
	Index int
	// Hardware is the interface's type (ARPHRD_ETHER, …): what Data begins with.
	Hardware uint16
	// Outgoing is set on what the interface sends; what it receives may also be for
	// somebody else, or for many: see Type.
	Outgoing bool
	// Type is whom a packet that comes in is for: PACKET_HOST, PACKET_BROADCAST,
	// PACKET_MULTICAST or PACKET_OTHERHOST of packet(7).
	Type uint8
	// Data begins with the header of the link layer, with its VLAN tag where there was one.
	// It is the caller's.
	Data []byte
	// Length is how long the packet was on the wire, in bytes; Data may be less.
	Length int
}

// Stats are counts since the source was opened.
type Stats struct {
	// Received is how many packets the filter wanted, Dropped how many of them were lost
	// for want of room.
	Received, Dropped uint64
}

// Source gives packets. Its methods may be used by several goroutines at once.
type Source struct {
	file   *os.File
	name   string // of the interface; "" is all
	index  int
	reader sync.Mutex // has the ring
	ring   ring
	closed bool
	ending atomic.Bool // Close has been called
	down   bool        // the interface was, when it was last heard of

	counts sync.Mutex
	stats  Stats
}

// Open starts to take packets of the interface in the namespace that is pinned at path
// ("" is the caller's own); a name of "" is all interfaces. What passes a loopback
// interface is given once, as it comes in.
//
// As long as a source is open, its namespace and what is in it live on. No such namespace
// or interface gives errdefs.ErrNotFound, a filter that the kernel does not take
// errdefs.ErrInvalidArgument, a caller without CAP_NET_RAW errdefs.ErrPermissionDenied, a
// kernel without AF_PACKET errdefs.ErrUnavailable.
func Open(path, name string, o Options) (*Source, error) {
	if path == "" {
		return open(name, o)
	}
	ns, err := netns.Open(path)
	if err != nil {
		return nil, err
	}
	var s *Source
	err = netns.Do(ns, func() (err error) {
		s, err = open(name, o)
		return err
	})
	if e := ns.Close(); e != nil && err == nil {
		return nil, errors.Join(e, s.Close())
	}
	return s, err
}

// Hardware is the type (ARPHRD_ETHER, …) of the interface in the namespace that is pinned
// at path: what its packets begin with, which a filter has to know. Errors are those of Open.
func Hardware(path, name string) (hardware uint16, err error) {
	ask := func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return explain(name, err)
		}
		if _, hardware, err = identify(fd, name); err != nil {
			err = explain(name, err)
		}
		return errors.Join(err, unix.Close(fd))
	}
	if path == "" {
		err := ask()
		return hardware, err
	}
	ns, err := netns.Open(path)
	if err != nil {
		return 0, err
	}
	err = netns.Do(ns, ask)
	return hardware, errors.Join(err, ns.Close())
}

func open(name string, o Options) (*Source, error) {
	if err := faultpoint.Here("capture.open"); err != nil {
		return nil, explain(name, err)
	}
	// Of no protocol: nothing comes in before it is bound.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, explain(name, err)
	}
	s := &Source{name: name}
	if err := s.prepare(fd, o); err != nil {
		return nil, explain(name, errors.Join(err, s.ring.unmap(), unix.Close(fd)))
	}
	s.file = os.NewFile(uintptr(fd), "packets of "+s.what())
	return s, nil
}

// prepare makes the socket what was asked for, and binds it last.
func (s *Source) prepare(fd int, o Options) (err error) {
	if s.name != "" {
		if s.index, _, err = identify(fd, s.name); err != nil {
			return err
		}
	}
	if err := setFilter(fd, o); err != nil {
		return err
	}
	if s.ring, err = mapRing(fd, o.RingBytes); err != nil {
		return err
	}
	if o.Promiscuous && s.index != 0 {
		mreq := unix.PacketMreq{Ifindex: int32(s.index), Type: unix.PACKET_MR_PROMISC}
		if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &mreq); err != nil {
			return fmt.Errorf("PACKET_ADD_MEMBERSHIP: %w", err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ALL), Ifindex: s.index}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

// bigEndian has the bytes of a number in the network's order.
func bigEndian(v uint16) uint16 { return v<<8 | v>>8 }

func identify(fd int, name string) (index int, hardware uint16, err error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return 0, 0, fmt.Errorf("%q is no name of an interface: %w", name, errdefs.ErrInvalidArgument)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req); err != nil {
		return 0, 0, err
	}
	index = int(req.Uint32())
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFHWADDR, req); err != nil {
		return 0, 0, err
	}
	return index, req.Uint16(), nil
}

// setFilter has the kernel keep no more than was asked for.
func setFilter(fd int, o Options) error {
	program := o.Filter
	if len(program) == 0 {
		keep := uint32(MaxSnapLen)
		if o.SnapLen > 0 && o.SnapLen < MaxSnapLen {
			keep = uint32(o.SnapLen)
		}
		program = []bpf.RawInstruction{{Op: unix.BPF_RET | unix.BPF_K, K: keep}}
	}
	if len(program) > unix.BPF_MAXINSNS {
		return fmt.Errorf("the filter has %d instructions, the kernel takes %d: %w", len(program), unix.BPF_MAXINSNS, errdefs.ErrInvalidArgument)
	}
	raw := make([]unix.SockFilter, len(program))
	for i, in := range program {
		raw[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	prog := unix.SockFprog{Len: uint16(len(raw)), Filter: &raw[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
		return fmt.Errorf("the kernel does not take the filter: %w", err)
	}
	return nil
}

// Stats counts what came since the source was opened.
func (s *Source) Stats() (Stats, error) {
	s.counts.Lock()
	defer s.counts.Unlock()
	raw, err := s.file.SyscallConn()
	if err != nil {
		return s.stats, err
	}
	// The kernel forgets what it has told. What it received includes what it dropped.
	var e error
	err = raw.Control(func(fd uintptr) {
		var st *unix.TpacketStatsV3
		if st, e = unix.GetsockoptTpacketStatsV3(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); e == nil {
			s.stats.Received += uint64(st.Packets)
			s.stats.Dropped += uint64(st.Drops)
		}
	})
	return s.stats, errors.Join(err, e)
}

// Drops is how many packets were lost for want of room since the source was opened.
func (s *Source) Drops() (uint64, error) {
	st, err := s.Stats()
	return st.Dropped, err
}

// Close ends the source; who waits in Next gets os.ErrClosed. A second time does nothing.
func (s *Source) Close() error {
	if s == nil {
		return nil
	}
	s.ending.Store(true)
	err := s.file.Close()
	s.reader.Lock()
	defer s.reader.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return errors.Join(err, s.ring.unmap())
}

func (s *Source) what() string {
	if s.name == "" {
		return "all interfaces"
	}
	return s.name
}

func explain(name string, err error) error {
	var kind error
	switch {
	case errors.Is(err, errdefs.ErrInvalidArgument):
		return err
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("there is no interface %s: %w", name, errdefs.ErrNotFound)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		kind = errdefs.ErrPermissionDenied
	case errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EPROTONOSUPPORT):
		kind = errdefs.ErrUnavailable
	case errors.Is(err, unix.ENOMEM), errors.Is(err, unix.ENOBUFS):
		kind = errdefs.ErrResourceExhausted
	case errors.Is(err, unix.EINVAL):
		kind = errdefs.ErrInvalidArgument
	default:
		kind = errdefs.ErrUnknown
	}
	if name == "" {
		name = "all interfaces"
	}
	return fmt.Errorf("cannot capture on %s: %w: %w", name, err, kind)
}
