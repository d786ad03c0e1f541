package plan

import (
	"fmt"
	"net/netip"

	"github.com/fairlead/fairlead/network/spec"
)

// DefaultRoute leads out of a sandbox by one of its interfaces.
type DefaultRoute struct {
	Interface string
	Gateway   netip.Addr
}

// DefaultRoutes are the sandbox's from now on, at most one a family, in the place of
// Former. A family without one keeps what it has.
type DefaultRoutes struct {
	Namespace      string
	Routes, Former []DefaultRoute
}

// Republish makes Bindings what the relay holds for the sandbox, in the place of
// Former: ports that stay keep their sockets and lead to the new address.
type Republish struct {
	Owner            string
	Bindings, Former []spec.PortBinding
}

// DropLink takes one endpoint's veth pair away from a sandbox that stays. The kernel
// needs some 25 ms for it.
type DropLink struct{ Name, Alias string }

// Announce tells the bridge's neighbours that the addresses are at the MAC now: they
// were at another's.
type Announce struct {
	Bridge string
	MAC    spec.HardwareAddr
	Addrs  []netip.Addr
}

// Commands implements Step.
func (s Announce) Commands() []string {
	var out []string
	for _, a := range s.Addrs {
		out = append(out, "ip neigh del "+a.String()+" dev "+s.Bridge+" || true", fmt.Sprintf("# on %s it is said that %s is at %s", s.Bridge, a, s.MAC))
	}
	return out
}

// Reason implements Step.
func (Announce) Reason() string { return "who remembers the address's former owner finds the new one" }

// announce is the step for each endpoint that needs it.
func announce(endpoints ...spec.Endpoint) []Step {
	var steps []Step
	for _, e := range endpoints {
		if len(e.Moved) > 0 {
			steps = append(steps, Announce{Bridge: e.Bridge, MAC: e.MAC, Addrs: e.Moved})
		}
	}
	return steps
}

// Commands implements Step.
func (s DefaultRoutes) Commands() []string {
	out := make([]string, 0, len(s.Routes))
	for _, r := range s.Routes {
		out = append(out, inside(s.Namespace, "ip route replace default via "+r.Gateway.String()+" dev "+r.Interface))
	}
	return out
}

// Reason implements Step.
func (DefaultRoutes) Reason() string { return "the container's way out is by another network now" }

// Commands implements Step.
func (s Republish) Commands() []string {
	var out []string
	former, bindings := hostPorts(s.Former), hostPorts(s.Bindings)
	for _, b := range s.Bindings {
		verb := "holds"
		if former.has(b) {
			verb = "still holds"
		}
		out = append(out, fmt.Sprintf("# the relay %s %s %s for %s", verb, b.Proto, b.Host, b.Container))
	}
	for _, b := range s.Former {
		if !bindings.has(b) {
			out = append(out, fmt.Sprintf("# the relay lets go of %s %s", b.Proto, b.Host))
		}
	}
	return out
}

// Reason implements Step.
func (Republish) Reason() string { return "published ports lead to the address that has the way out" }

// Commands implements Step.
func (s DropLink) Commands() []string { return []string{"ip link del " + s.Name} }

// Reason implements Step.
func (DropLink) Reason() string { return "the cable goes, the container stays" }
