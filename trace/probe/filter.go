package probe

import (
	"fmt"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// network is where offsets from the IP header begin, whatever is before it
// (SKF_NET_OFF of linux/filter.h).
const network = 0xfff00000

// snapLen is as much of a packet as is read: two IP headers and what an error quotes.
const snapLen = 256

// Places in a filter's program that it goes on at.
const (
	keep = "keep"
	drop = "drop"
)

// program is a filter in the making: jumps are to places that come later.
type program struct {
	code []bpf.Instruction
	// jumps are, by the number of an instruction, where it goes if it is true.
	jumps  map[int]string
	labels map[string]int
}

func (p *program) add(in ...bpf.Instruction) { p.code = append(p.code, in...) }

// equal goes to the place where what was loaded is the value.
func (p *program) equal(value uint32, to string) {
	p.jumps[len(p.code)] = to
	p.add(bpf.JumpIf{Cond: bpf.JumpEqual, Val: value})
}

func (p *program) place(name string) { p.labels[name] = len(p.code) }

func (p *program) jump(to string) {
	p.jumps[len(p.code)] = to
	p.add(bpf.Jump{})
}

// filter keeps the identity's packets and errors that quote them.
func (id identity) filter() ([]bpf.RawInstruction, error) {
	p := &program{jumps: map[int]string{}, labels: map[string]int{}}
	version, proto := uint32(4), uint32(9)
	if id.ipv6 {
		version, proto = 6, 6
	}
	p.add(bpf.LoadAbsolute{Off: network, Size: 1}, bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 4})
	p.equal(version, "family")
	p.jump(drop)
	p.place("family")
	// X is how long the header is.
	if id.ipv6 {
		p.add(bpf.LoadConstant{Dst: bpf.RegX, Val: ipv6Bytes})
	} else {
		p.add(bpf.LoadMemShift{Off: network})
	}
	p.add(bpf.LoadAbsolute{Off: network + proto, Size: 1})
	p.equal(uint32(id.icmp()), "icmp")
	p.equal(uint32(id.proto), "ports")
	p.jump(drop)
	p.place("ports")
	p.numbers(uint32(id.id), 0, 2)
	p.place("icmp")
	quote := uint32(icmpBytes + ipv4Bytes)
	if id.ipv6 {
		quote = icmpBytes + ipv6Bytes
	}
	if id.proto == id.icmp() {
		p.numbers(uint32(id.id), 4, quote+4)
	} else {
		p.numbers(uint32(id.id), quote, quote+2)
	}
	p.place(drop)
	p.add(bpf.RetConstant{})
	p.place(keep)
	p.add(bpf.RetConstant{Val: snapLen})
	return p.assemble()
}

// numbers keeps what has the value at one of the places behind the IP header, and no
// other. What is too short has not.
func (p *program) numbers(value uint32, at ...uint32) {
	for _, place := range at {
		p.add(bpf.LoadIndirect{Off: network + place, Size: 2})
		p.equal(value, keep)
	}
	p.jump(drop)
}

func (p *program) assemble() ([]bpf.RawInstruction, error) {
	for at, to := range p.jumps {
		skip := p.labels[to] - at - 1
		switch in := p.code[at].(type) {
		case bpf.JumpIf:
			in.SkipTrue = uint8(skip)
			p.code[at] = in
		case bpf.Jump:
			in.Skip = uint32(skip)
			p.code[at] = in
		}
	}
	raw, err := bpf.Assemble(p.code)
	if err != nil {
		return nil, fmt.Errorf("filter of a probe: %w", err)
	}
	return raw, nil
}

// protocolNumber is that of tcp, udp or icmp, the latter of the family; 0 for any other.
func protocolNumber(name string, ipv6 bool) uint8 {
	switch {
	case name == "tcp":
		return unix.IPPROTO_TCP
	case name == "udp":
		return unix.IPPROTO_UDP
	case name == "icmp" && ipv6:
		return unix.IPPROTO_ICMPV6
	case name == "icmp":
		return unix.IPPROTO_ICMP
	}
	return 0
}
