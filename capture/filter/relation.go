package filter

import (
	"fmt"
	"math"

	"golang.org/x/net/bpf"
)

// value makes code that has a number in the accumulator. depth is the first cell of the
// memory that is free.
type value func(a *assembler, depth int)

// cells is how much memory there is for what waits (BPF_MEMWORDS).
const cells = 16

// sum is a number that is computed, and what a packet must be for it.
type sum struct {
	value value
	needs []cond
	// cells of the memory.
	cells int
	// constant is its value where it does not depend on the packet.
	constant *uint32
}

// relation compares two numbers.
func (p *parser) relation() (cond, error) {
	left, err := p.sum(0)
	if err != nil {
		return nil, err
	}
	var how string
	for _, s := range []string{"=", "==", "!=", "<=", ">=", "<", ">"} {
		if p.takes(s) {
			how = s
			break
		}
	}
	if how == "" {
		return nil, p.unexpected("a comparison: =, !=, <, >, <= or >=")
	}
	right, err := p.sum(0)
	if err != nil {
		return nil, err
	}
	if max(left.cells, right.cells+1) >= cells {
		return nil, fmt.Errorf("a number is nested too deep")
	}
	jump := map[string]bpf.JumpTest{
		"=": bpf.JumpEqual, "==": bpf.JumpEqual, "!=": bpf.JumpNotEqual,
		"<": bpf.JumpLessThan, "<=": bpf.JumpLessOrEqual, ">": bpf.JumpGreaterThan, ">=": bpf.JumpGreaterOrEqual,
	}[how]
	compared := func(a *assembler, yes, no label) {
		left.value(a, 0)
		if right.constant != nil {
			a.test(jump, *right.constant, yes, no)
			return
		}
		a.emit(bpf.StoreScratch{Src: bpf.RegA, N: 0})
		right.value(a, 1)
		a.emit(bpf.TAX{}, bpf.LoadScratch{Dst: bpf.RegA, N: 0})
		a.testX(jump, yes, no)
	}
	return and(append(append(left.needs, right.needs...), compared)...), nil
}

// binding is how strongly operators bind, as in C.
var binding = map[string]int{"|": 1, "^": 1, "&": 2, "<<": 3, ">>": 3, "+": 4, "-": 4, "*": 5, "/": 5, "%": 5}

var operations = map[string]bpf.ALUOp{
	"|": bpf.ALUOpOr, "^": bpf.ALUOpXor, "&": bpf.ALUOpAnd, "<<": bpf.ALUOpShiftLeft, ">>": bpf.ALUOpShiftRight,
	"+": bpf.ALUOpAdd, "-": bpf.ALUOpSub, "*": bpf.ALUOpMul, "/": bpf.ALUOpDiv, "%": bpf.ALUOpMod,
}

func (p *parser) sum(least int) (sum, error) {
	if p.depth++; p.depth > maxDepth {
		return sum{}, fmt.Errorf("it is nested deeper than %d", maxDepth)
	}
	defer func() { p.depth-- }()
	left, err := p.atom()
	for err == nil {
		t := p.peek()
		strength := binding[t.text]
		if t.kind != sign || strength == 0 || strength <= least {
			return left, nil
		}
		p.at++
		var right sum
		if right, err = p.sum(strength); err == nil {
			left, err = combine(t.text, left, right)
		}
	}
	return sum{}, err
}

func combine(sign string, left, right sum) (sum, error) {
	op := operations[sign]
	if right.constant != nil {
		switch n := *right.constant; {
		case n == 0 && (sign == "/" || sign == "%"):
			return sum{}, fmt.Errorf("nothing is divided by 0")
		case n > 31 && (sign == "<<" || sign == ">>"):
			return sum{}, fmt.Errorf("a number of 32 bits is not shifted by %d", n)
		}
	}
	out := sum{needs: append(left.needs, right.needs...), cells: max(left.cells, right.cells+1)}
	out.value = func(a *assembler, depth int) {
		left.value(a, depth)
		if right.constant != nil {
			a.emit(bpf.ALUOpConstant{Op: op, Val: *right.constant})
			return
		}
		a.emit(bpf.StoreScratch{Src: bpf.RegA, N: depth})
		right.value(a, depth+1)
		a.emit(bpf.TAX{}, bpf.LoadScratch{Dst: bpf.RegA, N: depth}, bpf.ALUOpX{Op: op})
	}
	if left.constant != nil && right.constant != nil {
		n := fold(sign, *left.constant, *right.constant)
		return fixed(n), nil
	}
	return out, nil
}

func fold(sign string, a, b uint32) uint32 {
	switch sign {
	case "|":
		return a | b
	case "^":
		return a ^ b
	case "&":
		return a & b
	case "<<":
		return a << b
	case ">>":
		return a >> b
	case "+":
		return a + b
	case "-":
		return a - b
	case "*":
		return a * b
	case "/":
		return a / b
	}
	return a % b
}

