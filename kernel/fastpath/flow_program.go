package fastpath

import (
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Offsets in struct __sk_buff that the program of flows needs besides.
const ctxGSOSize = 176

// Offsets in the packet that the program of flows needs besides.
const (
	ip4TTL      = ip + 8
	ip4Checksum = ip + 10
	ip6HopLimit = ip + 7

	tcpSeq      = 4 // from TCP's header on
	tcpAck      = 8
	tcpLength   = 12 // of the header, in the upper half of the byte
	tcpFlags    = 13
	tcpChecksum = 16
	tcpEnd      = 20
)

const (
	// begins and ends are the flags of TCP that begin or end a connection, or a half of it: SYN;
	// FIN, SYN and RST. Conntrack and the rules see each such segment.
	begins, ends = 2, 1 | 2 | 4
	// Flags of bpf_l4_csum_replace: what changes is in the pseudo header; and it is IPv6's,
	// whose header has no checksum that makes up for it.
	pseudoHeader, ofIPv6 = 1 << 4, 1 << 7
	drop                 = 2 // TCX_DROP
	// telling is how many frames of a connection the first word of it follows, and after
	// tellingAgain more, a power of 2, there is another.
	telling, tellingAgain = 32, 1024
	// pauseBits are those of a pause that makes the count begin anew, in ticks: a quarter of a
	// second at a thousand ticks in each (CONFIG_HZ), up to twice that where a count began late.
	pauseBits = 8
)

// Where things lie below the frame pointer.
const (
	stackKey   = -int16(unsafe.Sizeof(flowKey{}))
	stackBlock = stackKey - 48 // what is written over the frame
	stackMACs  = stackBlock - 16
	stackFlags = stackMACs - 8
	stackSize  = stackFlags - 8 // of the packet, or of those that it is cut into
	stackAck   = stackSize - 8
	stackSeq   = stackAck - 8
)

// Offsets in a flow's key and state.
const (
	keyAt    = stackKey + int16(unsafe.Offsetof(flowKey{}.at))
	keyPorts = stackKey + int16(unsafe.Offsetof(flowKey{}.ports))
	keyFrom  = stackKey + int16(unsafe.Offsetof(flowKey{}.from))
	keyTo    = stackKey + int16(unsafe.Offsetof(flowKey{}.to))

	flowFrom      = int16(unsafe.Offsetof(flowState{}.from))
	flowTo        = int16(unsafe.Offsetof(flowState{}.to))
	flowPorts     = int16(unsafe.Offsetof(flowState{}.ports))
	flowHeaderSum = int16(unsafe.Offsetof(flowState{}.headerSum))
	flowAddrSum   = int16(unsafe.Offsetof(flowState{}.addrSum))
	flowPortSum   = int16(unsafe.Offsetof(flowState{}.portSum))
	flowMACStart  = int16(unsafe.Offsetof(flowState{}.macStart))
	flowMACEnd    = int16(unsafe.Offsetof(flowState{}.macEnd))
	flowMACs      = int16(unsafe.Offsetof(flowState{}.macs))
	flowLink      = int16(unsafe.Offsetof(flowState{}.link))
	flowHop       = int16(unsafe.Offsetof(flowState{}.hopFamily))
	flowMTU       = int16(unsafe.Offsetof(flowState{}.mtu))
	flowClosing   = int16(unsafe.Offsetof(flowState{}.closing))
	flowSeen      = int16(unsafe.Offsetof(flowState{}.seen))
	flowAcked     = int16(unsafe.Offsetof(flowState{}.acked))
	flowAck       = int16(unsafe.Offsetof(flowState{}.ack))
	flowLast      = int16(unsafe.Offsetof(flowState{}.last))
	flowBack      = int32(unsafe.Offsetof(flowState{}.back))
	flowSlot      = int16(unsafe.Offsetof(flowState{}.slot))
	hopSize       = 20 // struct bpf_redir_neigh
)

// The registers of the program of flows: those that a call leaves alone.
const (
	state   = asm.R8
	present = asm.R9 // the time
)

// flowProgram takes segments of the connections of the table past the host's routing, NAT and
// bridge. It tells of connections that might be in the table and are not where it has counts
// to count their frames in.
func flowProgram(head *ebpf.Map, f *flows, remindAfter uint64, counts bool) asm.Instructions {
	miss := slow
	if counts {
		miss = "miss"
	}
	p := asm.Instructions{
		asm.Mov.Reg(skb, asm.R1),
		asm.FnJiffies64.Call(),
		asm.Mov.Reg(present, asm.R0),
		asm.LoadMapValue(asm.R1, head.FD(), 0),
		asm.LoadMem(asm.R1, asm.R1, headFlows, asm.DWord),
		asm.JGT.Reg(present, asm.R1, slow),
		asm.LoadMem(asm.R1, skb, ctxVLANPresent, asm.Word),
		asm.JNE.Imm(asm.R1, 0, slow),
		asm.LoadMem(data, skb, ctxData, asm.Word),
		asm.LoadMem(asm.R1, skb, ctxDataEnd, asm.Word),
		asm.Mov.Reg(asm.R2, data), asm.Add.Imm(asm.R2, ip4End+tcpEnd),
		asm.JGT.Reg(asm.R2, asm.R1, slow), // or not in the packet's first part
		asm.LoadMem(asm.R2, data, frameType, asm.Half),
		asm.JEq.Imm(asm.R2, wire(0x08, 0x00), "ip4"),
		asm.JNE.Imm(asm.R2, wire(0x86, 0xdd), slow),
		asm.Mov.Reg(asm.R2, data), asm.Add.Imm(asm.R2, ip6End+tcpEnd),
		asm.JGT.Reg(asm.R2, asm.R1, slow),
	}
	p = append(p, flowOf6()...)
	p = append(p, flowOf4()...)
	p = append(p,
		asm.LoadMem(asm.R1, skb, ctxIfIndex, asm.Word).WithSymbol("key"),
		asm.StoreMem(asm.RFP, keyAt, asm.R1, asm.Word),
		asm.LoadMapPtr(asm.R1, f.table.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, int32(stackKey)),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, miss),
		asm.Mov.Reg(state, asm.R0),
		// Nothing that is for another's hardware address.
		asm.LoadMem(asm.R1, state, flowMACEnd, asm.Word),
		asm.LoadMem(asm.R2, data, frameTo+2, asm.Word),
		asm.JNE.Reg(asm.R1, asm.R2, slow),
		asm.LoadMem(asm.R1, state, flowMACStart, asm.Half),
		asm.LoadMem(asm.R2, data, frameTo, asm.Half),
		asm.JNE.Reg(asm.R1, asm.R2, slow),
		asm.LoadMem(asm.R1, asm.RFP, stackFlags, asm.DWord),
		asm.And.Imm(asm.R1, ends),
		asm.JEq.Imm(asm.R1, 0, "going"),
	)
	p = append(p, f.end()...)
	p = append(p,
		asm.LoadMem(asm.R1, state, flowClosing, asm.Word).WithSymbol("going"),
		asm.JNE.Imm(asm.R1, 0, slow),
		// Who sends more than fits is told so by who routes.
		asm.LoadMem(asm.R1, asm.RFP, stackSize, asm.DWord),
		asm.LoadMem(asm.R2, state, flowMTU, asm.Word),
		asm.JGT.Reg(asm.R1, asm.R2, slow),
	)
	p = append(p, remindHost(remindAfter)...)
	p = append(p,
		asm.LoadMem(asm.R1, data, frameType, asm.Half).WithSymbol("seen"),
		asm.JEq.Imm(asm.R1, wire(0x08, 0x00), "write4"),
	)
	p = append(p, rewrite6()...)
	p = append(p, rewrite4()...)
	p = append(p, passOn(head)...)
	if counts {
		p = append(p, f.count()...)
	}
	p = append(p, f.tell()...)
	return append(p,
		asm.Mov.Imm(asm.R0, tcxNext).WithSymbol(slow),
		asm.Return(),
		asm.Mov.Imm(asm.R0, drop).WithSymbol("drop"),
		asm.Return(),
	)
}

