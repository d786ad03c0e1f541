package loopback

import (
	"encoding/binary"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Offsets in struct bpf_sock_addr (linux/bpf.h), the programs' context. Addresses
// and the port are in network byte order.
const (
	ctxIP4      = 4
	ctxIP6      = 8
	ctxPort     = 24
	ctxProtocol = 36
	ctxSrcIP4   = 40
	ctxSrcIP6   = 44
	ctxSocket   = 64
	// In struct bpf_sock: the address that the socket is bound to.
	sockSrcIP4 = 24
	sockSrcIP6 = 28
)

// Where the programs keep things on their stack, from its top.
const (
	stackKey    = -24 // a key of the bindings
	stackPeer   = -56 // a key of the peers: cookie, address, port
	stackAsked  = -80 // a value of the peers
	addrInPeer  = 8
	portInAddr  = 16 // the port follows an address, in every one of them
	protoInAddr = 18
)

// Registers with one meaning through a program. They outlive calls.
const (
	context = asm.R6
	found   = asm.R7
)

// Verdicts.
const (
	allow  = "allow"
	refuse = "refuse"
)

// hook is one place where the kernel runs a program of ours.
type hook struct {
	name   string
	attach ebpf.AttachType
	v6     bool
	// answer says that an address goes to the process, else it comes from it.
	answer bool
	// datagram says that it is about one datagram, which may name its source.
	datagram bool
}

var hooks = []hook{
	{name: "c4", attach: ebpf.AttachCGroupInet4Connect},
	{name: "c6", attach: ebpf.AttachCGroupInet6Connect, v6: true},
	{name: "s4", attach: ebpf.AttachCGroupUDP4Sendmsg, datagram: true},
	{name: "s6", attach: ebpf.AttachCGroupUDP6Sendmsg, v6: true, datagram: true},
	{name: "r4", attach: ebpf.AttachCGroupUDP4Recvmsg, answer: true},
	{name: "r6", attach: ebpf.AttachCGroupUDP6Recvmsg, v6: true, answer: true},
	{name: "p4", attach: ebpf.AttachCgroupInet4GetPeername, answer: true},
	{name: "p6", attach: ebpf.AttachCgroupInet6GetPeername, v6: true, answer: true},
}

// program is the hook's, for processes of one network namespace alone.
func (h hook) program(cookie uint64, bindings, peers *ebpf.Map) asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(context, asm.R1),
		asm.FnGetNetnsCookie.Call(),
		asm.LoadImm(asm.R1, int64(cookie), asm.DWord),
		asm.JNE.Reg(asm.R0, asm.R1, allow),
	}
	if h.answer {
		p = append(p, h.restore(peers)...)
	} else {
		p = append(p, h.redirect(bindings, peers)...)
	}
	p = append(p, asm.Mov.Imm(asm.R0, 1).WithSymbol(allow), asm.Return())
	if h.answer { // which the kernel lets allow only
		return p
	}
	return append(p, asm.Mov.Imm(asm.R0, 0).WithSymbol(refuse), asm.Return())
}

// redirect turns a loopback address into the container's.
func (h hook) redirect(bindings, peers *ebpf.Map) asm.Instructions {
	p := h.protocol()
	p = append(p, h.address()...)
	p = append(p, asked()...)
	// Published on this very address, or else on every one.
	p = append(p, lookup(bindings, stackKey)...)
	p = append(p, asm.JNE.Imm(asm.R0, 0, "found"))
	p = append(p, h.unspecified()...)
	p = append(p, lookup(bindings, stackKey)...)
	p = append(p,
		asm.JEq.Imm(asm.R0, 0, allow),
		asm.Mov.Reg(found, asm.R0).WithSymbol("found"),
	)
	p = append(p, h.checkSource()...)
	p = append(p, h.remember(peers)...)
	return append(p, h.write()...)
}

