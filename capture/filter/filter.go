// Package filter compiles expressions of pcap-filter(7), the language of tcpdump, to
// classic BPF, without libpcap. What it does not understand it refuses by name, and says
// what to use instead; what it takes means the same as in tcpdump, which its test asks.
package filter

import (
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"
	"golang.org/x/net/bpf"
)

// Link is what a packet begins with.
type Link int

// The links there are: an Ethernet header, or none before that of IP.
const (
	Ethernet Link = iota
	Raw
)

// Options are what an expression is compiled for.
type Options struct {
	Link Link
	// Keep is how many bytes of a packet that is wanted are kept.
	Keep uint32
	// Lookup gives the addresses of a host that is named; nil knows none.
	Lookup func(name string) []netip.Addr
}

// Compile makes the program of an expression. The empty one wants every packet. What is
// wrong with it is said by an error that wraps errdefs.ErrInvalidArgument.
func Compile(text string, o Options) ([]bpf.RawInstruction, error) {
	a := &assembler{link: o.Link}
	program, err := a.program(text, o)
	if err != nil {
		return nil, fmt.Errorf("filter %q: %w: %w", text, err, errdefs.ErrInvalidArgument)
	}
	return program, nil
}

func (a *assembler) program(text string, o Options) ([]bpf.RawInstruction, error) {
	all := cond(func(a *assembler, yes, _ label) { a.jump(yes) })
	tokens, err := scan(text)
	if err != nil {
		return nil, err
	}
	if len(tokens) > 0 {
		p := &parser{tokens: tokens, link: o.Link, lookup: o.Lookup}
		if all, err = p.whole(); err != nil {
			return nil, err
		}
	}
	// Conditional jumps reach 255 instructions; only if that is too short each gets two
	// jumps that reach everything.
	for _, far := range []bool{false, true} {
		a.reset(far)
		yes, no := a.label(), a.label()
		all(a, yes, no)
		a.place(yes)
		a.emit(bpf.RetConstant{Val: o.Keep})
		a.place(no)
		a.emit(bpf.RetConstant{Val: 0})
		program, fits, err := a.assemble()
		if err != nil || fits {
			return program, err
		}
	}
	return nil, fmt.Errorf("it is too long")
}
