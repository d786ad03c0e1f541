package drops

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf/asm"
)

// Where the program puts what, from the beginning of an event.
const (
	eventTime      = 0
	eventLocation  = 8
	eventReason    = 16
	eventLength    = 20
	eventNamespace = 24
	eventIndex     = 28
	eventName      = 32
	eventData      = 48
	nameSize       = 16 // IFNAMSIZ
	dataSize       = 128
	eventSize      = eventData + dataSize
	// The program's stack, from its top: the event, and pointers that it follows.
	stackEvent   = -eventSize
	stackPointer = stackEvent - 8
	stackHeader  = stackPointer - 8
)

// Registers that outlive calls.
const (
	skb    = asm.R7
	device = asm.R8
	args   = asm.R9
)

// Ends of the program.
const done, wanted = "done", "wanted"

// Arguments of the tracepoint (include/trace/events/skb.h).
const argPacket, argLocation, argReason = 0, 8, 16

// program writes an event for each packet from or to one of the addresses.
func program(at offsets, addresses []netip.Addr, events, missed int) asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(args, asm.R1),
		asm.LoadMem(skb, args, argPacket, asm.DWord),
	}
	p = append(p, clearStack()...)
	p = append(p, header(at)...)
	p = append(p, filter(addresses)...)
	p = append(p, asm.LoadMem(asm.R1, args, argLocation, asm.DWord).WithSymbol(wanted),
		asm.StoreMem(asm.RFP, stackEvent+eventLocation, asm.R1, asm.DWord))
	if at.hasReason {
		p = append(p, asm.LoadMem(asm.R1, args, argReason, asm.DWord), asm.StoreMem(asm.RFP, stackEvent+eventReason, asm.R1, asm.Word))
	}
	p = append(p, asm.FnKtimeGetNs.Call(), asm.StoreMem(asm.RFP, stackEvent+eventTime, asm.R0, asm.DWord))
	p = append(p, where(at)...)
	return append(p,
		asm.LoadMapPtr(asm.R1, events),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, stackEvent),
		asm.Mov.Imm(asm.R3, eventSize),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnRingbufOutput.Call(),
		asm.JEq.Imm(asm.R0, 0, done),
		// No room: it is counted.
		asm.StoreImm(asm.RFP, stackPointer, 0, asm.Word),
		asm.LoadMapPtr(asm.R1, missed),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, stackPointer),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, done),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 0).WithSymbol(done),
		asm.Return(),
	)
}

func clearStack() asm.Instructions {
	p := asm.Instructions{asm.Mov.Imm(asm.R1, 0)}
	for at := int16(stackHeader); at < 0; at += 8 {
		p = append(p, asm.StoreMem(asm.RFP, at, asm.R1, asm.DWord))
	}
	return p
}

// load reads kernel memory at a register and an offset onto the stack.
func load(to int32, size int32, from asm.Register, offset uint32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, to),
		asm.Mov.Imm(asm.R2, size),
		asm.Mov.Reg(asm.R3, from), asm.Add.Imm(asm.R3, int32(offset)),
		asm.FnProbeReadKernel.Call(),
	}
}

// header reads the packet from its IP header on, as far as it goes: at most dataSize
// bytes of what is in the packet's first part (up to its tail).
func header(at offsets) asm.Instructions {
	p := load(stackPointer, 8, skb, at.head)
	p = append(p, load(stackHeader, 2, skb, at.networkHeader)...)
	p = append(p,
		asm.LoadMem(asm.R6, asm.RFP, stackHeader, asm.Half),
		asm.LoadMem(device, asm.RFP, stackPointer, asm.DWord), // the buffer, for now
	)
	p = append(p, load(stackPointer, 4, skb, at.tail)...)
	return append(p,
		asm.LoadMem(asm.R2, asm.RFP, stackPointer, asm.Word),
		asm.JLE.Reg(asm.R2, asm.R6, done), // it has no IP header
		asm.Sub.Reg(asm.R2, asm.R6),
		asm.JLE.Imm(asm.R2, dataSize, "length"),
		asm.Mov.Imm(asm.R2, dataSize),
		asm.StoreMem(asm.RFP, stackEvent+eventLength, asm.R2, asm.Word).WithSymbol("length"),
		asm.Mov.Reg(asm.R3, device), asm.Add.Reg(asm.R3, asm.R6),
		asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, stackEvent+eventData),
		asm.FnProbeReadKernel.Call(),
	)
}