// checksums makes TCP's checksum that of the translated segment.
func checksums(at int32, flags int32, family string) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, skb),
		asm.Mov.Imm(asm.R2, at),
		asm.Mov.Imm(asm.R3, 0),
		asm.LoadMem(asm.R4, state, flowAddrSum, asm.Word),
		asm.Mov.Imm(asm.R5, flags),
		asm.FnL4CsumReplace.Call(),
		asm.JNE.Imm(asm.R0, 0, slow),
		asm.LoadMem(asm.R4, state, flowPortSum, asm.Word),
		asm.JEq.Imm(asm.R4, 0, "summed "+family),
		asm.Mov.Reg(asm.R1, skb),
		asm.Mov.Imm(asm.R2, at),
		asm.Mov.Imm(asm.R3, 0),
		asm.Mov.Imm(asm.R5, 0),
		asm.FnL4CsumReplace.Call(),
		asm.JNE.Imm(asm.R0, 0, "drop"),
		asm.Mov.Reg(asm.R1, skb).WithSymbol("summed " + family),
	}
}

// rewrite4 writes the other addresses and ports, a smaller TTL and what follows of both for
// the header's checksum: RFC 1624, equation 3.
func rewrite4() asm.Instructions {
	fold := asm.Instructions{
		asm.Mov.Reg(asm.R2, asm.R1),
		asm.RSh.Imm(asm.R2, 16),
		asm.And.Imm(asm.R1, 0xffff),
		asm.Add.Reg(asm.R1, asm.R2),
	}
	p := asm.Instructions{
		asm.LoadMem(asm.R1, data, ip4TTL, asm.Byte).WithSymbol("write4"),
		asm.Sub.Imm(asm.R1, 1),
		asm.StoreMem(asm.RFP, stackBlock, asm.R1, asm.Byte),
		asm.Mov.Imm(asm.R1, unix.IPPROTO_TCP),
		asm.StoreMem(asm.RFP, stackBlock+1, asm.R1, asm.Byte),
		asm.LoadMem(asm.R1, data, ip4Checksum, asm.Half),
		asm.Xor.Imm(asm.R1, 0xffff),
		asm.LoadMem(asm.R2, state, flowHeaderSum, asm.Word),
		asm.Add.Reg(asm.R1, asm.R2),
	}
	p = append(append(p, fold...), fold...)
	p = append(p, asm.Xor.Imm(asm.R1, 0xffff), asm.StoreMem(asm.RFP, stackBlock+2, asm.R1, asm.Half))
	p = append(p, copyTo(asm.RFP, stackBlock+4, state, flowFrom+12, 4)...)
	p = append(p, copyTo(asm.RFP, stackBlock+8, state, flowTo+12, 4)...)
	p = append(p, copyTo(asm.RFP, stackBlock+12, state, flowPorts, 4)...)
	p = append(p, checksums(ip4End+tcpChecksum, pseudoHeader, "4")...)
	return append(p,
		asm.Mov.Imm(asm.R2, ip4TTL),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, int32(stackBlock)),
		asm.Mov.Imm(asm.R4, 16),
		asm.Mov.Imm(asm.R5, 0),
		asm.FnSkbStoreBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "drop"),
	)
}

