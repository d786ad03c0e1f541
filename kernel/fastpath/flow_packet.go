package fastpath

import (
	"fmt"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// segment notes the ports and flags of the TCP segment, and how large a packet it takes on the
// wire, which for one that is cut later is what each piece takes.
func segment(at, header int16, family string) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R1, data, at, asm.Word),
		asm.StoreMem(asm.RFP, keyPorts, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, data, at+tcpFlags, asm.Byte),
		asm.StoreMem(asm.RFP, stackFlags, asm.R1, asm.DWord),
		asm.LoadMem(asm.R1, data, at+tcpSeq, asm.Word),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.StoreMem(asm.RFP, stackSeq, asm.R1, asm.DWord),
		asm.LoadMem(asm.R1, data, at+tcpAck, asm.Word),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.StoreMem(asm.RFP, stackAck, asm.R1, asm.DWord),
		asm.LoadMem(asm.R1, skb, ctxGSOSize, asm.Word),
		asm.JEq.Imm(asm.R1, 0, "one "+family),
		asm.LoadMem(asm.R2, data, at+tcpLength, asm.Byte),
		asm.RSh.Imm(asm.R2, 4),
		asm.LSh.Imm(asm.R2, 2),
		asm.Add.Reg(asm.R1, asm.R2),
		asm.Add.Imm(asm.R1, int32(header)),
		asm.Ja.Label("size " + family),
		asm.LoadMem(asm.R1, skb, ctxLength, asm.Word).WithSymbol("one " + family),
		asm.Sub.Imm(asm.R1, ip),
		asm.StoreMem(asm.RFP, stackSize, asm.R1, asm.DWord).WithSymbol("size " + family),
		asm.Ja.Label("key"),
	}
}

// copyTo copies so many bytes, a multiple of 4.
func copyTo(to asm.Register, toOff int16, from asm.Register, fromOff, n int16) (p asm.Instructions) {
	for i := int16(0); i < n; {
		size, step := asm.DWord, int16(8)
		if n-i < 8 || (fromOff+i)%8 != 0 || (toOff+i)%8 != 0 {
			size, step = asm.Word, 4
		}
		p = append(p, asm.LoadMem(asm.R1, from, fromOff+i, size), asm.StoreMem(to, toOff+i, asm.R1, size))
		i += step
	}
	return p
}

// flowOf4 makes the key of an IPv4 packet in one piece and without options; addresses are
// those that IPv6 has for IPv4's.
func flowOf4() asm.Instructions {
	p := asm.Instructions{
		asm.LoadMem(asm.R1, data, ip, asm.Byte).WithSymbol("ip4"),
		asm.JNE.Imm(asm.R1, 0x45, slow),
		asm.LoadMem(asm.R1, data, ip4Protocol, asm.Byte),
		asm.JNE.Imm(asm.R1, unix.IPPROTO_TCP, slow),
		asm.LoadMem(asm.R1, data, ip4Fragment, asm.Half),
		asm.And.Imm(asm.R1, wire(0xbf, 0xff)),
		asm.JNE.Imm(asm.R1, 0, slow),
		asm.LoadMem(asm.R1, data, ip4TTL, asm.Byte),
		asm.JLE.Imm(asm.R1, 1, slow),
		asm.LoadMem(asm.R1, skb, ctxLength, asm.Word),
		asm.LoadMem(asm.R2, data, ip4Length, asm.Half),
		asm.HostTo(asm.BE, asm.R2, asm.Half),
		asm.JLT.Imm(asm.R2, ip4End-ip+tcpEnd, slow),
		asm.Add.Imm(asm.R2, ip),
		asm.JGT.Reg(asm.R2, asm.R1, slow),
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(asm.RFP, keyFrom, asm.R1, asm.DWord),
		asm.StoreMem(asm.RFP, keyTo, asm.R1, asm.DWord),
		asm.LoadImm(asm.R1, int64(mappedPrefix), asm.DWord),
		asm.StoreMem(asm.RFP, keyFrom+8, asm.R1, asm.Word),
		asm.StoreMem(asm.RFP, keyTo+8, asm.R1, asm.Word),
	}
	p = append(p, copyTo(asm.RFP, keyFrom+12, data, ip4From, 4)...)
	p = append(p, copyTo(asm.RFP, keyTo+12, data, ip4To, 4)...)
	return append(p, segment(ip4End, ip4End-ip, "4")...)
}

