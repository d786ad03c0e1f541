// Package dns answers the queries of containers, which find it at 127.0.0.11: the
// names of their neighbours from what it is told, everything else from other
// servers, with a cache between.
//
// It knows packets, names and servers. It opens no socket of a container's and
// knows no process: the relay reads the queries, and gives it the means to ask
// others (Dialer).
package dns

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// Address is where every container with a resolver finds it.
var Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 11}), 53)

// Domain is one of ours (.internal is kept for private use: ICANN's SAC113). The names
// of an asker's neighbours are under it too, and nothing under it is asked of others. A
// search list that begins with it finds them before what a domain of somebody else has
// of the same name.
const Domain = "fairlead.internal"

// Reserved says that no container may choose the name: it is one of the asker's own
// host (RFC 6761, 6.3), or under Domain.
func Reserved(name string) bool {
	name = "." + canonical(name)
	return strings.HasSuffix(name, "."+localhost) || strings.HasSuffix(name, "."+Domain)
}

// CheckAlias refuses, with errdefs.ErrInvalidArgument, what no container may be called.
func CheckAlias(name string) error {
	if !Reserved(name) {
		return nil
	}
	return fmt.Errorf("alias %q is reserved, choose another: %s is every container itself, and %s is the resolver's: %w", name, localhost, Domain, errdefs.ErrInvalidArgument)
}

// MaxServers is how many servers are asked at most, as resolv.conf(5) has it.
const MaxServers = 3

// Sandbox is one container as the resolver must know it.
type Sandbox struct {
	ID string `json:"id"`
	// Namespace is the path of its network namespace.
	Namespace string `json:"namespace"`
	// Endpoints are its own, on networks whose names it may ask for.
	Endpoints []Endpoint `json:"endpoints,omitempty"`
	// Servers are asked from inside the namespace; with none, those of the host
	// are asked, from the host.
	Servers []netip.Addr `json:"servers,omitempty"`
	// Ndots is what the user set, else nil. Where it is over 0, a name without a
	// dot is nobody else's affair.
	Ndots *int `json:"ndots,omitempty"`
	// Outward says that one of its networks leads out. Without, the host's
	// servers are not asked for it.
	Outward bool `json:"outward,omitempty"`
}

// Endpoint is a sandbox's place on one network.
type Endpoint struct {
	// NetworkID tells networks apart, Network is what people call it.
	NetworkID string `json:"network_id"`
	Network   string `json:"network"`
	// Names are what the network's other sandboxes may ask for; the first is
	// the container's own, which its addresses lead back to.
	Names []string     `json:"names,omitempty"`
	Addrs []netip.Addr `json:"addrs,omitempty"`
	// Links are other sandboxes of the network as this one calls them.
	Links []Link `json:"links,omitempty"`
	// Priority orders the endpoints of a sandbox: names of the highest are
	// looked for first, of equals the first by network name.
	Priority int `json:"priority,omitempty"`
}

// Link is another sandbox as one calls it.
type Link struct {
	Alias   string `json:"alias"`
	Sandbox string `json:"sandbox"`
}

// ordered returns the endpoints in the order they are looked through.
func ordered(endpoints []Endpoint) []Endpoint {
	out := slices.Clone(endpoints)
	slices.SortStableFunc(out, func(a, b Endpoint) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Network, b.Network))
	})
	return out
}
