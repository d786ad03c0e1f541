package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/network/ports"
	"github.com/fairlead/fairlead/network/spec"
)

// Unserved says why nobody serves what comes to the binding's host port, "" where
// somebody does, or where the host has none. What of a family no rules are made for at
// all is another matter.
func (c Config) Unserved(b spec.PortBinding) string {
	switch {
	case b.Routed() || c.UserlandProxy && b.Proto != spec.SCTP:
		return ""
	case !b.Translatable():
		return "the container has no address of that family and the userland proxy is off"
	case b.Host.Addr().IsLoopback() && c.NoLoopback != "":
		return "the userland proxy is off, and this host lacks what serves loopback without it: " + c.NoLoopback
	}
	return ""
}

// Withdrawn is a published port that is no more, and why.
type Withdrawn struct {
	spec.PortBinding
	Why string
}

// Turn is what comes of a sandbox's published ports when other ones are served than
// before: the userland proxy was turned on or off.
type Turn struct {
	After     spec.Attachment
	Withdrawn []Withdrawn
	// Returned are published though they were not before, and Refused says why others
	// cannot be.
	Returned []spec.PortBinding
	Refused  []error
}

// DecideServed settles which published ports of the sandbox are served: those that
// nobody serves are none, and those that its requests ask for, which may not have been
// served before, are again. Nothing else of its ports changes.
func (s *State) DecideServed(sandboxID string, foreign Foreign) Turn {
	a := s.attachments[sandboxID]
	t := Turn{After: a}
	t.After.Ports = make([]spec.PortBinding, 0, len(a.Ports))
	for _, b := range a.Ports {
		if why := s.cfg.Unserved(b); why != "" {
			t.Withdrawn = append(t.Withdrawn, Withdrawn{b, why})
		} else {
			t.After.Ports = append(t.After.Ports, b)
		}
	}
	out4, out6, binding := s.outlets(a)
	if !out4.addr.IsValid() && !out6.addr.IsValid() || complete(a.Requests, t.After.Ports, binding) {
		return t
	}
	requests := s.askedFor(a.Requests, t.After.Ports, binding, out4, out6)
	if !slices.ContainsFunc(requests, func(q asked) bool { return len(q.lacks.Hosts) > 0 }) {
		return t
	}
	s.book.Remove(sandboxID, HostPorts(a.Ports))
	s.book.Add(a.Sandbox, HostPorts(t.After.Ports))
	defer func() { // nothing is recorded yet
		s.book.Remove(sandboxID, HostPorts(t.After.Ports))
		s.book.Add(a.Sandbox, HostPorts(a.Ports))
	}()
	for i, q := range requests {
		if len(q.lacks.Hosts) == 0 {
			continue
		}
		back, err := s.book.Choose([]ports.Request{q.lacks}, foreign)
		if err != nil {
			t.Refused = append(t.Refused, err)
			continue
		}
		s.book.Add(a.Sandbox, back)
		t.Returned = append(t.Returned, back...)
		requests[i].HostPort = back[0].Host.Port()
	}
	if len(t.Returned) > 0 {
		t.After.Ports = inOrder(append(t.After.Ports, t.Returned...), requests)
	}
	return t
}

// Unpublished are host ports that the sandbox asks for and has not: the userland proxy
// alone would serve them, and it is off, or they were not free when it was turned on.
// Where one was to be chosen, the port is 0.
func (s *State) Unpublished(sandboxID string) (out []spec.PortBinding) {
	a := s.attachments[sandboxID]
	out4, out6, binding := s.outlets(a)
	if !out4.addr.IsValid() && !out6.addr.IsValid() || complete(a.Requests, a.Ports, binding) {
		return nil
	}
	proxying := *s
	proxying.cfg.UserlandProxy = true
	for _, q := range proxying.askedFor(a.Requests, a.Ports, binding, out4, out6) {
		for i, h := range q.lacks.Hosts {
			out = append(out, spec.PortBinding{Proto: q.Proto, Host: netip.AddrPortFrom(h, q.HostPort), Container: netip.AddrPortFrom(q.lacks.Backends[i], q.Port)})
		}
	}
	return out
}

// complete says that the requests have all the host addresses that they can have: one, or
// that of each family. Of thousands of ports, at most starts, the rest takes its time.
func complete(requests []spec.PortRequest, have []spec.PortBinding, binding netip.Addr) bool {
	most := 0
	for _, p := range requests {
		if most++; !p.HostIP.IsValid() && !binding.IsValid() {
			most++
		}
	}
	return len(have) >= most
}

// asked is a request with the host port that it has, and what it lacks of it.
type asked struct {
	ports.Request
	lacks ports.Request
}

// askedFor are the requests with the host ports that they have. They lack host addresses
// that the proxy alone may serve; others are never taken from them. What is refused now
// is left out.
func (s *State) askedFor(requests []spec.PortRequest, have []spec.PortBinding, binding netip.Addr, out4, out6 outlet) (out []asked) {
	had, there := formerPorts(have), hostPorts(have)
	kept := make([]bool, 0, len(requests))
	out = make([]asked, 0, len(requests))
	for _, p := range requests {
		if r, _, err := s.settleHosts(p, binding, out4, out6); err == nil {
			kept = append(kept, had.keep(&r))
			out = append(out, asked{r, ports.Request{PortRequest: r.PortRequest}})
		}
	}
	for i := range out {
		q := &out[i]
		// It may be on other addresses, by a setting that was another.
		if elsewhere := len(had[containerPort{q.Proto, q.Port}]) > 0; elsewhere && !kept[i] {
			continue
		}
		for j, h := range q.Hosts {
			lacks := !kept[i] || !there[hostPort{q.Proto, netip.AddrPortFrom(h, q.HostPort)}]
			if proxied := h.Is4() != q.Backends[j].Is4() || h.IsLoopback(); proxied && lacks {
				q.lacks.Hosts, q.lacks.Backends = append(q.lacks.Hosts, h), append(q.lacks.Backends, q.Backends[j])
			}
		}
	}
	return out
}

// inOrder are the bindings in the order of the requests, as they are when they are
// decided together; others come last.
func inOrder(bindings []spec.PortBinding, requests []asked) []spec.PortBinding {
	rank := make(map[hostPort]int)
	for _, q := range requests {
		for _, h := range q.Hosts {
			rank[hostPort{q.Proto, netip.AddrPortFrom(h, q.HostPort)}] = len(rank) + 1
		}
	}
	slices.SortStableFunc(bindings, func(x, y spec.PortBinding) int {
		return cmp.Compare(cmp.Or(rank[hostPort{x.Proto, x.Host}], len(rank)+1), cmp.Or(rank[hostPort{y.Proto, y.Host}], len(rank)+1))
	})
	return bindings
}

// String is for people: [::]:8080->80/tcp, and why.
func (w Withdrawn) String() string { return fmt.Sprintf("%s (%s)", w.PortBinding, w.Why) }
