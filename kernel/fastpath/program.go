package fastpath

import (
	"encoding/binary"
	"time"

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
	ip4Fragment = ip + 6
	ip4Protocol = ip + 9
	ip4From     = ip + 12
	ip4To       = ip + 16
	ip4End      = ip + 20
	ip6Next     = ip + 6
	ip6From     = ip + 8
	ip6To       = ip + 24
	ip6End      = ip + 40
	portTo      = 2 // from the end of the IP header
	portsEnd    = 4
)

// Offsets in key and entry.
const (
	keyAddr     = 4
	entryTo     = 0
	entryMAC    = 4
	entrySeen   = 16
	entryFrames = 24
	entryBytes  = 32
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

// Where the program keeps keys on its stack, from its top.
const (
	stackFrom = -24
	stackTo   = -48
)

// Registers that outlive calls. The frame's end is not needed once it was looked at.
const (
	context  = asm.R6
	data     = asm.R7
	end      = asm.R8
	now      = asm.R8
	sender   = asm.R9
	receiver = asm.R8
)

// slow is where the program leaves the frame to the bridge.
const slow = "slow"

// program hands over what it may, and leaves the rest to the bridge.
func program(entries, allowed *ebpf.Map) asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(context, asm.R1),
		asm.LoadMapValue(asm.R2, allowed.FD(), 0),
		asm.LoadMem(asm.R2, asm.R2, 0, asm.DWord),
		asm.JEq.Imm(asm.R2, 0, slow),
		asm.LoadMem(asm.R2, context, ctxVLANPresent, asm.Word),
		asm.JNE.Imm(asm.R2, 0, slow),
		asm.LoadMem(data, context, ctxData, asm.Word),
		asm.LoadMem(end, context, ctxDataEnd, asm.Word),
		asm.Mov.Reg(asm.R2, data), asm.Add.Imm(asm.R2, ip4End+portsEnd),
		asm.JGT.Reg(asm.R2, end, slow), // or not in the packet's first part
		asm.LoadMem(asm.R2, context, ctxIfIndex, asm.Word),
		asm.StoreMem(asm.RFP, stackFrom, asm.R2, asm.Word),
		asm.LoadMem(asm.R2, data, frameType, asm.Half),
		asm.JEq.Imm(asm.R2, wire(0x08, 0x00), "ip4"),
		asm.JNE.Imm(asm.R2, wire(0x86, 0xdd), slow),
	}
	p = append(p, six()...)
	p = append(p, four()...)
	p = append(p, allowedNow(allowed)...)
	p = append(p, lookup(entries, stackFrom)...)
	p = append(p, asm.Mov.Reg(sender, asm.R0))
	p = append(p, sameMAC(sender, frameFrom)...)
	p = append(p, remind()...)
	p = append(p,
		asm.LoadMem(asm.R2, sender, entryTo, asm.Word),
		asm.StoreMem(asm.RFP, stackTo, asm.R2, asm.Word))
	p = append(p, lookup(entries, stackTo)...)
	p = append(p, asm.Mov.Reg(receiver, asm.R0))
	p = append(p, sameMAC(receiver, frameTo)...)
	return append(p, handOver()...)
}

// wire is two or four bytes of a frame as the processor has them in a register.
func wire(b ...byte) int32 {
	if len(b) == 2 {
		return int32(binary.NativeEndian.Uint16(b))
	}
	return int32(binary.NativeEndian.Uint32(b))
}

// four fills in the keys from an IPv4 packet that is whole and has no options.
func four() asm.Instructions {
	p := asm.Instructions{
		asm.LoadMem(asm.R2, data, ip, asm.Byte).WithSymbol("ip4"),
		asm.JNE.Imm(asm.R2, 0x45, slow), // the version, and five words of header
		asm.LoadMem(asm.R2, data, ip4Fragment, asm.Half),
		asm.And.Imm(asm.R2, wire(0xbf, 0xff)), // all but "don't fragment"
		asm.JNE.Imm(asm.R2, 0, slow),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Imm32(asm.R3, wire(0, 0, 0xff, 0xff)),
	}
	for key, at := range map[int16]int16{stackFrom: ip4From, stackTo: ip4To} {
		p = append(p,
			asm.StoreMem(asm.RFP, key+keyAddr, asm.R2, asm.Word),
			asm.StoreMem(asm.RFP, key+keyAddr+4, asm.R2, asm.Word),
			asm.StoreMem(asm.RFP, key+keyAddr+8, asm.R3, asm.Word),
			asm.LoadMem(asm.R4, data, at, asm.Word),
			asm.StoreMem(asm.RFP, key+keyAddr+12, asm.R4, asm.Word))
	}
	return append(p,
		asm.LoadMem(asm.R2, data, ip4Protocol, asm.Byte),
		asm.JEq.Imm(asm.R2, unix.IPPROTO_TCP, "known"),
		asm.JNE.Imm(asm.R2, unix.IPPROTO_UDP, slow),
		asm.LoadMem(asm.R2, data, ip4End+portTo, asm.Half),
		asm.JEq.Imm(asm.R2, wire(dhcpClient4>>8, dhcpClient4&0xff), slow),
	)
}

