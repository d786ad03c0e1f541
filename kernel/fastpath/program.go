package fastpath

import (
	"encoding/binary"
	"fmt"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Offsets in struct __sk_buff (linux/bpf.h), the program's context.
const (
	ctxLength      = 0
	ctxVLANPresent = 20
	ctxIfIndex     = 40
	ctxData        = 76
	ctxDataEnd     = 80
)

// Offsets in the frame: Ethernet, then IPv4 or IPv6 with nothing between it and the ports.
const (
	frameTo     = 0
	frameFrom   = 6
	frameType   = 12
	ip          = 14
	ip4Length   = ip + 2
	ip4Fragment = ip + 6
	ip4Protocol = ip + 9
	ip4From     = ip + 12
	ip4To       = ip + 16
	ip4End      = ip + 20
	ip6Length   = ip + 4 // of what is behind the header
	ip6Next     = ip + 6
	ip6From     = ip + 8
	ip6To       = ip + 24
	ip6End      = ip + 40
	portTo      = 2 // from the end of the IP header
	portsEnd    = 4
)

// Offsets in the table and its slots.
const (
	headUntil   = int16(unsafe.Offsetof(head{}.until))
	headNow     = int16(unsafe.Offsetof(head{}.now))
	headFlows   = int16(unsafe.Offsetof(head{}.flowsUntil))
	firstSlot   = int32(unsafe.Offsetof(content{}.slots))
	slotSize    = int16(unsafe.Sizeof(slot{}))
	slotOf      = int16(unsafe.Offsetof(slot{}.of))
	slotTo      = int16(unsafe.Offsetof(slot{}.to))
	slotHi      = int16(unsafe.Offsetof(slot{}.hi))
	slotLo      = int16(unsafe.Offsetof(slot{}.lo))
	slotMAC     = int16(unsafe.Offsetof(slot{}.macStart))
	slotMACRest = int16(unsafe.Offsetof(slot{}.macEnd))
	slotSeen    = int16(unsafe.Offsetof(slot{}.seen))
	slotFrames  = int16(unsafe.Offsetof(slot{}.frames))
	slotBytes   = int16(unsafe.Offsetof(slot{}.bytes))
)

const (
	// The ports of DHCP's clients: nobody but a server sends there, and no container may.
	dhcpClient4, dhcpClient6 = 68, 546
	tcxNext                  = -1 // TCX_NEXT of linux/bpf.h: whoever comes next decides
	packetHost               = 0  // PACKET_HOST of linux/if_packet.h
	// remindEvery is how often the bridge sees a frame of each port, so that it does not
	// forget where the port is (ageing_time, 300 s unless the user says otherwise).
	remindEvery = 10 * time.Second
)

// The registers. A call takes the first six away, and only the last thing that the program
// does is one.
const (
	found = asm.R0 // a slot
	of    = asm.R1 // what is looked up: of whom,
	hi    = asm.R2 // and which address
	lo    = asm.R3
	toHi  = asm.R4 // the receiver's
	toLo  = asm.R5
	skb   = asm.R6
	data  = asm.R7
	now   = asm.R8
	spare = asm.R9
)

// slow is where the program leaves the frame to the bridge, and outside where it leaves it
// to the program of flows, for nobody of the segment has the address.
const (
	slow    = "slow"
	outside = "outside"
)

// program hands over what it may, and leaves the rest to the bridge. After so many ticks
// the bridge is shown a frame; turn says that the frame is not for the container yet where
// it comes to.
func program(table, flows *ebpf.Map, remindAfter uint64, turn bool) asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(skb, asm.R1),
		asm.FnJiffies64.Call(), // which is no call, but two instructions
		asm.Mov.Reg(now, asm.R0),
		asm.LoadMapValue(spare, table.FD(), 0),
		asm.LoadMem(spare, spare, headUntil, asm.DWord),
		asm.JGT.Reg(now, spare, slow),
		asm.LoadMem(spare, skb, ctxVLANPresent, asm.Word),
		asm.JNE.Imm(spare, 0, slow),
		asm.LoadMem(data, skb, ctxData, asm.Word),
		asm.LoadMem(of, skb, ctxDataEnd, asm.Word),
		asm.Mov.Reg(spare, data), asm.Add.Imm(spare, ip4End+portsEnd),
		asm.JGT.Reg(spare, of, slow), // or not in the packet's first part
		asm.LoadMem(spare, data, frameType, asm.Half),
		asm.JEq.Imm(spare, wire(0x08, 0x00), "ip4"),
		asm.JNE.Imm(spare, wire(0x86, 0xdd), slow),
	}
	p = append(p, six()...)
	p = append(p, four()...)
	p = append(p, asm.LoadMem(of, skb, ctxIfIndex, asm.Word).WithSymbol("known"))
	p = append(p, lookup(table, "sender", slow)...)
	p = append(p, sameMAC(frameFrom)...)
	p = append(p, remind(remindAfter)...)
	p = append(p, asm.Mov.Reg(hi, toHi).WithSymbol("seen"), asm.Mov.Reg(lo, toLo))
	p = append(p, lookup(table, "receiver", outside)...)
	p = append(p, sameMAC(frameTo)...)
	p = append(p, // what a container sends to itself no bridge sends back
		asm.LoadMem(spare, skb, ctxIfIndex, asm.Word),
		asm.JEq.Reg(spare, of, slow))
	p = append(p, handOver(turn)...)
	return append(p,
		asm.Mov.Reg(asm.R1, skb).WithSymbol(outside),
		asm.LoadMapPtr(asm.R2, flows.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnTailCall.Call(),
		asm.Mov.Imm(asm.R0, tcxNext).WithSymbol(slow),
		asm.Return(),
	)
}

