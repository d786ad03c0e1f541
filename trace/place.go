package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/trace/picture"
)

// node is a network stack: the host's, a container's, or none that can be seen.
type node struct {
	kind HopKind // HopHost, HopContainer or HopOutside
	name string
	ns   *picture.Namespace
	c    *picture.Container
	// addr is the address that was asked for, not valid where none was.
	addr netip.Addr
	// network is one that was named.
	network *spec.Network
}

func (n node) where() string {
	switch n.kind {
	case HopContainer:
		return "container " + n.name
	case HopHost:
		return "the host"
	}
	return "outside"
}

// host is the host's own stack.
func (t *tracer) host() node { return node{kind: HopHost, name: "host", ns: &t.p.Host} }

// Place finds what a word of a question means: false where nothing has that name.
func (t *tracer) place(word string) (node, error) {
	switch word {
	case "host":
		return t.host(), nil
	case "outside":
		return node{kind: HopOutside, name: "outside"}, nil
	}
	if c, err := t.container(word); c != nil || err != nil {
		return t.of(c), err
	}
	for i := range t.p.Networks {
		if n := &t.p.Networks[i]; n.Name == word || n.ID == word || len(word) >= 4 && strings.HasPrefix(n.ID, word) {
			return node{kind: HopHost, name: word, network: n, ns: &t.p.Host}, nil
		}
	}
	if a, err := netip.ParseAddr(word); err == nil {
		return t.at(a.Unmap()), nil
	}
	if r, ok := t.p.Resolutions[word]; ok {
		for _, a := range r.Addrs {
			if a.Is6() == t.q.IPv6 {
				n := t.at(a)
				n.name = word
				return n, nil
			}
		}
	}
	return node{}, fmt.Errorf("%s: no container, network, address or name that is known here: %w", word, errdefs.ErrNotFound)
}

// container finds one of ours by name, ID or the start of one, or by an alias.
func (t *tracer) container(word string) (*picture.Container, error) {
	var found []*picture.Container
	for i := range t.p.Containers {
		c := &t.p.Containers[i]
		if c.Name == word || c.ID == word {
			return c, nil
		}
		if len(word) >= 4 && strings.HasPrefix(c.ID, word) {
			found = append(found, c)
		}
	}
	for i := range t.p.Containers {
		if c := &t.p.Containers[i]; slices.Contains(c.Names, word) && !slices.Contains(found, c) {
			found = append(found, c)
		}
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("%s is the name of several containers (%s, %s): say which: %w", word, found[0].Name, found[1].Name, errdefs.ErrInvalidArgument)
}

func (t *tracer) of(c *picture.Container) node {
	if c == nil {
		return node{}
	}
	if c.Mode == "host" && c.Running {
		h := t.host()
		h.name, h.c = c.Name, c
		return h
	}
	return node{kind: HopContainer, name: c.Name, ns: c.Namespace, c: c}
}

// at is who has the address: by what is wanted, and by what there is.
func (t *tracer) at(a netip.Addr) node {
	for _, at := range t.p.Attachments {
		for _, e := range at.Endpoints {
			if e.Addr4.Addr() == a || e.Addr6.Addr() == a {
				if c, _ := t.container(at.Sandbox.ID); c != nil {
					n := t.of(c)
					n.addr = a
					return n
				}
			}
		}
	}
	if _, ok := t.p.Host.Owns(a); ok || a.IsLoopback() {
		h := t.host()
		h.addr = a
		return h
	}
	for i := range t.p.Networks {
		for _, s := range t.p.Networks[i].Subnets {
			if s.BridgePrefix().Addr() == a {
				h := t.host()
				h.addr = a
				return h
			}
		}
	}
	return node{kind: HopOutside, name: "outside", addr: a}
}

// attachment is what the container was given; false of none.
func (t *tracer) attachment(c *picture.Container) (spec.Attachment, bool) {
	if c == nil {
		return spec.Attachment{}, false
	}
	id := c.ID
	if of, ok := strings.CutPrefix(c.Mode, "container:"); ok {
		if other, _ := t.container(of); other != nil {
			id = other.ID
		}
	}
	for _, a := range t.p.Attachments {
		if a.Sandbox.ID == id {
			return a, true
		}
	}
	return spec.Attachment{}, false
}

func (t *tracer) network(id string) *spec.Network {
	for i := range t.p.Networks {
		if t.p.Networks[i].ID == id {
			return &t.p.Networks[i]
		}
	}
	return nil
}

// byBridge is the network of the bridge device.
func (t *tracer) byBridge(name string) *spec.Network {
	for i := range t.p.Networks {
		if t.p.Networks[i].Bridge == name {
			return &t.p.Networks[i]
		}
	}
	return nil
}

// ofSubnet is the network whose subnet has the address.
func (t *tracer) ofSubnet(a netip.Addr) *spec.Network {
	for i := range t.p.Networks {
		for _, s := range t.p.Networks[i].Subnets {
			if s.Prefix.Contains(a) {
				return &t.p.Networks[i]
			}
		}
	}
	return nil
}

// address is the endpoint's of the family.
func address(e spec.Endpoint, v6 bool) netip.Addr {
	if v6 {
		return e.Addr6.Addr()
	}
	return e.Addr4.Addr()
}

// uplink is the interface that leads out, with its address of the family: that of the
// default route, or the first that is no bridge of ours and no veth of one.
func (t *tracer) uplink() (picture.Link, netip.Addr, bool) {
	far := netip.MustParseAddr("192.88.99.1")
	if t.q.IPv6 {
		far = netip.MustParseAddr("2001:db8:ffff::1")
	}
	w := lookup(&t.p.Host, wayQuery{to: far})
	if w.found && w.route.Kind == picture.Unicast && w.route.Dst.Bits() == 0 {
		return w.link, sourceFor(&t.p.Host, w, far), true
	}
	for _, l := range t.p.Host.Links {
		if l.Name == "lo" || l.Master != 0 || t.byBridge(l.Name) != nil {
			continue
		}
		for _, p := range l.Addrs {
			if p.Addr().Is6() == t.q.IPv6 && !p.Addr().IsLinkLocalUnicast() {
				return l, p.Addr(), true
			}
		}
	}
	return picture.Link{}, netip.Addr{}, false
}

// stranger is the address of a machine outside: the next router, or a neighbour on the
// uplink's subnet.
func (t *tracer) stranger() netip.Addr {
	l, own, ok := t.uplink()
	if !ok {
		return netip.Addr{}
	}
	for _, r := range t.p.Host.Routes {
		if r.Link == l.Index && r.Dst.Bits() == 0 && r.Via.IsValid() && r.Via.Is6() == t.q.IPv6 {
			return r.Via
		}
	}
	for _, p := range l.Addrs {
		if p.Addr() != own {
			continue
		}
		for _, nb := range t.p.Host.Neighbours {
			if nb.Link == l.Index && p.Contains(nb.Addr) && !nb.Failed && !nb.Addr.IsLinkLocalUnicast() {
				return nb.Addr
			}
		}
		for a := p.Masked().Addr().Next(); p.Contains(a); a = a.Next() {
			if _, taken := t.p.Host.Owns(a); !taken {
				return a
			}
		}
	}
	return netip.Addr{}
}