// six does the same with an IPv6 packet whose first header is the transport's.
func six() asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(asm.R2, data), asm.Add.Imm(asm.R2, ip6End+portsEnd),
		asm.JGT.Reg(asm.R2, end, slow),
		asm.LoadMem(asm.R2, data, ip, asm.Byte),
		asm.RSh.Imm(asm.R2, 4),
		asm.JNE.Imm(asm.R2, 6, slow),
	}
	for i := int16(0); i < 16; i += 4 {
		p = append(p,
			asm.LoadMem(asm.R2, data, ip6From+i, asm.Word), asm.StoreMem(asm.RFP, stackFrom+keyAddr+i, asm.R2, asm.Word),
			asm.LoadMem(asm.R2, data, ip6To+i, asm.Word), asm.StoreMem(asm.RFP, stackTo+keyAddr+i, asm.R2, asm.Word))
	}
	return append(p,
		asm.LoadMem(asm.R2, data, ip6Next, asm.Byte),
		asm.JEq.Imm(asm.R2, unix.IPPROTO_TCP, "known"),
		asm.JNE.Imm(asm.R2, unix.IPPROTO_UDP, slow),
		asm.LoadMem(asm.R2, data, ip6End+portTo, asm.Half),
		asm.JEq.Imm(asm.R2, wire(dhcpClient6>>8, dhcpClient6&0xff), slow),
		asm.Ja.Label("known"),
	)
}

// allowedNow leaves the frame to the bridge where the owner has not been heard of.
func allowedNow(allowed *ebpf.Map) asm.Instructions {
	return asm.Instructions{
		asm.FnKtimeGetCoarseNs.Call().WithSymbol("known"),
		asm.Mov.Reg(now, asm.R0),
		asm.LoadMapValue(asm.R2, allowed.FD(), 0),
		asm.LoadMem(asm.R2, asm.R2, 0, asm.DWord),
		asm.JGT.Reg(now, asm.R2, slow),
	}
}

// lookup leaves the entry in R0.
func lookup(entries *ebpf.Map, key int32) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapPtr(asm.R1, entries.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, key),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, slow),
	}
}

// sameMAC leaves the frame to the bridge unless the hardware address is the entry's.
func sameMAC(entry asm.Register, at int16) asm.Instructions {
	var p asm.Instructions
	for i := int16(0); i < 6; i += 2 {
		p = append(p,
			asm.LoadMem(asm.R2, entry, entryMAC+i, asm.Half),
			asm.LoadMem(asm.R3, data, at+i, asm.Half),
			asm.JNE.Reg(asm.R2, asm.R3, slow))
	}
	return p
}

// remind leaves one frame now and then to the bridge.
func remind() asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R2, sender, entrySeen, asm.DWord),
		asm.LoadImm(asm.R3, int64(remindEvery), asm.DWord),
		asm.Add.Reg(asm.R2, asm.R3),
		asm.JGT.Reg(asm.R2, now, "seen"),
		asm.StoreMem(sender, entrySeen, now, asm.DWord),
		asm.Ja.Label(slow),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("seen"), // a place for the label to be
	}
}

// handOver puts the frame behind the receiver's port. It was for another interface's
// hardware address where it came in, and is not where it goes.
func handOver() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Imm(asm.R2, 1),
		asm.AddAtomic.Mem(receiver, asm.R2, asm.DWord, entryFrames),
		asm.LoadMem(asm.R2, context, ctxLength, asm.Word),
		asm.AddAtomic.Mem(receiver, asm.R2, asm.DWord, entryBytes),
		asm.Mov.Reg(asm.R1, context),
		asm.Mov.Imm(asm.R2, packetHost),
		asm.FnSkbChangeType.Call(),
		asm.LoadMem(asm.R1, receiver, entryTo, asm.Word),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirectPeer.Call(),
		asm.Return(),
		asm.Mov.Imm(asm.R0, tcxNext).WithSymbol(slow),
		asm.Return(),
	}
}
