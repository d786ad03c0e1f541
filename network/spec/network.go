// Package spec holds the plain values of the network engine: networks,
// endpoints, sandboxes and port bindings. They are what a caller asks for, what
// is stored, and what the plan is made from.
//
// Nothing here does I/O, and nothing here knows the kernel, HTTP or containerd.
package spec

import (
	"net/netip"
	"time"
)

// DefaultNetwork is the name of the network a container joins when it names
// none. It cannot be removed.
const DefaultNetwork = "bridge"

// DriverBridge is the driver of networks that are a Linux bridge.
const DriverBridge = "bridge"

// OptAntiSpoofing is the driver option of networks, and of endpoints, that says whether
// what a container sends is held to its own addresses: true or false.
const OptAntiSpoofing = "com.fairlead.network.anti_spoofing"

// OptLimitFlows is the driver option of networks that says whether a container may fill
// no more than its share of the host's table of connections.
const OptLimitFlows = "com.fairlead.network.limit_connections"

// Network is a layer-2 segment as it is wanted: a Linux bridge with its subnets
// and policy.
type Network struct {
	// ID is 64 lower-case hex digits, random, for life.
	ID string `json:"id"`
	// Name is unique in one daemon; see ValidName.
	Name    string    `json:"name"`
	Driver  string    `json:"driver"`
	Created time.Time `json:"created"`
	// Bridge is the name of the bridge device, at most 15 bytes.
	Bridge string `json:"bridge"`
	// Foreign says that the bridge was there before us (daemon flag -b): it is
	// never created, readdressed or deleted.
	Foreign bool `json:"foreign,omitempty"`
	// Default marks the default network.
	Default bool `json:"default,omitempty"`
	// Internal networks have no way out: no masquerade, no forwarding, no
	// published ports.
	Internal bool `json:"internal,omitempty"`
	// Attachable is what was asked for, and is shown; it says something of networks
	// of a swarm alone.
	Attachable bool `json:"attachable,omitempty"`
	// IPv4 and IPv6 say which families endpoints get addresses of.
	IPv4 bool `json:"ipv4"`
	IPv6 bool `json:"ipv6"`
	// Masquerade gives packets that leave for elsewhere the host's address.
	Masquerade bool `json:"masquerade"`
	// ICC lets endpoints of this network reach each other.
	ICC bool `json:"icc"`
	// UnlimitedFlows lets a container have any number of the connections that the host
	// tracks.
	UnlimitedFlows bool `json:"unlimited_flows,omitempty"`
	// Spoofing lets endpoints of this network send under addresses that are not
	// theirs, and speak as a router or a DHCP server does.
	Spoofing bool `json:"spoofing,omitempty"`
	// MTU of the bridge and its ports; 0 leaves the kernel's default.
	MTU int `json:"mtu,omitempty"`
	// HostBinding is the host address for ports published without one; the
	// zero Addr means every address of the host.
	HostBinding netip.Addr `json:"host_binding,omitzero"`
	// Gateway4 and Gateway6 say how the family gets in and out; "" is GatewayNAT.
	Gateway4 GatewayMode `json:"gateway4,omitempty"`
	Gateway6 GatewayMode `json:"gateway6,omitempty"`
	// InhibitIPv4 leaves the bridge without an IPv4 address: the gateway is
	// somebody else's, or nobody's.
	InhibitIPv4 bool `json:"inhibit_ipv4,omitempty"`
	// Trusted are interfaces of the host from which endpoints may be reached
	// directly, whatever is published.
	Trusted []string `json:"trusted,omitempty"`
	// InterfacePrefix begins the names of interfaces in sandboxes; "" is eth.
	InterfacePrefix string `json:"interface_prefix,omitempty"`
	// Outbound4 and Outbound6 are the host addresses that packets leave under;
	// the zero Addr is the address of the interface they leave by.
	Outbound4 netip.Addr `json:"outbound4,omitzero"`
	Outbound6 netip.Addr `json:"outbound6,omitzero"`
	// Subnets are in order of preference, any number of each family: an endpoint
	// gets its address from the first of each that has one free.
	Subnets []Subnet          `json:"subnets"`
	Labels  map[string]string `json:"labels,omitempty"`
	// Options are the driver options as the user gave them, kept to be shown.
	Options map[string]string `json:"options,omitempty"`
}

