package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// ring is memory that the kernel and we share: blocks, each of which one of the two
// has at a time (Documentation/networking/packet_mmap.rst).
type ring struct {
	mem    []byte
	blocks int
	// block is the one to read next, left how many of its packets were not given yet, and
	// at where the next of them begins, from the block's start.
	block, left, at int
}

func mapRing(fd, bytes int) (ring, error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3); err != nil {
		return ring{}, fmt.Errorf("PACKET_VERSION: %w", err)
	}
	if bytes <= 0 {
		bytes = DefaultRingBytes
	}
	blocks := max(fewestBlocks, (bytes+blockBytes-1)/blockBytes)
	const frame = 2048 // of no meaning in this version, but checked
	req := unix.TpacketReq3{
		Block_size: blockBytes, Block_nr: uint32(blocks),
		Frame_size: frame, Frame_nr: uint32(blocks * blockBytes / frame),
		Retire_blk_tov: blockTimeout,
	}
	if err := unix.SetsockoptTpacketReq3(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return ring{}, fmt.Errorf("PACKET_RX_RING: %w", err)
	}
	mem, err := unix.Mmap(fd, 0, blocks*blockBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return ring{}, fmt.Errorf("mmap: %w", err)
	}
	return ring{mem: mem, blocks: blocks}, nil
}

func (r *ring) unmap() error {
	if r.mem == nil {
		return nil
	}
	mem := r.mem
	r.mem = nil
	return unix.Munmap(mem)
}

// blockHeader is where the header of the current block begins, behind its version and
// the offset of private data, of which there is none.
func (r *ring) blockHeader() *unix.TpacketHdrV1 {
	const before = 8
	return (*unix.TpacketHdrV1)(unsafe.Pointer(&r.mem[r.block*blockBytes+before]))
}

// take gives the next packet; false when the kernel has handed over none.
func (r *ring) take() (Packet, bool) {
	for {
		if r.left == 0 {
			h := r.blockHeader()
			if atomic.LoadUint32(&h.Block_status)&unix.TP_STATUS_USER == 0 {
				return Packet{}, false
			}
			r.left, r.at = int(h.Num_pkts), int(h.Offset_to_first_pkt)
			if r.left == 0 {
				r.giveBack()
				continue
			}
		}
		p, wanted := r.packet()
		if r.left--; r.left == 0 {
			r.giveBack()
		}
		if wanted {
			return p, true
		}
	}
}

func (r *ring) giveBack() {
	atomic.StoreUint32(&r.blockHeader().Block_status, unix.TP_STATUS_KERNEL)
	r.block = (r.block + 1) % r.blocks
}

// packet reads the packet at the current place and goes on to the next.
func (r *ring) packet() (Packet, bool) {
	start := r.block*blockBytes + r.at
	h := (*unix.Tpacket3Hdr)(unsafe.Pointer(&r.mem[start]))
	from := (*unix.RawSockaddrLinklayer)(unsafe.Pointer(&r.mem[start+unix.SizeofTpacket3Hdr]))
	r.at += int(h.Next_offset)
	outgoing := from.Pkttype == unix.PACKET_OUTGOING
	if outgoing && from.Hatype == unix.ARPHRD_LOOPBACK {
		return Packet{}, false // comes in at once
	}
	data := r.mem[start+int(h.Mac) : start+int(h.Mac)+int(h.Snaplen)]
	p := Packet{
		Time:  time.Unix(int64(h.Sec), int64(h.Nsec)),
		Index: int(from.Ifindex), Hardware: from.Hatype,
		Outgoing: outgoing, Type: from.Pkttype,
		Length: int(h.Len),
	}
	if h.Status&unix.TP_STATUS_VLAN_VALID == 0 || len(data) < 2*addressBytes {
		p.Data = append([]byte(nil), data...)
		return p, true
	}
	p.Data = withTag(data, h)
	p.Length += tagBytes
	return p, true
}

const (
	addressBytes = 6 // of Ethernet
	tagBytes     = 4
)

// withTag puts the VLAN tag, which the kernel keeps beside the packet, back behind the addresses.
func withTag(data []byte, h *unix.Tpacket3Hdr) []byte {
	protocol := uint16(unix.ETH_P_8021Q)
	if h.Status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
		protocol = h.Hv1.Vlan_tpid
	}
	out := make([]byte, 0, len(data)+tagBytes)
	out = append(out, data[:2*addressBytes]...)
	out = binary.BigEndian.AppendUint16(out, protocol)
	out = binary.BigEndian.AppendUint16(out, uint16(h.Hv1.Vlan_tci))
	return append(out, data[2*addressBytes:]...)
}

// Next waits for a packet. When ctx ends it returns its error, and what came meanwhile
// can still be had; after Close it returns os.ErrClosed. An interface that is gone gives
// errdefs.ErrNotFound, once all its packets were given; one that is merely down is
// waited for.
func (s *Source) Next(ctx context.Context) (Packet, error) {
	s.reader.Lock()
	defer s.reader.Unlock()
	if s.closed {
		return Packet{}, os.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return Packet{}, err
	}
	if p, ok := s.ring.take(); ok {
		return p, nil
	}
	return s.wait(ctx)
}

// Pending gives a packet that the kernel has handed over already; false when there is none,
// and after Close.
func (s *Source) Pending() (Packet, bool) {
	s.reader.Lock()
	defer s.reader.Unlock()
	if s.closed {
		return Packet{}, false
	}
	return s.ring.take()
}

func (s *Source) wait(ctx context.Context) (Packet, error) {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return Packet{}, err
	}
	if err := s.file.SetReadDeadline(time.Time{}); err != nil {
		if s.ending.Load() {
			err = os.ErrClosed
		}
		return Packet{}, err
	}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = s.file.SetReadDeadline(time.Unix(1, 0)) // fails on what is closed
		close(woken)
	})
	var p Packet
	var gone error
	for {
		err = raw.Read(func(fd uintptr) (done bool) {
			// Asked before the ring is looked at: what came before it went is still given.
			gone = s.gone(int(fd))
			var ok bool
			if p, ok = s.ring.take(); ok {
				gone, s.down = nil, false
			}
			if s.down {
				_ = s.file.SetReadDeadline(time.Now().Add(lookAgain))
			}
			return ok || gone != nil
		})
		if !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil || s.file.SetReadDeadline(time.Time{}) != nil || ctx.Err() != nil {
			break // ctx is asked once more: its own deadline may be what was just taken back
		}
	}
	if !stop() {
		<-woken
	}
	switch {
	case err != nil && s.ending.Load():
		return Packet{}, os.ErrClosed // the poller has an error of its own for a file that is being closed
	case err != nil && ctx.Err() != nil:
		return Packet{}, ctx.Err()
	case err != nil:
		return Packet{}, err
	}
	return p, gone
}

// lookAgain is how often an interface that went down is asked for: the kernel wakes the
// reader when it goes down, and not again when it is then gone (packet_notifier).
const lookAgain = 100 * time.Millisecond

// gone asks whether the interface is. The kernel says that it went down (ENETDOWN), which
// it may come back from.
func (s *Source) gone(fd int) error {
	if s.index == 0 {
		return nil
	}
	// Reading it also clears it.
	e, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	s.down = s.down || e == int(unix.ENETDOWN)
	req, err := unix.NewIfreq(s.name)
	if err != nil {
		return err
	}
	req.SetUint32(uint32(s.index))
	if unix.IoctlIfreq(fd, unix.SIOCGIFNAME, req) == nil {
		return nil
	}
	return fmt.Errorf("interface %s is gone: %w", s.name, errdefs.ErrNotFound)
}