// protocol puts the protocol into the key: TCP, MPTCP as TCP, UDP, and no other.
func (h hook) protocol() asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R1, context, ctxProtocol, asm.Word),
		asm.JEq.Imm(asm.R1, unix.IPPROTO_UDP, "protocol"),
		asm.JEq.Imm(asm.R1, unix.IPPROTO_TCP, "protocol"),
		asm.JNE.Imm(asm.R1, unix.IPPROTO_MPTCP, allow),
		asm.Mov.Imm(asm.R1, unix.IPPROTO_TCP),
		asm.StoreMem(asm.RFP, stackKey+protoInAddr, asm.R1, asm.Half).WithSymbol("protocol"),
	}
}

// address puts address and port into the key, of a loopback address alone. The
// unspecified address means loopback to the kernel when it is connected to.
func (h hook) address() asm.Instructions {
	p := asm.Instructions{
		asm.LoadMem(asm.R1, context, ctxPort, asm.Word),
		asm.StoreMem(asm.RFP, stackKey+portInAddr, asm.R1, asm.Half),
	}
	if !h.v6 {
		p = append(p, mapped(stackKey)...)
		p = append(p, asm.LoadMem(asm.R4, context, ctxIP4, asm.Word))
		return append(p, h.loopback4(allow)...)
	}
	p = append(p,
		asm.LoadMem(asm.R1, context, ctxIP6, asm.Word),
		asm.LoadMem(asm.R2, context, ctxIP6+4, asm.Word),
		asm.LoadMem(asm.R3, context, ctxIP6+8, asm.Word),
		asm.LoadMem(asm.R4, context, ctxIP6+12, asm.Word),
		asm.Or.Reg(asm.R1, asm.R2),
		asm.JNE.Imm(asm.R1, 0, allow),
		asm.StoreImm(asm.RFP, stackKey, 0, asm.Word),
		asm.StoreImm(asm.RFP, stackKey+4, 0, asm.Word),
		asm.StoreMem(asm.RFP, stackKey+8, asm.R3, asm.Word),
		asm.JEq.Imm(asm.R3, 0, "native"),
		asm.HostTo(asm.BE, asm.R3, asm.Word),
		asm.JNE.Imm(asm.R3, 0xffff, allow),
	)
	// ::ffff:127.0.0.1, as programs with one socket for both families write it.
	p = append(p, h.loopback4(allow)...)
	return append(p,
		asm.Ja.Label("key"),
		asm.Mov.Reg(asm.R1, asm.R4).WithSymbol("native"),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.JGT.Imm(asm.R1, 1, allow),
		asm.Mov.Imm(asm.R1, 1),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.StoreMem(asm.RFP, stackKey+12, asm.R1, asm.Word),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("key"), // a place for the label to be
	)
}

// asked copies address and port from the key to the value of the peers.
func asked() asm.Instructions {
	p := asm.Instructions{
		asm.LoadMem(asm.R1, asm.RFP, stackKey+portInAddr, asm.Half),
		asm.StoreImm(asm.RFP, stackAsked+portInAddr, 0, asm.Word),
		asm.StoreMem(asm.RFP, stackAsked+portInAddr, asm.R1, asm.Half),
	}
	for i := int16(0); i < 16; i += 4 {
		p = append(p,
			asm.LoadMem(asm.R1, asm.RFP, stackKey+i, asm.Word),
			asm.StoreMem(asm.RFP, stackAsked+i, asm.R1, asm.Word))
	}
	return p
}

// loopback4 puts the address in R4 into the key if it is 127.0.0.0/8 or 0.0.0.0.
func (h hook) loopback4(other string) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R4),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.JNE.Imm(asm.R1, 0, "named"),
		asm.Mov.Imm32(asm.R1, 127<<24|1),
		asm.Mov.Reg(asm.R4, asm.R1).WithSymbol("named"),
		asm.HostTo(asm.BE, asm.R4, asm.Word),
		asm.RSh.Imm(asm.R1, 24),
		asm.JNE.Imm(asm.R1, 127, other),
		asm.StoreMem(asm.RFP, stackKey+12, asm.R4, asm.Word),
	}
}

