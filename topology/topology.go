// Package topology is a picture of a host's networks: what is connected with what, by
// which interfaces, and under which addresses. It draws the picture as text, for
// Graphviz, for Mermaid, and as SVG.
//
// It is pure, and knows nothing of the kernel or of where the picture comes from.
package topology

import (
	"slices"
	"strings"
)

// Host is the whole picture.
type Host struct {
	// Name is the host's name.
	Name string `json:"name"`
	// Uplinks are the interfaces by which the host reaches others than its containers.
	Uplinks []Uplink `json:"uplinks"`
	// Networks, the default one first.
	Networks []Network `json:"networks"`
	// OnHost are running containers that use the host's own network.
	OnHost []string `json:"on_host"`
	// Apart are running containers that are on no network.
	Apart []string `json:"apart"`
}

// Uplink is an interface of the host that is none of ours.
type Uplink struct {
	Name string `json:"name"`
	// Kind is bridge, vlan, wireguard, …; "" for hardware.
	Kind      string   `json:"kind,omitempty"`
	Addresses []string `json:"addresses"`
	MTU       int      `json:"mtu"`
	// Up says that it passes packets.
	Up bool `json:"up"`
	// Default says that the IPv4 default route leads by it.
	Default bool `json:"default"`
}

// Network is a bridge with what is attached to it.
type Network struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Bridge is the device. Foreign says that it is the host's own.
	Bridge  string `json:"bridge"`
	Foreign bool   `json:"foreign"`
	// Up says that the bridge is there and up.
	Up       bool     `json:"up"`
	Internal bool     `json:"internal"`
	ICC      bool     `json:"icc"`
	MTU      int      `json:"mtu"`
	Subnets  []Subnet `json:"subnets"`
	// Endpoints by the containers' names.
	Endpoints []Endpoint `json:"endpoints"`
}

// Subnet is a pool of addresses with the way out of it.
type Subnet struct {
	Prefix  string `json:"prefix"`
	Gateway string `json:"gateway,omitempty"`
	// Mode is nat, nat-unprotected, routed or isolated.
	Mode string `json:"mode"`
}

// Endpoint is one container on one network: a pair of interfaces.
type Endpoint struct {
	// Container is its name, ID its ID.
	Container string `json:"container"`
	ID        string `json:"id"`
	// SharedBy are other containers in the same namespace.
	SharedBy []string `json:"shared_by,omitempty"`
	// Interface is the end in the container, HostInterface that on the bridge.
	Interface     string `json:"interface"`
	HostInterface string `json:"host_interface"`
	// Up says that the host's end is there, and both ends are up.
	Up        bool     `json:"up"`
	MAC       string   `json:"mac"`
	Addresses []string `json:"addresses"`
	// Default says that a default route of the container leads by it.
	Default bool `json:"default"`
	// Ports are published, as 0.0.0.0:8080->80/tcp.
	Ports []string `json:"ports"`
}

// Container is a container with all its endpoints: what is drawn as one thing.
type Container struct {
	Name, ID string
	SharedBy []string
	Ends     []End
}

// End is an endpoint with the index of its network.
type End struct {
	Network int
	Endpoint
}

// Containers are those attached to any network, in the order they come.
func (h Host) Containers() []Container {
	var out []Container
	for i, n := range h.Networks {
		for _, e := range n.Endpoints {
			at := slices.IndexFunc(out, func(c Container) bool { return c.ID == e.ID })
			if at < 0 {
				at = len(out)
				out = append(out, Container{Name: e.Container, ID: e.ID, SharedBy: e.SharedBy})
			}
			out[at].Ends = append(out[at].Ends, End{Network: i, Endpoint: e})
		}
	}
	return out
}

// Only is the picture with one network, found by name, ID or the start of an ID.
func (h Host) Only(ref string) (Host, bool) {
	is := func(test func(n Network) bool) bool {
		i := slices.IndexFunc(h.Networks, test)
		if i >= 0 {
			h.Networks = h.Networks[i : i+1 : i+1]
		}
		return i >= 0
	}
	found := is(func(n Network) bool { return n.Name == ref }) || is(func(n Network) bool { return strings.HasPrefix(n.ID, ref) })
	h.OnHost, h.Apart = nil, nil
	return h, found && ref != ""
}

// title is what the network is in one line.
func (n Network) title() string {
	words := []string{"network " + n.Name}
	if n.Internal {
		words = append(words, "internal")
	}
	if !n.ICC {
		words = append(words, "containers kept apart")
	}
	return strings.Join(words, ", ")
}

// device is the network's bridge in one line.
func (n Network) device() string {
	out := "bridge " + n.Bridge
	if n.Foreign {
		out += " (the host's own)"
	}
	if !n.Up {
		out += ", DOWN"
	}
	return out
}

// text is the subnet in one line.
func (s Subnet) text() string {
	var words []string
	if s.Gateway != "" {
		words = append(words, "gateway "+s.Gateway)
	}
	if s.Mode != "nat" {
		words = append(words, s.Mode)
	}
	if len(words) == 0 {
		return s.Prefix
	}
	return s.Prefix + " (" + strings.Join(words, ", ") + ")"
}

// text is the uplink in one line.
func (u Uplink) text() string {
	out := "uplink " + u.Name
	if u.Kind != "" {
		out += " (" + u.Kind + ")"
	}
	if len(u.Addresses) > 0 {
		out += " " + strings.Join(u.Addresses, " ")
	}
	if u.Default {
		out += ", default route"
	}
	if !u.Up {
		out += ", DOWN"
	}
	return out
}

// who is the container's name, with those of others in its namespace.
func who(name string, sharedBy []string) string {
	if len(sharedBy) == 0 {
		return name
	}
	return name + " (shared by " + strings.Join(sharedBy, ", ") + ")"
}
