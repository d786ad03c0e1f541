package link

import "net/netip"

// Lead is a route by where it leads: to which addresses, and by which link.
type Lead struct {
	Destination netip.Prefix
	// Index is the link's, 0 of a route that leads nowhere (unreachable, blackhole).
	Index int
}

// Leads returns the namespace's routes with their links: both families, every table but
// local, without default routes.
func (h *Handle) Leads() ([]Lead, error) {
	all, err := h.routes()
	if err != nil {
		return nil, err
	}
	var out []Lead
	for _, r := range all {
		if r.dst.Bits() > 0 {
			out = append(out, Lead{r.dst.Masked(), r.index})
		}
	}
	return out, nil
}