// mapped begins an IPv4 address in its IPv6 form at the place on the stack.
func mapped(at int16) asm.Instructions {
	prefix := binary.NativeEndian.Uint32([]byte{0, 0, 0xff, 0xff})
	return asm.Instructions{
		asm.StoreImm(asm.RFP, at, 0, asm.Word),
		asm.StoreImm(asm.RFP, at+4, 0, asm.Word),
		asm.Mov.Imm32(asm.R1, int32(prefix)),
		asm.StoreMem(asm.RFP, at+8, asm.R1, asm.Word),
	}
}

// unspecified makes the key's address the unspecified one of its family.
func (h hook) unspecified() asm.Instructions {
	return asm.Instructions{asm.StoreImm(asm.RFP, stackKey+12, 0, asm.Word)}
}

func lookup(m *ebpf.Map, key int16) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, int32(key)),
		asm.FnMapLookupElem.Call(),
	}
}

// checkSource refuses a socket that is bound to a loopback address: the container
// could not answer it. A datagram that names such a source is given the address
// that the kernel chooses.
func (h hook) checkSource() asm.Instructions {
	socket, source := int16(sockSrcIP4), int16(ctxSrcIP4)
	if h.v6 {
		socket, source = sockSrcIP6, ctxSrcIP6
	}
	p := asm.Instructions{asm.LoadMem(asm.R5, context, ctxSocket, asm.DWord)}
	p = append(p, h.ifLoopback(asm.R5, socket, "unbound", asm.Ja.Label(refuse))...)
	p = append(p, asm.Mov.Imm(asm.R0, 0).WithSymbol("unbound"))
	if !h.datagram {
		return p
	}
	words := int16(1)
	if h.v6 {
		words = 4
	}
	clearSource := asm.Instructions{asm.Mov.Imm(asm.R1, 0)}
	for i := range words {
		clearSource = append(clearSource, asm.StoreMem(context, source+4*i, asm.R1, asm.Word))
	}
	p = append(p, h.ifLoopback(context, source, "source", clearSource...)...)
	return append(p, asm.Mov.Imm(asm.R0, 0).WithSymbol("source"))
}

// ifLoopback does what it is given if there is a loopback address of the hook's
// family at the offset of what base points to, and else jumps.
func (h hook) ifLoopback(base asm.Register, at int16, other string, then ...asm.Instruction) asm.Instructions {
	if !h.v6 {
		return append(asm.Instructions{
			asm.LoadMem(asm.R1, base, at, asm.Word),
			asm.HostTo(asm.BE, asm.R1, asm.Word),
			asm.RSh.Imm(asm.R1, 24),
			asm.JNE.Imm(asm.R1, 127, other),
		}, then...)
	}
	is := other + "-is"
	p := asm.Instructions{
		asm.LoadMem(asm.R1, base, at, asm.Word),
		asm.LoadMem(asm.R2, base, at+4, asm.Word),
		asm.LoadMem(asm.R3, base, at+8, asm.Word),
		asm.LoadMem(asm.R4, base, at+12, asm.Word),
		asm.Or.Reg(asm.R1, asm.R2),
		asm.JNE.Imm(asm.R1, 0, other),
		asm.HostTo(asm.BE, asm.R3, asm.Word),
		asm.HostTo(asm.BE, asm.R4, asm.Word),
		asm.JEq.Imm(asm.R3, 0, other+"-native"),
		asm.JNE.Imm(asm.R3, 0xffff, other),
		asm.RSh.Imm(asm.R4, 24),
		asm.JNE.Imm(asm.R4, 127, other),
		asm.Ja.Label(is),
		asm.JNE.Imm(asm.R4, 1, other).WithSymbol(other + "-native"),
		asm.Mov.Imm(asm.R0, 0).WithSymbol(is),
	}
	return append(p, then...)
}

