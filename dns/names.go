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
}

// zone is the names of one network. Names are in lower case.
type zone struct {
	members map[string]Endpoint // by sandbox
	names   map[string][]string // name → sandboxes, in the order they came
	addrs   map[netip.Addr]string
}

func newNames() *names {
	return &names{asking: make(map[string][]Endpoint), networks: make(map[string]*zone)}
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
// name after each of its dots, the last first.
func (n *names) addresses(sandbox, name string, v4 bool) (addrs []netip.Addr, known bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	host, network := name, ""
	for {
		for _, links := range []bool{true, false} {
			found, there := n.on(sandbox, host, network, links, v4)
			known = known || there
			if len(found) > 0 {
				k := int(n.turn.Add(1) % uint32(len(found)))
				return append(found[k:len(found):len(found)], found[:k]...), true
			}
		}
		dot := strings.LastIndexByte(host, '.')
		if dot <= 0 {
			return nil, known
		}
		host, network = name[:dot], name[dot+1:]
	}
}

// on looks through the networks of the sandbox, all of them or the one called so,
// and returns what the first has that has any.
func (n *names) on(sandbox, host, network string, links, v4 bool) (addrs []netip.Addr, known bool) {
	for _, e := range n.asking[sandbox] {
		if network != "" && !strings.EqualFold(e.Network, network) {
			continue
		}
		z := n.networks[e.NetworkID]
		who := z.names[host]
		if links {
			who = nil
			for _, l := range e.Links {
				if l.Alias == host {
					who = append(who, l.Sandbox)
				}
			}
		}
		for _, id := range who {
			m, there := z.members[id]
			known = known || there
			for _, a := range m.Addrs {
				if a.Is4() == v4 {
					addrs = append(addrs, a)
				}
			}
		}
		if len(addrs) > 0 {
			return addrs, true
		}
	}
	return nil, known
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
