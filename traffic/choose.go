package traffic

import (
	"cmp"
	"slices"
	"strings"
)

// SortKey is what the rows of a report are ordered by. A table that does not have it is
// ordered by bytes. Names ascend, all else descends.
type SortKey string

// SortKeys are all there are.
var SortKeys = []SortKey{"bytes", "rx", "tx", "packets", "drops", "connections", "open", "name"}

// Sort orders the rows of each table; what is unknown comes last, and of equals the first
// by name.
func (r *Report) Sort(by SortKey) {
	slices.SortFunc(r.Containers, func(a, b ContainerRate) int {
		return cmp.Or(by.order(a.Rates, b.Rates), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	slices.SortFunc(r.Networks, func(a, b NetworkRate) int {
		return cmp.Or(by.order(a.Rates, b.Rates), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	slices.SortFunc(r.Ports, func(a, b PortRate) int {
		return cmp.Or(by.orderPorts(a, b), cmp.Compare(a.Container, b.Container), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Target, b.Target), cmp.Compare(a.Proto, b.Proto))
	})
}

func (by SortKey) order(a, b Rates) int {
	switch by {
	case "name":
		return 0
	case "rx":
		return descending(a.ReceivedBytes, b.ReceivedBytes)
	case "tx":
		return descending(a.SentBytes, b.SentBytes)
	case "packets":
		return descending(a.ReceivedPackets+a.SentPackets, b.ReceivedPackets+b.SentPackets)
	case "drops":
		return descending(a.Drops, b.Drops)
	}
	return descending(a.ReceivedBytes+a.SentBytes, b.ReceivedBytes+b.SentBytes)
}

func (by SortKey) orderPorts(a, b PortRate) int {
	switch by {
	case "name":
		return 0
	case "connections":
		return descending(a.Connections, b.Connections)
	case "open":
		return descending(a.Open, b.Open)
	}
	// Bytes are seldom known: what is busy comes first all the same.
	return cmp.Or(descending(a.Bytes, b.Bytes), descending(a.Connections, b.Connections), descending(a.Open, b.Open))
}

// descending puts what is unknown last. NaN is less than any number (package cmp).
func descending(a, b Rate) int { return cmp.Compare(b, a) }

// Keep leaves what belongs to one of the containers or networks, which are named or given
// by an ID or its beginning: of a container its networks and ports too, of a network its
// containers and their ports on it. No references keep all. It returns those that nothing
// answers to.
func (r *Report) Keep(refs []string) (missing []string) {
	if len(refs) == 0 {
		return nil
	}
	containers, members, networks, around := make(map[string]bool), make(map[string]bool), make(map[string]bool), make(map[string]bool)
	for _, ref := range refs {
		found := false
		for _, c := range r.Containers {
			if is(ref, c.Name, c.ID) || slices.Contains(c.SharedBy, ref) {
				containers[c.ID], found = true, true
				for _, n := range c.Networks {
					around[n] = true
				}
			}
		}
		for _, n := range r.Networks {
			if is(ref, n.Name, n.ID) {
				networks[n.Name], found = true, true
			}
		}
		if !found {
			missing = append(missing, ref)
		}
	}
	on := func(list []string) bool { return slices.ContainsFunc(list, func(n string) bool { return networks[n] }) }
	for _, c := range r.Containers {
		members[c.ID] = on(c.Networks)
	}
	r.Containers = slices.DeleteFunc(r.Containers, func(c ContainerRate) bool { return !containers[c.ID] && !members[c.ID] })
	r.Networks = slices.DeleteFunc(r.Networks, func(n NetworkRate) bool { return !networks[n.Name] && !around[n.Name] })
	r.Ports = slices.DeleteFunc(r.Ports, func(p PortRate) bool { return !containers[p.ContainerID] && !on(p.Networks) })
	return missing
}

func is(ref, name, id string) bool {
	return ref == name || len(ref) >= 4 && strings.HasPrefix(id, ref)
}
