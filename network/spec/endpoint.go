package spec

import (
	"fmt"
	"net/netip"
	"strconv"
)

// Sandbox names a network namespace of ours: one container's network.
type Sandbox struct {
	// ID is the container's ID.
	ID string `json:"id"`
	// Path is where the namespace is pinned, EXEC_ROOT/netns/ID.
	Path string `json:"path"`
	// Name is what messages call it: the container's name.
	Name string `json:"name"`
}

// AttachRequest asks for a sandbox and its endpoints, all or none of them.
type AttachRequest struct {
	// ID is the container's ID: 64 hex digits; it names the sandbox.
	ID string
	// Name is the container's name, for messages.
	Name string
	// Endpoints in order; the first is eth0. None leaves only lo.
	Endpoints []EndpointRequest
	// Ports to publish, on the endpoint that has the default route.
	Ports []PortRequest
	// Sysctls are set in the namespace, keys as net.ipv4.ip_forward.
	Sysctls map[string]string
	// DNS is what the sandbox's resolver is told.
	DNS DNS
}

// DNS is what a sandbox's resolver (127.0.0.11) is told besides names, which it has
// from endpoints. There is one in every sandbox with an endpoint on a network that
// is not the default one.
type DNS struct {
	// Servers were named by the user and are asked from inside the sandbox; with
	// none, the host's are asked, from the host.
	Servers []netip.Addr `json:"servers,omitempty"`
	// Ndots is what the user set, else nil: names with fewer dots are then not
	// forwarded.
	Ndots *int `json:"ndots,omitempty"`
}

// Link is a container's wish to reach another by a name of its own, and, where
// the network keeps its containers apart, at certain ports.
type Link struct {
	// Sandbox is the other's container ID. It need not be attached now.
	Sandbox string `json:"sandbox"`
	// Alias is what it is called.
	Alias string `json:"alias"`
	// Ports are those it exposes.
	Ports []ContainerPort `json:"ports,omitempty"`
}

// ContainerPort is one port of a container, published or not.
type ContainerPort struct {
	Proto Proto  `json:"proto"`
	Port  uint16 `json:"port"`
}

// EndpointRequest asks for one endpoint.
type EndpointRequest struct {
	// Network is a network's name, ID or unique ID prefix.
	Network string
	// Addr4 and Addr6 ask for an address; the zero Addr takes the next free.
	Addr4, Addr6 netip.Addr
	// MAC asks for a hardware address, six bytes; nil derives it.
	MAC HardwareAddr
	// Aliases are further names of the endpoint on its network, by the user.
	Aliases []string
	// Names are all names of the endpoint on its network that its neighbours may
	// ask for: the container's, its aliases, its short ID, its hostname.
	Names []string
	// Links are other endpoints of the network as this one calls them.
	Links []Link
	// LinkLocal are further addresses, of 169.254.0.0/16 or fe80::/10.
	LinkLocal []netip.Addr
	// GwPriority chooses the endpoint that has the default route: the highest,
	// and of equals the first by network name.
	GwPriority int
	// Interface is the name in the sandbox; "" takes the next free.
	Interface string
	// Sysctls of the interface, keys as net.ipv4.conf.IFNAME.arp_announce with
	// IFNAME as it stands.
	Sysctls map[string]string
	// Spoofing is Network.Spoofing for this endpoint; nil leaves it to the network.
	Spoofing *bool
}