// remember notes what the process asked for, by its socket and the container's
// address, for the answers to come from there. Of two ports by which one socket
// reaches one container port, the later counts: the answers do not tell.
func (h hook) remember(peers *ebpf.Map) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, context),
		asm.FnGetSocketCookie.Call(),
		asm.StoreMem(asm.RFP, stackPeer, asm.R0, asm.DWord),
		asm.LoadMem(asm.R1, found, 0, asm.DWord),
		asm.StoreMem(asm.RFP, stackPeer+addrInPeer, asm.R1, asm.DWord),
		asm.LoadMem(asm.R1, found, 8, asm.DWord),
		asm.StoreMem(asm.RFP, stackPeer+addrInPeer+8, asm.R1, asm.DWord),
		asm.LoadMem(asm.R1, found, portInAddr, asm.Half),
		asm.StoreImm(asm.RFP, stackPeer+addrInPeer+portInAddr, 0, asm.Word),
		asm.StoreImm(asm.RFP, stackPeer+addrInPeer+portInAddr+4, 0, asm.Word),
		asm.StoreMem(asm.RFP, stackPeer+addrInPeer+portInAddr, asm.R1, asm.Half),
		asm.LoadMapPtr(asm.R1, peers.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, stackPeer),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, stackAsked),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnMapUpdateElem.Call(),
	}
}

// read copies the context's address to the stack.
func (h hook) read(at int16) asm.Instructions {
	if !h.v6 {
		return append(mapped(at),
			asm.LoadMem(asm.R1, context, ctxIP4, asm.Word),
			asm.StoreMem(asm.RFP, at+12, asm.R1, asm.Word))
	}
	var p asm.Instructions
	for i := int16(0); i < 16; i += 4 {
		p = append(p,
			asm.LoadMem(asm.R1, context, ctxIP6+i, asm.Word),
			asm.StoreMem(asm.RFP, at+i, asm.R1, asm.Word))
	}
	return p
}

// write makes the address and port that found points to the context's.
func (h hook) write() asm.Instructions {
	p := asm.Instructions{
		asm.LoadMem(asm.R1, found, portInAddr, asm.Half),
		asm.StoreMem(context, ctxPort, asm.R1, asm.Word),
	}
	if !h.v6 {
		return append(p,
			asm.LoadMem(asm.R1, found, 12, asm.Word),
			asm.StoreMem(context, ctxIP4, asm.R1, asm.Word))
	}
	for i := int16(0); i < 16; i += 4 {
		p = append(p,
			asm.LoadMem(asm.R1, found, i, asm.Word),
			asm.StoreMem(context, ctxIP6+i, asm.R1, asm.Word))
	}
	return p
}

// restore turns the container's address into what the process had asked for.
func (h hook) restore(peers *ebpf.Map) asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(asm.R1, context),
		asm.FnGetSocketCookie.Call(),
		asm.StoreMem(asm.RFP, stackPeer, asm.R0, asm.DWord),
		asm.StoreImm(asm.RFP, stackPeer+addrInPeer+portInAddr, 0, asm.Word),
		asm.StoreImm(asm.RFP, stackPeer+addrInPeer+portInAddr+4, 0, asm.Word),
		asm.LoadMem(asm.R1, context, ctxPort, asm.Word),
		asm.StoreMem(asm.RFP, stackPeer+addrInPeer+portInAddr, asm.R1, asm.Half),
	}
	p = append(p, h.read(stackPeer+addrInPeer)...)
	p = append(p, lookup(peers, stackPeer)...)
	p = append(p,
		asm.JEq.Imm(asm.R0, 0, allow),
		asm.Mov.Reg(found, asm.R0),
	)
	return append(p, h.write()...)
}
