package dns

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// names are what containers are called, by network.
type names struct {
	mu       sync.RWMutex
	asking   map[string][]Endpoint // by sandbox, in order
	networks map[string]*zone      // by ID
	turn     atomic.Uint32         // of rotation
	// known are the addresses that were found of late, by whom and for what: nobody
	// has changed since.
	known map[string][]netip.Addr
}

// zone is the names of one network. Names are in lower case.
type zone struct {
	members map[string]Endpoint // by sandbox
	names   map[string][]string // name → sandboxes, in the order they came
	addrs   map[netip.Addr]string
}

func newNames() *names {
	return &names{asking: make(map[string][]Endpoint), networks: make(map[string]*zone), known: make(map[string][]netip.Addr)}
}

// set puts the sandbox's endpoints in the place of those it had.
func (n *names) set(sandbox string, endpoints []Endpoint) {
	endpoints = ordered(endpoints)
	for i := range endpoints {
		e := &endpoints[i]
		e.Names, e.Links = slices.Clone(e.Names), slices.Clone(e.Links)
		for j, name := range e.Names {
			e.Names[j] = canonical(name)
		}
		for j, l := range e.Links {
			e.Links[j].Alias = canonical(l.Alias)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forget(sandbox, endpoints)
	n.asking[sandbox] = endpoints
	for _, e := range endpoints {
		z := n.networks[e.NetworkID]
		if z == nil {
			z = &zone{members: make(map[string]Endpoint), names: make(map[string][]string), addrs: make(map[netip.Addr]string)}
			n.networks[e.NetworkID] = z
		}
		z.members[sandbox] = e
		for _, name := range e.Names {
			if !slices.Contains(z.names[name], sandbox) {
				z.names[name] = append(z.names[name], sandbox)
			}
		}
		for _, a := range e.Addrs {
			z.addrs[a] = sandbox
		}
	}
}

func (n *names) remove(sandbox string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forget(sandbox, nil)
	delete(n.asking, sandbox)
}

// forget takes the sandbox out of its networks. Where it keeps a name it keeps
// its place among those who share it.
func (n *names) forget(sandbox string, keep []Endpoint) {
	clear(n.known)
	for _, e := range n.asking[sandbox] {
		var kept []string
		for _, k := range keep {
			if k.NetworkID == e.NetworkID {
				kept = k.Names
			}
		}
		z := n.networks[e.NetworkID]
		for _, name := range e.Names {
			if slices.Contains(kept, name) {
				continue
			}
			left := slices.DeleteFunc(z.names[name], func(s string) bool { return s == sandbox })
			if z.names[name] = left; len(left) == 0 {
				delete(z.names, name)
			}
		}
		for _, a := range e.Addrs {
			if z.addrs[a] == sandbox {
				delete(z.addrs, a)
			}
		}
		delete(z.members, sandbox)
		if len(z.members) == 0 && kept == nil {
			delete(n.networks, e.NetworkID)
		}
	}
}

// canonical is the form names are compared in (RFC 4343).
func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// addresses returns the addresses of a name, of the family, as the sandbox sees
// it. known says that the name is there, whatever its addresses. The name is
// canonical.
//
// A name with dots is looked for whole, then as name.network with the network's
// name after each of its dots, the last first. Further names, which anybody may
// choose, come after what is called so itself: an alias "db.back" does not take the
// place of db on network back.
func (n *names) addresses(sandbox, name string, v4 bool) (addrs []netip.Addr, known bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if addrs, known = n.find(sandbox, name, v4); len(addrs) == 0 {
		return nil, known
	}
	k := int(n.turn.Add(1) % uint32(len(addrs)))
	return append(addrs[k:len(addrs):len(addrs)], addrs[:k]...), true
}

// find is addresses without turns. mu is held.
func (n *names) find(sandbox, name string, v4 bool) (addrs []netip.Addr, known bool) {
	host, network := name, ""
	for {
		found := n.on(sandbox, host, network, v4)
		known = known || found.known
		if len(addrs) == 0 || (found.own && len(found.addrs) > 0) {
			addrs = found.addrs
		}
		dot := strings.LastIndexByte(host, '.')
		if (found.own && len(addrs) > 0) || dot <= 0 {
			break
		}
		host, network = name[:dot], name[dot+1:]
	}
	return addrs, known
}

// found is what is called by a name.
type found struct {
	addrs []netip.Addr
	// known says that something is, own that it is its own name, or the asker's for it.
	known, own bool
}

// on looks through the networks of the sandbox, all of them or the one called so,
// and returns what the first has that has any: the asker's links before all names.
func (n *names) on(sandbox, host, network string, v4 bool) (out found) {
	for _, links := range []bool{true, false} {
		for _, e := range n.asking[sandbox] {
			if network != "" && !strings.EqualFold(e.Network, network) {
				continue
			}
			z := n.networks[e.NetworkID]
			who, own := z.called(host)
			if links {
				who, own = e.linked(host), true
			}
			for _, id := range who {
				m, there := z.members[id]
				out.known = out.known || there
				for _, a := range m.Addrs {
					if a.Is4() == v4 {
						out.addrs = append(out.addrs, a)
					}
				}
			}
			if len(out.addrs) > 0 {
				out.own = own
				return out
			}
		}
	}
	return out
}

// called returns who on the network is called so: whose own name it is, and nobody
// else; else all that go by it.
func (z *zone) called(name string) (who []string, own bool) {
	for _, id := range z.names[name] {
		if z.members[id].Names[0] == name {
			who = append(who, id)
		}
	}
	if len(who) > 0 {
		return who, true
	}
	return z.names[name], false
}

// linked returns the sandboxes that the endpoint's owner calls so.
func (e *Endpoint) linked(alias string) (who []string) {
	for _, l := range e.Links {
		if l.Alias == alias {
			who = append(who, l.Sandbox)
		}
	}
	return who
}

// owner returns the name.network of the address as the sandbox sees it.
func (n *names) owner(sandbox string, a netip.Addr) (string, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for _, e := range n.asking[sandbox] {
		z := n.networks[e.NetworkID]
		id, ok := z.addrs[a]
		if !ok || len(z.members[id].Names) == 0 {
			continue
		}
		return z.members[id].Names[0] + "." + canonical(e.Network), true
	}
	return "", false
}
