// Package exposure says who can reach what of the containers, by which address, and which
// rule lets them or keeps them out.
//
// It is pure: it reasons from the wanted state and from what was read of the kernel.
// Other programs' rules are none of its business: what they drop besides is not known
// here.
package exposure

import (
	"net/netip"

	"github.com/fairlead/fairlead/network/spec"
)

// Report is everything that can be reached, or that one might think could.
type Report struct {
	// Backend is nftables, iptables or none.
	Backend string `json:"backend"`
	Ports   []Port `json:"ports"`
}

// Kind says why a port is in the report.
type Kind string

// The kinds of ports.
const (
	// Published ports were asked for.
	Published Kind = "published"
	// Listening ports are not published: a program in a container listens there.
	Listening Kind = "listening"
	// OnHost ports are those of containers on the host's own network.
	OnHost Kind = "host"
)

// Port is one port of a container with all ways to it.
type Port struct {
	Kind      Kind       `json:"kind"`
	Container string     `json:"container"`
	ID        string     `json:"id"`
	Proto     spec.Proto `json:"proto"`
	// Host is where the host has it, Target where the container has.
	Host   netip.AddrPort `json:"host,omitzero"`
	Target netip.AddrPort `json:"target"`
	Ways   []Way          `json:"ways"`
}

// Origin says where packets come from.
type Origin string

// The origins.
const (
	// Outside is every other machine; what is to be reached by a container's own address
	// needs a route to it there.
	Outside Origin = "outside"
	// Host is the programs of the host itself.
	Host Origin = "host"
	// Network is the containers of a network.
	Network Origin = "network"
	// Interface is who comes in by an interface of the host that the network trusts.
	Interface Origin = "interface"
)

// Way is one way to a port: who, by which addresses, whether, and by what.
type Way struct {
	From Origin `json:"from"`
	// Name is the network's or the interface's.
	Name string `json:"name,omitempty"`
	// By are the addresses and ports that are tried.
	By        []netip.AddrPort `json:"by"`
	Reachable bool             `json:"reachable"`
	// Rule is what lets them through or keeps them out.
	Rule string `json:"rule"`
}

// Socket is one that listens, or is bound where nothing listens (UDP).
type Socket struct {
	Proto spec.Proto
	Local netip.AddrPort
	// IPv6Only says of one on [::] that it takes no IPv4.
	IPv6Only bool
}

// OnHostSocket is a socket of a container on the host's network.
type OnHostSocket struct {
	Container, ID string
	Socket
}

// Picture is what is reasoned from.
type Picture struct {
	// Backend is nftables, iptables or none; IPv6Rules says that it sees to IPv6.
	Backend   string
	IPv6Rules bool
	// Proxy says that the userland proxy serves; Hooks that loopback is turned to
	// containers without it.
	Proxy, Hooks bool
	// Direct is --allow-direct-routing.
	Direct bool
	// Addresses are those of the host on its uplinks.
	Addresses   []netip.Addr
	Networks    []spec.Network
	Attachments []spec.Attachment
	// Sockets are those in sandboxes, by their IDs, but for our resolver's.
	Sockets map[string][]Socket
	OnHost  []OnHostSocket
	// Rule names the rule of the chain that has the comment, "" where the kernel has
	// none.
	Rule func(chain, comment string) string
	// Translation names what translates the binding, "" where the kernel has nothing.
	Translation func(sandbox string, b spec.PortBinding) string
}