// flowOf6 makes the key of an IPv6 packet whose first header is TCP's.
func flowOf6() asm.Instructions {
	p := asm.Instructions{
		asm.LoadMem(asm.R1, data, ip, asm.Byte),
		asm.RSh.Imm(asm.R1, 4),
		asm.JNE.Imm(asm.R1, 6, slow),
		asm.LoadMem(asm.R1, data, ip6Next, asm.Byte),
		asm.JNE.Imm(asm.R1, unix.IPPROTO_TCP, slow),
		asm.LoadMem(asm.R1, data, ip6HopLimit, asm.Byte),
		asm.JLE.Imm(asm.R1, 1, slow),
		asm.LoadMem(asm.R1, skb, ctxLength, asm.Word),
		asm.LoadMem(asm.R2, data, ip6Length, asm.Half),
		asm.HostTo(asm.BE, asm.R2, asm.Half),
		asm.JLT.Imm(asm.R2, tcpEnd, slow),
		asm.Add.Imm(asm.R2, ip6End),
		asm.JGT.Reg(asm.R2, asm.R1, slow),
	}
	p = append(p, copyTo(asm.RFP, keyFrom, data, ip6From, 32)...)
	for i, half := range []int16{keyFrom, keyTo} { // nobody's, but the key of an IPv4 address
		real := fmt.Sprintf("real %d", i)
		p = append(p,
			asm.LoadMem(asm.R1, asm.RFP, half, asm.DWord),
			asm.JNE.Imm(asm.R1, 0, real),
			asm.LoadMem(asm.R1, asm.RFP, half+8, asm.Word),
			asm.LoadImm(asm.R2, int64(mappedPrefix), asm.DWord),
			asm.JEq.Reg(asm.R1, asm.R2, slow),
			asm.Mov.Imm(asm.R1, 0).WithSymbol(real))
	}
	return append(p, segment(ip6End, ip6End-ip, "6")...)
}

// near is how many bytes from what the other side has acknowledged the end of a connection may
// be: what is under way.
const near = 1 << 24

// end leaves to the host what begins or ends a connection, and tells the owner. Conntrack has
// no window any more by which it would know a forged end, so one that is none goes on to whom
// it is for, who does know (RFC 5961).
func (f *flows) end() asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R1, asm.RFP, stackFlags, asm.DWord),
		asm.And.Imm(asm.R1, begins),
		asm.JNE.Imm(asm.R1, 0, "over"),
		asm.LoadMapPtr(asm.R1, f.table.FD()),
		asm.Mov.Reg(asm.R2, state), asm.Add.Imm(asm.R2, flowBack),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "over"),
		asm.LoadMem(asm.R2, asm.R0, flowAck, asm.Word),
		asm.JEq.Imm(asm.R2, 0, "over"), // nothing yet
		asm.LoadMem(asm.R1, asm.RFP, stackSeq, asm.DWord),
		asm.Sub.Reg32(asm.R1, asm.R2),
		asm.JGE.Imm(asm.R1, near, "going"),
		asm.LoadMem(asm.R1, state, flowClosing, asm.Word).WithSymbol("over"),
		asm.JNE.Imm(asm.R1, 0, slow),
		asm.StoreImm(state, flowClosing, 1, asm.Word),
		asm.LoadMem(asm.R1, asm.RFP, keyAt, asm.Word),
		asm.Or.Imm(asm.R1, -isOver),
		asm.StoreMem(asm.RFP, keyAt, asm.R1, asm.Word),
		asm.Ja.Label("tell"),
	}
}

// farther is how many bytes are acknowledged before the owner hears of it. Conntrack takes a
// reset for forged whose number is before the last acknowledgement that it saw, which it is
// after half of the numbers that there are (nf_conntrack_tcp_packet, Linux 6.18).
const farther = 1 << 30

// remindHost leaves a segment to the host when so many ticks have passed since the last one:
// conntrack's timer begins anew, and the bridge sees who is there. It tells the owner of
// what was acknowledged.
func remindHost(after uint64) asm.Instructions {
	return asm.Instructions{
		asm.StoreMem(state, flowLast, present, asm.DWord),
		asm.LoadMem(asm.R3, asm.RFP, stackAck, asm.DWord),
		asm.StoreMem(state, flowAck, asm.R3, asm.Word),
		asm.LoadMem(asm.R1, state, flowAcked, asm.Word),
		asm.JNE.Imm(asm.R1, 0, "acked before"),
		asm.StoreMem(state, flowAcked, asm.R3, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R3),
		asm.Mov.Reg(asm.R2, asm.R3).WithSymbol("acked before"),
		asm.Sub.Reg32(asm.R2, asm.R1),
		asm.Sub.Imm32(asm.R2, farther),
		asm.JGE.Imm(asm.R2, farther, "not far"), // which what is older is, too
		asm.StoreMem(state, flowAcked, asm.R3, asm.Word),
		asm.LoadMem(asm.R1, asm.RFP, keyAt, asm.Word),
		asm.Or.Imm(asm.R1, isFar),
		asm.StoreMem(asm.RFP, keyAt, asm.R1, asm.Word),
		asm.Ja.Label("tell"),
		asm.LoadMem(asm.R1, state, flowSeen, asm.DWord).WithSymbol("not far"),
		asm.Mov.Reg(asm.R2, present),
		asm.Sub.Reg(asm.R2, asm.R1),
		asm.LoadImm(asm.R1, int64(after), asm.DWord),
		asm.JLT.Reg(asm.R2, asm.R1, "seen"),
		asm.StoreMem(state, flowSeen, present, asm.DWord),
		asm.Ja.Label(slow),
	}
}
