package fastpath

import (
	"encoding/binary"
	"net/netip"
)

// Crowd returns ports that take so many of the slots that the port's first address would
// have as who is sent to.
func Crowd(port Port, n int) (out []Port) {
	home := keyOf(port.Segment|inSegment, port.Addrs[0]).home()
	for i := uint32(1); len(out) < n; i++ {
		a := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 172<<24|i)))
		if keyOf(port.Segment|inSegment, a).home() == home {
			out = append(out, Port{Index: port.Index + 100 + len(out), Segment: port.Segment, MAC: port.MAC, Addrs: []netip.Addr{a}})
		}
	}
	return out
}

// OpenBefore is Open on a kernel that leaves frames as they were for who got them first.
func OpenBefore(tag string) (*Path, error) { return open(tag, true) }

// Probes is how many keys of one home there can be.
const Probes = probes

// Taken is how many slots are kept for entries that are not there yet.
func (p *Path) Taken() (n int) {
	for i := range p.table.slots {
		if p.table.slots[i].of.Load() == taken {
			n++
		}
	}
	return n
}
