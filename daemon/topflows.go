package daemon

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/conntrack"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/traffic"
)

// flowBook remembers connections that lead to published ports, from one reading of the
// kernel's table to the next: the kernel itself counts none. A connection that is over
// stays in the table for ten seconds and more, so that none is missed between readings
// that are not further apart. The zero value has read nothing.
type flowBook struct {
	seen map[uint32]uint64 // bytes by flow; nil before the first reading
	// sums are by published port, and never become less.
	sums map[spec.PortBinding]*flowSum
}

type flowSum struct{ begun, open, bytes uint64 }

// tracked is what tells the connections of a published port.
type tracked struct {
	proto uint8
	// from is the container's address and port, port the one that clients asked for.
	from netip.AddrPort
	port uint16
}

var protocolNumbers = map[spec.Proto]uint8{spec.TCP: unix.IPPROTO_TCP, spec.UDP: unix.IPPROTO_UDP, spec.SCTP: unix.IPPROTO_SCTP}

// read reads the table and says of each binding what it has; nil of all where the table
// cannot be read.
func (b *flowBook) read(bindings []spec.PortBinding) []*traffic.Flows {
	out := make([]*traffic.Flows, len(bindings))
	if len(bindings) == 0 {
		return out
	}
	by := index(bindings)
	translated := !slices.ContainsFunc(bindings, spec.PortBinding.Routed)
	first, sums, seen := b.seen == nil, make(map[spec.PortBinding]*flowSum, len(bindings)), make(map[uint32]uint64)
	for _, p := range bindings {
		sums[p] = &flowSum{}
		if was := b.sums[p]; was != nil {
			*sums[p] = flowSum{begun: was.begun, bytes: was.bytes}
		}
	}
	err := conntrack.Flows(translated, func(f conntrack.Flow) {
		p, ok := leads(by, f)
		if !ok {
			return
		}
		if _, twice := seen[f.ID]; twice {
			return
		}
		seen[f.ID] = f.Bytes
		sum, was := sums[p], b.seen[f.ID]
		if !f.Over {
			sum.open++
		}
		if _, known := b.seen[f.ID]; !known && !first {
			sum.begun++
		}
		if !first && f.Bytes > was {
			sum.bytes += f.Bytes - was
		}
	})
	if err != nil {
		return out
	}
	b.seen, b.sums = seen, sums
	counts := conntrack.Accounting()
	for i, p := range bindings {
		sum := sums[p]
		out[i] = &traffic.Flows{Begun: sum.begun, Open: sum.open}
		if counts {
			out[i].Bytes = &sum.bytes
		}
	}
	return out
}

// index has the ports by what tells their connections.
func index(bindings []spec.PortBinding) map[tracked][]spec.PortBinding {
	by := make(map[tracked][]spec.PortBinding, len(bindings))
	for _, p := range bindings {
		at := tracked{protocolNumbers[p.Proto], p.Container, p.Host.Port()}
		if p.Routed() {
			at.port = p.Container.Port()
		}
		by[at] = append(by[at], p)
	}
	return by
}

// leads finds the port that a flow came by: that of its address rather than that of all
// the host's.
func leads(by map[tracked][]spec.PortBinding, f conntrack.Flow) (spec.PortBinding, bool) {
	var found spec.PortBinding
	ok := false
	for _, p := range by[tracked{f.Proto, f.From, f.To.Port()}] {
		direct := f.To == f.From
		switch {
		case p.Routed() != direct:
		case p.Host.Addr() == f.To.Addr():
			return p, true
		case p.Host.Addr().IsUnspecified() && p.Host.Addr().Is4() == f.To.Addr().Is4():
			found, ok = p, true
		}
	}
	return found, ok
}