// GatewayMode says how one family of a network is joined to the rest of the world,
// by Docker's words (com.docker.network.bridge.gateway_mode_ipv4 and _ipv6).
type GatewayMode string

// The gateway modes.
const (
	// GatewayNAT masquerades what leaves and lets in what is published.
	GatewayNAT GatewayMode = "nat"
	// GatewayNATUnprotected is GatewayNAT whose containers may be reached
	// directly on every port, by who has a route to them.
	GatewayNATUnprotected GatewayMode = "nat-unprotected"
	// GatewayRouted translates nothing: published ports are those that may be
	// reached directly.
	GatewayRouted GatewayMode = "routed"
	// GatewayIsolated gives the bridge no address of the family. It is for
	// internal networks.
	GatewayIsolated GatewayMode = "isolated"
)

// Gateway is the mode of the family, GatewayNAT where none was set.
func (n Network) Gateway(v4 bool) GatewayMode {
	mode := n.Gateway6
	if v4 {
		mode = n.Gateway4
	}
	if mode == "" {
		return GatewayNAT
	}
	return mode
}

// Subnet is one address pool of a network.
type Subnet struct {
	// Prefix is masked: its address is the network address.
	Prefix netip.Prefix `json:"prefix"`
	// Range, when valid, is the part of Prefix that addresses are chosen from.
	Range netip.Prefix `json:"range,omitzero"`
	// Gateway is the endpoints' default route, and the bridge's address
	// unless BridgeAddr is another.
	Gateway netip.Addr `json:"gateway,omitzero"`
	// BridgeAddr is the bridge's address where the gateway is another machine
	// (daemon flag --default-gateway).
	BridgeAddr netip.Addr `json:"bridge_addr,omitzero"`
	// Aux are addresses never handed out, by the user's name for them.
	Aux map[string]netip.Addr `json:"aux,omitempty"`
}

// BridgePrefix is the address that stands on the bridge, with the length of the
// subnet; the zero Prefix when it has none.
func (s Subnet) BridgePrefix() netip.Prefix {
	a := s.Gateway
	if s.BridgeAddr.IsValid() {
		a = s.BridgeAddr
	}
	if !a.IsValid() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, s.Prefix.Bits())
}

// SubnetUsage says how full a subnet is.
type SubnetUsage struct {
	Prefix netip.Prefix `json:"prefix"`
	// InUse counts the addresses of the whole subnet that cannot be given: those of
	// endpoints, the gateway, auxiliary ones, and the network's and the broadcast
	// address.
	InUse uint64 `json:"in_use"`
	// Available counts those that the next endpoint may get, of the range where
	// there is one.
	Available uint64 `json:"available"`
}

// Subnet4 returns the network's first IPv4 subnet.
func (n Network) Subnet4() (Subnet, bool) { return n.subnet(true) }

// Subnet6 returns the network's first IPv6 subnet.
func (n Network) Subnet6() (Subnet, bool) { return n.subnet(false) }

func (n Network) subnet(v4 bool) (Subnet, bool) {
	for _, s := range n.Subnets {
		if s.Prefix.Addr().Is4() == v4 {
			return s, true
		}
	}
	return Subnet{}, false
}

// NetworkRequest asks for a network. Zero fields are chosen for the caller.
type NetworkRequest struct {
	Name     string
	Driver   string // "" is DriverBridge
	Internal bool
	// Attachable is kept to be shown, see Network.
	Attachable bool
	// IPv4 is nil for the default, on.
	IPv4    *bool
	IPv6    bool
	Subnets []Subnet
	Labels  map[string]string
	// Options are driver options by Docker's names, com.docker.network.…;
	// an unknown one is refused.
	Options map[string]string
}