// Endpoint is one sandbox's attachment to one network.
type Endpoint struct {
	// ID is 64 lower-case hex digits, random.
	ID        string `json:"id"`
	NetworkID string `json:"network_id"`
	// Network is the network's name.
	Network string `json:"network"`
	// Bridge is the device that HostIf is a port of.
	Bridge string `json:"bridge"`
	// HostIf is the veth's name on the host, Interface in the sandbox.
	HostIf    string       `json:"host_if"`
	Interface string       `json:"interface"`
	MAC       HardwareAddr `json:"mac"`
	MTU       int          `json:"mtu,omitempty"`
	// Addr4 and Addr6 carry the subnet's length; zero where there is none.
	Addr4 netip.Prefix `json:"addr4,omitzero"`
	Addr6 netip.Prefix `json:"addr6,omitzero"`
	// Gateway4 and Gateway6 are the default routes this endpoint gives; zero
	// where another endpoint, or none, does.
	Gateway4 netip.Addr `json:"gateway4,omitzero"`
	Gateway6 netip.Addr `json:"gateway6,omitzero"`
	Aliases  []string   `json:"aliases,omitempty"`
	// The rest is as in EndpointRequest.
	Names      []string          `json:"names,omitempty"`
	Links      []Link            `json:"links,omitempty"`
	LinkLocal  []netip.Addr      `json:"link_local,omitempty"`
	GwPriority int               `json:"gw_priority,omitempty"`
	Sysctls    map[string]string `json:"sysctls,omitempty"`
	// Spoofing is Network.Spoofing, for this endpoint.
	Spoofing bool `json:"spoofing,omitempty"`
	// Fixed has the bridge told where the MAC is, instead of learning it.
	Fixed bool `json:"fixed,omitempty"`
	// Moved are addresses that neighbours may remember at another MAC.
	Moved []netip.Addr `json:"-"`
}

// Addrs returns the endpoint's addresses, IPv4 first.
func (e Endpoint) Addrs() []netip.Prefix {
	var out []netip.Prefix
	for _, p := range []netip.Prefix{e.Addr4, e.Addr6} {
		if p.IsValid() {
			out = append(out, p)
		}
	}
	return out
}

// Attachment is a sandbox with everything it was given: the lease that lives as
// long as the kernel's state does.
type Attachment struct {
	Sandbox   Sandbox           `json:"sandbox"`
	Endpoints []Endpoint        `json:"endpoints"`
	Ports     []PortBinding     `json:"ports,omitempty"`
	Sysctls   map[string]string `json:"sysctls,omitempty"`
	DNS       DNS               `json:"dns,omitzero"`
	// Requests are what Ports were made from: they are decided anew when a network
	// is connected or disconnected.
	Requests []PortRequest `json:"requests,omitempty"`
	// Lost are the IDs of networks that it was on until their bridge was deleted and
	// their subnets became others. Connect brings it back to one, by another address.
	Lost []string `json:"lost,omitempty"`
}

// Endpoint returns the attachment's endpoint on the network.
func (a Attachment) Endpoint(networkID string) (Endpoint, bool) {
	for _, e := range a.Endpoints {
		if e.NetworkID == networkID {
			return e, true
		}
	}
	return Endpoint{}, false
}

// HardwareAddr is a MAC address; it prints and marshals as 02:42:ac:11:00:02.
type HardwareAddr []byte

func (m HardwareAddr) String() string {
	if len(m) != 6 {
		return ""
	}
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// MarshalText writes the colon form.
func (m HardwareAddr) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads the colon form; empty text is no address.
func (m *HardwareAddr) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*m = nil
		return nil
	}
	h, err := ParseMAC(string(b))
	if err != nil {
		return err
	}
	*m = h
	return nil
}

// ParseMAC reads six bytes in hex with colons between.
func ParseMAC(s string) (HardwareAddr, error) {
	if len(s) != 17 {
		return nil, fmt.Errorf("invalid MAC address %q: want six bytes as 02:42:ac:11:00:02", s)
	}
	m := make(HardwareAddr, 6)
	for i := range m {
		b, err := strconv.ParseUint(s[i*3:i*3+2], 16, 8)
		if err != nil || (i < 5 && s[i*3+2] != ':') {
			return nil, fmt.Errorf("invalid MAC address %q: want six bytes as 02:42:ac:11:00:02", s)
		}
		m[i] = byte(b)
	}
	return m, nil
}
