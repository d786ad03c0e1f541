package network

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/link"
)

// HostLinks are the host's interfaces as the kernel has them.
type HostLinks struct {
	// All are in the kernel's order.
	All []link.Link
	// Default is the name of the one that the default route leads by, "" for none: the
	// IPv4 one where there is one.
	Default string
}

// Find is the interface of that name.
func (h HostLinks) Find(name string) (link.Link, bool) {
	i := slices.IndexFunc(h.All, func(l link.Link) bool { return l.Name == name })
	if i < 0 {
		return link.Link{}, false
	}
	return h.All[i], true
}

// Uplinks are those by which the host reaches others than containers: they have an
// address, and are no bridge of a network of ours, nor of another daemon's.
func (h HostLinks) Uplinks(ours func(bridge string) bool) []link.Link {
	var out []link.Link
	for _, l := range h.All {
		addressed := slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return !p.Addr().IsLinkLocalUnicast() && !p.Addr().IsLoopback() })
		if addressed && !ours(l.Name) && !strings.HasPrefix(l.Alias, "fairlead:") || l.Name == h.Default {
			out = append(out, l)
		}
	}
	return out
}

// HostLinks reads the host's interfaces.
func (c *Controller) HostLinks() (HostLinks, error) {
	all, err := c.links.Links()
	if err != nil {
		return HostLinks{}, err
	}
	out := HostLinks{All: all}
	switch l, err := c.links.DefaultInterface(); {
	case err == nil:
		out.Default = l.Name
	case !errdefs.IsNotFound(err):
		return out, err
	}
	return out, nil
}