// clock writes down the tick.
func clock(table *ebpf.Map) asm.Instructions {
	return asm.Instructions{
		asm.FnJiffies64.Call(),
		asm.LoadMapValue(asm.R1, table.FD(), 0),
		asm.StoreMem(asm.R1, headNow, asm.R0, asm.DWord),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	}
}

// wire is two bytes of a frame as the processor has them in a register.
func wire(b ...byte) int32 { return int32(binary.NativeEndian.Uint16(b)) }

// whole leaves the frame to the bridge where the packet says that it is longer than it is:
// the bridge's rules do not find their way in such a one.
func whole(length int16, header int32) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(of, skb, ctxLength, asm.Word),
		asm.LoadMem(spare, data, length, asm.Half),
		asm.HostTo(asm.BE, spare, asm.Half),
		asm.Add.Imm(spare, header),
		asm.JGT.Reg(spare, of, slow),
	}
}

// four fills in the addresses of an IPv4 packet that is whole and has no options.
func four() asm.Instructions {
	p := asm.Instructions{
		asm.LoadMem(spare, data, ip, asm.Byte).WithSymbol("ip4"),
		asm.JNE.Imm(spare, 0x45, slow), // the version, and five words of header
		asm.LoadMem(spare, data, ip4Fragment, asm.Half),
		asm.And.Imm(spare, wire(0xbf, 0xff)), // all but "don't fragment"
		asm.JNE.Imm(spare, 0, slow),
	}
	p = append(p, whole(ip4Length, ip)...)
	return append(p,
		asm.JLT.Imm(spare, ip4End, slow), // shorter than its header
		asm.Mov.Imm(hi, -1),              // isIPv4
		asm.LoadMem(lo, data, ip4From, asm.Word),
		asm.Mov.Imm(toHi, -1),
		asm.LoadMem(toLo, data, ip4To, asm.Word),
		asm.LoadMem(spare, data, ip4Protocol, asm.Byte),
		asm.JEq.Imm(spare, unix.IPPROTO_TCP, "known"),
		asm.JNE.Imm(spare, unix.IPPROTO_UDP, slow),
		asm.LoadMem(spare, data, ip4End+portTo, asm.Half),
		asm.JEq.Imm(spare, wire(dhcpClient4>>8, dhcpClient4&0xff), slow),
	)
}

// six does the same with an IPv6 packet whose first header is the transport's. The end of
// the frame's first part is where the key will be.
func six() asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(spare, data), asm.Add.Imm(spare, ip6End+portsEnd),
		asm.JGT.Reg(spare, of, slow),
		asm.LoadMem(spare, data, ip, asm.Byte),
		asm.RSh.Imm(spare, 4),
		asm.JNE.Imm(spare, 6, slow),
	}
	p = append(p, whole(ip6Length, ip6End)...)
	return append(p,
		asm.LoadMem(hi, data, ip6From, asm.DWord),
		asm.JEq.Imm(hi, -1, slow), // isIPv4, in no address but in a forged one
		asm.LoadMem(lo, data, ip6From+8, asm.DWord),
		asm.LoadMem(toHi, data, ip6To, asm.DWord),
		asm.JEq.Imm(toHi, -1, slow),
		asm.LoadMem(toLo, data, ip6To+8, asm.DWord),
		asm.LoadMem(spare, data, ip6Next, asm.Byte),
		asm.JEq.Imm(spare, unix.IPPROTO_TCP, "known"),
		asm.JNE.Imm(spare, unix.IPPROTO_UDP, slow),
		asm.LoadMem(spare, data, ip6End+portTo, asm.Half),
		asm.JEq.Imm(spare, wire(dhcpClient6>>8, dhcpClient6&0xff), slow),
		asm.Ja.Label("known"),
	)
}