func fixed(n uint32) sum {
	return sum{constant: &n, value: func(a *assembler, _ int) { a.emit(bpf.LoadConstant{Dst: bpf.RegA, Val: n}) }}
}

// constants are names of bytes and bits in headers.
var constants = map[string]uint32{
	"tcpflags": 13, "tcp-fin": 1, "tcp-syn": 2, "tcp-rst": 4, "tcp-push": 8, "tcp-ack": 16, "tcp-urg": 32, "tcp-ece": 64, "tcp-cwr": 128,
	"icmptype": 0, "icmpcode": 1, "icmp-echoreply": 0, "icmp-unreach": 3, "icmp-sourcequench": 4, "icmp-redirect": 5, "icmp-echo": 8,
	"icmp-routeradvert": 9, "icmp-routersolicit": 10, "icmp-timxceed": 11, "icmp-paramprob": 12, "icmp-tstamp": 13, "icmp-tstampreply": 14,
	"icmp-ireq": 15, "icmp-ireqreply": 16, "icmp-maskreq": 17, "icmp-maskreply": 18,
	"icmp6type": 0, "icmp6code": 1, "icmp6-destinationunreach": 1, "icmp6-packettoobig": 2, "icmp6-timeexceeded": 3, "icmp6-parameterproblem": 4,
	"icmp6-echo": 128, "icmp6-echoreply": 129, "icmp6-routersolicit": 133, "icmp6-routeradvert": 134,
	"icmp6-neighborsolicit": 135, "icmp6-neighboradvert": 136, "icmp6-redirect": 137,
}

func (p *parser) atom() (sum, error) {
	t := p.peek()
	switch {
	case p.takes("("):
		s, err := p.sum(0)
		if err == nil && !p.takes(")") {
			err = p.unexpected(")")
		}
		return s, err
	case p.takes("-"):
		s, err := p.atom()
		if err != nil {
			return s, err
		}
		return combine("-", fixed(0), s)
	case t.kind == number:
		p.at++
		return fixed(t.n), nil
	case p.takes("len"):
		return sum{value: func(a *assembler, _ int) { a.emit(bpf.LoadExtension{Num: bpf.ExtLen}) }}, nil
	case t.kind != word:
		return sum{}, p.unexpected("a number")
	}
	if n, ok := constants[t.text]; ok {
		p.at++
		return fixed(n), nil
	}
	if next := p.ahead(1); next.kind == sign && next.text == "[" {
		return p.bytes()
	}
	return sum{}, p.unexpected("a number")
}

// bytes is PROTOCOL[PLACE:SIZE].
func (p *parser) bytes() (sum, error) {
	name := p.peek().text
	p.at += 2
	place, err := p.sum(0)
	if err != nil {
		return sum{}, err
	}
	size := uint32(1)
	if p.takes(":") {
		t := p.peek()
		if t.kind != number || t.n != 1 && t.n != 2 && t.n != 4 {
			return sum{}, p.unexpected("1, 2 or 4 bytes")
		}
		p.at++
		size = t.n
	}
	if !p.takes("]") {
		return sum{}, p.unexpected("]")
	}
	base, needs, behind, err := p.header(name)
	if err != nil {
		return sum{}, err
	}
	out := sum{needs: append(needs, place.needs...), cells: place.cells + 1}
	if n := place.constant; n != nil && !behind && *n < math.MaxInt16 {
		out.value = func(a *assembler, _ int) { a.emit(bpf.LoadAbsolute{Off: base + *n, Size: int(size)}) }
		return out, nil
	}
	out.value = func(a *assembler, depth int) {
		place.value(a, depth)
		if behind {
			a.emit(bpf.StoreScratch{Src: bpf.RegA, N: depth}, bpf.LoadMemShift{Off: p.network()}, bpf.LoadScratch{Dst: bpf.RegA, N: depth}, bpf.ALUOpX{Op: bpf.ALUOpAdd})
		}
		a.emit(bpf.TAX{}, bpf.LoadIndirect{Off: base, Size: int(size)})
	}
	return out, nil
}

// header is where a protocol's begins, and what a packet must be to have it; behind the
// header of IPv4, whose length varies, for what is above that.
func (p *parser) header(name string) (base uint32, needs []cond, behind bool, err error) {
	if hint, refused := refusals[name]; refused {
		return 0, nil, false, fmt.Errorf("%q is not understood here: %s", name, hint)
	}
	if name == "ether" {
		if p.link != Ethernet {
			return 0, nil, false, errNoEthernet
		}
		return 0, nil, false, nil
	}
	if t, ok := etherTypes[name]; ok {
		return p.network(), []cond{p.above(t)}, false, nil
	}
	proto, ok := above[name]
	switch {
	case !ok:
		return 0, nil, false, fmt.Errorf("no protocol is called %q", name)
	case !proto.v4:
		return p.network() + ip6Header, []cond{and(p.ip6(), field(p.network()+ip6Next, 1, all, proto.number))}, false, nil
	}
	return p.network(), []cond{p.ipProto(proto.number), p.firstFragment()}, true, nil
}