// filter ends the program unless one of the addresses is the packet's.
func filter(addresses []netip.Addr) asm.Instructions {
	if len(addresses) == 0 {
		return nil
	}
	const data = stackEvent + eventData
	p := asm.Instructions{asm.LoadMem(asm.R6, asm.RFP, data, asm.Byte), asm.RSh.Imm(asm.R6, 4)}
	for i, a := range addresses {
		version, places := int32(4), []int16{12, 16}
		if a = a.Unmap(); a.Is6() {
			version, places = 6, []int16{8, 24}
		}
		next := fmt.Sprintf("address%d", i)
		p = append(p, asm.JNE.Imm(asm.R6, version, next))
		bytes := a.AsSlice()
		for j, place := range places {
			other := fmt.Sprintf("%s_%d", next, j)
			for k := 0; k < len(bytes); k += 4 {
				p = append(p, asm.LoadMem(asm.R1, asm.RFP, data+place+int16(k), asm.Word),
					asm.JNE.Imm32(asm.R1, int32(binary.NativeEndian.Uint32(bytes[k:])), other))
			}
			p = append(p, asm.Ja.Label(wanted), asm.Mov.Imm(asm.R0, 0).WithSymbol(other))
		}
		p = append(p, asm.Mov.Imm(asm.R0, 0).WithSymbol(next))
	}
	return append(p, asm.Ja.Label(done))
}

// where finds the interface, the packet's own or that of its route, and the namespace,
// by it or by the packet's socket.
func where(at offsets) asm.Instructions {
	p := load(stackPointer, 8, skb, at.device)
	p = append(p, asm.LoadMem(device, asm.RFP, stackPointer, asm.DWord), asm.JNE.Imm(device, 0, "device"))
	p = append(p, load(stackPointer, 8, skb, at.route)...)
	p = append(p,
		asm.LoadMem(asm.R6, asm.RFP, stackPointer, asm.DWord),
		asm.And.Imm(asm.R6, -2), // SKB_DST_NOREF
		asm.JEq.Imm(asm.R6, 0, "socket"),
	)
	p = append(p, load(stackPointer, 8, asm.R6, at.routeDevice)...)
	p = append(p, asm.LoadMem(device, asm.RFP, stackPointer, asm.DWord), asm.JEq.Imm(device, 0, "socket"))
	p = append(p, asm.Mov.Imm(asm.R0, 0).WithSymbol("device"))
	p = append(p, load(stackEvent+eventIndex, 4, device, at.index)...)
	p = append(p, load(stackEvent+eventName, nameSize, device, at.name)...)
	p = append(p, load(stackPointer, 8, device, at.deviceNet)...)
	p = append(p, asm.Ja.Label("namespace"), asm.Mov.Imm(asm.R0, 0).WithSymbol("socket"))
	p = append(p, load(stackPointer, 8, skb, at.socket)...)
	p = append(p, asm.LoadMem(asm.R6, asm.RFP, stackPointer, asm.DWord), asm.JEq.Imm(asm.R6, 0, "output"))
	p = append(p, load(stackPointer, 8, asm.R6, at.socketNet)...)
	p = append(p, asm.LoadMem(asm.R6, asm.RFP, stackPointer, asm.DWord).WithSymbol("namespace"), asm.JEq.Imm(asm.R6, 0, "output"))
	p = append(p, load(stackEvent+eventNamespace, 4, asm.R6, at.inode)...)
	return append(p, asm.Mov.Imm(asm.R0, 0).WithSymbol("output"))
}