// lookup leaves the slot of who is looked up in found. It does what key.home and table.find
// do.
func lookup(table *ebpf.Map, who, miss string) asm.Instructions {
	factor := uint64(golden)
	p := asm.Instructions{
		asm.Mov.Reg(spare, of),
		asm.LSh.Imm(spare, 32),
		asm.Xor.Reg(spare, hi),
		asm.Xor.Reg(spare, lo),
		asm.LoadImm(found, int64(factor), asm.DWord),
		asm.Mul.Reg(spare, found),
		asm.RSh.Imm(spare, 64-homeBits),
		asm.LSh.Imm(spare, slotBits),
		asm.LoadMapValue(found, table.FD(), uint32(firstSlot)),
		asm.Add.Reg(found, spare),
	}
	for i := range probes {
		next := fmt.Sprintf("%s %d", who, i+1)
		if i == probes-1 {
			next = miss
		}
		load := asm.LoadMem(spare, found, slotOf, asm.Word)
		if i > 0 {
			p = append(p, asm.Add.Imm(found, int32(slotSize)).WithSymbol(fmt.Sprintf("%s %d", who, i)))
		}
		p = append(p, load,
			asm.JEq.Imm(spare, 0, miss), // nothing was ever put here or beyond
			asm.JNE.Reg(spare, of, next),
			asm.LoadMem(spare, found, slotLo, asm.DWord),
			asm.JNE.Reg(spare, lo, next),
			asm.LoadMem(spare, found, slotHi, asm.DWord))
		if i < probes-1 {
			p = append(p, asm.JEq.Reg(spare, hi, who), asm.Ja.Label(next))
		} else {
			p = append(p, asm.JNE.Reg(spare, hi, miss))
		}
	}
	return append(p, asm.LoadMem(of, found, slotTo, asm.Word).WithSymbol(who))
}

// sameMAC leaves the frame to the bridge unless the hardware address is that of the slot.
func sameMAC(at int16) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(spare, found, slotMACRest, asm.Word),
		asm.LoadMem(hi, data, at+2, asm.Word),
		asm.JNE.Reg(spare, hi, slow),
		asm.LoadMem(spare, found, slotMAC, asm.Half),
		asm.LoadMem(hi, data, at, asm.Half),
		asm.JNE.Reg(spare, hi, slow),
	}
}

// remind leaves one frame now and then to the bridge.
func remind(after uint64) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(hi, found, slotSeen, asm.DWord),
		asm.Mov.Reg(spare, now),
		asm.Sub.Reg(spare, hi),
		asm.LoadImm(hi, int64(after), asm.DWord),
		asm.JLT.Reg(spare, hi, "seen"),
		asm.StoreMem(found, slotSeen, now, asm.DWord),
		asm.Ja.Label(slow),
	}
}

// handOver puts the frame behind the receiver's port. It was for another interface's
// hardware address where it came in, and is not where it goes.
func handOver(turn bool) asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Imm(hi, 1),
		asm.AddAtomic.Mem(found, hi, asm.DWord, slotFrames),
		asm.LoadMem(hi, skb, ctxLength, asm.Word),
		asm.AddAtomic.Mem(found, hi, asm.DWord, slotBytes),
	}
	if turn {
		p = append(p,
			asm.Mov.Reg(spare, of),
			asm.Mov.Reg(asm.R1, skb),
			asm.Mov.Imm(asm.R2, packetHost),
			asm.FnSkbChangeType.Call(),
			asm.Mov.Reg(of, spare))
	}
	return append(p,
		asm.Mov.Imm(asm.R2, 0), // the index is in R1
		asm.FnRedirectPeer.Call(),
		asm.Return(),
	)
}
