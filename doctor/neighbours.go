package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Neighbours are those that the kernel knows of one family, of all network namespaces
// together: it has one table for them (net/core/neighbour.c).
type Neighbours struct {
	// Entries are there now; Full is how often there was no room since the boot.
	Entries, Full uint64
}

// each endpoint is known to the host, and knows its gateway.
const neighboursEach = 2

// neighbours looks for room in the tables of neighbours: where there is none, packets to
// who is not known yet are lost, in every namespace.
func (h Host) neighbours(f *findings) {
	var well []string
	for _, family := range []struct{ name, key string }{{"IPv4", "net.ipv4.neigh.default.gc_thresh"}, {"IPv6", "net.ipv6.neigh.default.gc_thresh"}} {
		most, ok := h.number(family.key + "3")
		have, known := h.Neighbours[family.name]
		if !ok || !known || most == 0 {
			continue
		}
		wanted := uint64(neighboursEach * h.endpoints(family.name == "IPv4"))
		what := fmt.Sprintf("the kernel knows %d of %d %s neighbours, of all namespaces together", have.Entries, most, family.name)
		room := max(4*most, 4*wanted)
		cure := []string{fmt.Sprintf("sysctl -w %s3=%d", family.key, room), fmt.Sprintf("sysctl -w %s2=%d", family.key, room/2)}
		switch {
		case have.Entries*100 >= most*95:
			f.add(Problem, "neighbours", what+": packets to others are lost", cure...)
		case have.Entries*100 >= most*75:
			f.add(Warning, "neighbours", what+": when there is no room, packets to others are lost", cure...)
		case wanted*100 >= most*75:
			f.add(Warning, "neighbours", fmt.Sprintf("%s; the containers here need %d: when all talk at once, packets are lost", what, wanted), cure...)
		case have.Full > 0:
			f.add(Note, "neighbours", fmt.Sprintf("%s; there was no room for another %d times since the boot", what, have.Full), cure...)
		default:
			well = append(well, fmt.Sprintf("%d of %d %s neighbours", have.Entries, most, family.name))
		}
	}
	if len(well) > 0 {
		f.add(OK, "neighbours", strings.Join(well, ", "))
	}
}

// endpoints are the containers' on networks that have the family.
func (h Host) endpoints(v4 bool) (n int) {
	for _, one := range h.Networks {
		if slices.ContainsFunc(one.Subnets, func(p netip.Prefix) bool { return p.Addr().Is4() == v4 }) {
			n += one.Endpoints
		}
	}
	return n
}
