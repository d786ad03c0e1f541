package relay

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"
)

// group is bindings that differ in nothing but their ports: how thousands of them come
// in a few bytes each. Revived is not carried.
type group struct {
	Owner   string     `json:"owner"`
	Proto   string     `json:"proto"`
	Host    netip.Addr `json:"host"`
	Backend netip.Addr `json:"backend"`
	Proxy   bool       `json:"proxy,omitempty"`
	// Ports are the host's and the backend's of each binding, in turns, two bytes each
	// in network order.
	Ports []byte `json:"ports"`
}

const bytesOfPorts = 4

// grouped sorts bindings into groups; order has the index that each had, group by group.
func grouped(bindings []Binding) (groups []group, order []int) {
	type shared struct {
		owner, proto  string
		host, backend netip.Addr
		proxy         bool
	}
	at := make(map[shared]int)
	var members [][]int
	for i, b := range bindings {
		s := shared{b.Owner, b.Proto, b.Host.Addr(), b.Backend.Addr(), b.Proxy}
		g, ok := at[s]
		if !ok {
			g = len(groups)
			at[s] = g
			groups = append(groups, group{Owner: s.owner, Proto: s.proto, Host: s.host, Backend: s.backend, Proxy: s.proxy})
			members = append(members, nil)
		}
		groups[g].Ports = binary.BigEndian.AppendUint16(groups[g].Ports, b.Host.Port())
		groups[g].Ports = binary.BigEndian.AppendUint16(groups[g].Ports, b.Backend.Port())
		members[g] = append(members[g], i)
	}
	order = make([]int, 0, len(bindings))
	for _, m := range members {
		order = append(order, m...)
	}
	return groups, order
}

// ungrouped are the groups' bindings, group by group.
func ungrouped(groups []group) ([]Binding, error) {
	n := 0
	for _, g := range groups {
		if len(g.Ports)%bytesOfPorts != 0 {
			return nil, fmt.Errorf("held ports of %s: %d bytes of ports: %w", g.Owner, len(g.Ports), errdefs.ErrInvalidArgument)
		}
		n += len(g.Ports) / bytesOfPorts
	}
	out := make([]Binding, 0, n)
	for _, g := range groups {
		for p := g.Ports; len(p) > 0; p = p[bytesOfPorts:] {
			out = append(out, Binding{
				Owner: g.Owner, Proto: g.Proto, Proxy: g.Proxy,
				Host:    netip.AddrPortFrom(g.Host, binary.BigEndian.Uint16(p)),
				Backend: netip.AddrPortFrom(g.Backend, binary.BigEndian.Uint16(p[2:])),
			})
		}
	}
	return out, nil
}