// rewrite6 does the same with IPv6, whose header has no checksum.
func rewrite6() asm.Instructions {
	p := asm.Instructions{
		asm.LoadMem(asm.R1, data, ip6HopLimit, asm.Byte),
		asm.Sub.Imm(asm.R1, 1),
		asm.StoreMem(asm.RFP, stackBlock+7, asm.R1, asm.Byte),
	}
	p = append(p, copyTo(asm.RFP, stackBlock+8, state, flowFrom, 32)...)
	p = append(p, copyTo(asm.RFP, stackBlock+40, state, flowPorts, 4)...)
	p = append(p, checksums(ip6End+tcpChecksum, pseudoHeader|ofIPv6, "6")...)
	return append(p,
		asm.Mov.Imm(asm.R2, ip6HopLimit),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, int32(stackBlock+7)),
		asm.Mov.Imm(asm.R4, 37),
		asm.Mov.Imm(asm.R5, 0),
		asm.FnSkbStoreBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "drop"),
		// Nothing makes up for the hop in the sum of all that hardware has counted
		// (CHECKSUM_COMPLETE); of any other frame this is an error that does not matter.
		asm.Mov.Reg(asm.R1, skb),
		asm.Mov.Imm(asm.R2, int32(growth([]byte{unix.IPPROTO_TCP, 2}, []byte{unix.IPPROTO_TCP, 1}))),
		asm.FnCsumUpdate.Call(),
		asm.Ja.Label("written"),
	)
}

// passOn puts the frame behind the container's port, or sends it out to the next hop.
func passOn(head *ebpf.Map) asm.Instructions {
	p := asm.Instructions{
		asm.LoadMem(asm.R1, state, flowHop, asm.Word).WithSymbol("written"),
		asm.JNE.Imm(asm.R1, 0, "out"),
		// The counters are the receiver's, as of what a neighbour sends.
		asm.LoadMem(asm.R1, state, flowSlot, asm.Word),
		asm.JGE.Imm(asm.R1, noSlot, "drop"),
		asm.LSh.Imm(asm.R1, slotBits),
		asm.LoadMapValue(asm.R2, head.FD(), uint32(firstSlot)),
		asm.Add.Reg(asm.R2, asm.R1),
		asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(asm.R2, asm.R1, asm.DWord, slotFrames),
		asm.LoadMem(asm.R1, skb, ctxLength, asm.Word),
		asm.AddAtomic.Mem(asm.R2, asm.R1, asm.DWord, slotBytes),
	}
	p = append(p, copyTo(asm.RFP, stackMACs, state, flowMACs, 12)...)
	return append(p,
		asm.Mov.Reg(asm.R1, skb),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, int32(stackMACs)),
		asm.Mov.Imm(asm.R4, 12),
		asm.Mov.Imm(asm.R5, 0),
		asm.FnSkbStoreBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "drop"),
		asm.LoadMem(asm.R1, state, flowLink, asm.Word),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirectPeer.Call(),
		asm.Return(),
		asm.LoadMem(asm.R1, state, flowLink, asm.Word).WithSymbol("out"),
		asm.Mov.Reg(asm.R2, state), asm.Add.Imm(asm.R2, int32(flowHop)),
		asm.Mov.Imm(asm.R3, hopSize),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnRedirectNeigh.Call(),
		asm.Return(),
	)
}

// count counts the frames of a connection that is no flow, and tells of it. In a place are
// the connection's hash, how many, and when. Connections share places; one that comes between begins anew.
func (f *flows) count() asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R1, asm.RFP, stackFlags, asm.DWord).WithSymbol("miss"),
		asm.And.Imm(asm.R1, ends),
		asm.JNE.Imm(asm.R1, 0, slow),
		asm.Mov.Reg(asm.R1, skb),
		asm.FnGetHashRecalc.Call(),
		asm.Mov.Reg(asm.R1, asm.R0),
		asm.And.Imm(asm.R1, countPlaces-1),
		asm.LSh.Imm(asm.R1, 3),
		asm.LoadMapValue(asm.R2, f.counts.FD(), 0),
		asm.Add.Reg(asm.R2, asm.R1),
		asm.Mov.Reg(asm.R4, present),
		asm.RSh.Imm(asm.R4, pauseBits),
		asm.And.Imm(asm.R4, 0xffff),
		asm.LoadMem(asm.R1, asm.R2, 0, asm.Word),
		asm.JNE.Reg(asm.R1, asm.R0, "another"),
		asm.LoadMem(asm.R1, asm.R2, 6, asm.Half),
		asm.Mov.Reg(asm.R3, asm.R4),
		asm.Sub.Reg(asm.R3, asm.R1),
		asm.And.Imm(asm.R3, 0xffff),
		asm.JGT.Imm(asm.R3, 1, "another"), // or the same, after a pause
		asm.StoreMem(asm.R2, 6, asm.R4, asm.Half),
		asm.LoadMem(asm.R1, asm.R2, 4, asm.Half),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R2, 4, asm.R1, asm.Half),
		asm.And.Imm(asm.R1, tellingAgain-1),
		asm.JNE.Imm(asm.R1, telling, slow),
		asm.Ja.Label("tell"),
		asm.StoreMem(asm.R2, 0, asm.R0, asm.Word).WithSymbol("another"),
		asm.StoreImm(asm.R2, 4, 1, asm.Half),
		asm.StoreMem(asm.R2, 6, asm.R4, asm.Half),
		asm.Ja.Label(slow),
	}
}

// tell gives the owner the connection's key, and the frame to the host.
func (f *flows) tell() asm.Instructions {
	return asm.Instructions{
		asm.LoadMapPtr(asm.R1, f.news.FD()).WithSymbol("tell"),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, int32(stackKey)),
		asm.Mov.Imm(asm.R3, int32(unsafe.Sizeof(flowKey{}))),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnRingbufOutput.Call(),
	}
}
