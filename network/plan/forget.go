package plan

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/network/spec"
)

// ForgetFlows drops what conntrack remembers and is true no more: a flow keeps the
// translation, or the want of one, that its first packet met.
type ForgetFlows struct {
	// Addrs are about to be given to somebody else.
	Addrs []netip.Addr
	// Ports have just been published, or lead elsewhere now: of UDP every flow to
	// them is forgotten, which would go on for ever, of others those that nobody
	// has answered.
	Ports []spec.PortBinding
	// Gone are published no more: what was translated so is forgotten.
	Gone []spec.PortBinding
}

// Commands implements Step.
func (s ForgetFlows) Commands() []string {
	out := make([]string, 0, 2*len(s.Addrs)+len(s.Ports)+len(s.Gone))
	for _, a := range s.Addrs {
		out = append(out, "conntrack -D --orig-src "+a.String(), "conntrack -D --reply-src "+a.String())
	}
	for _, b := range s.Ports {
		command := fmt.Sprintf("conntrack -D -f %s -p %s --orig-port-dst %d", family(b), b.Proto, b.Host.Port())
		host := b.Host.Addr()
		switch {
		case b.Proto != spec.UDP && host.IsUnspecified():
			command += " -u UNREPLIED"
		case b.Proto != spec.UDP:
			command += " -u UNREPLIED --orig-dst " + host.String()
		case host.IsUnspecified():
			command += " --orig-dst … # every address of the host"
		default:
			command += " --orig-dst " + host.String()
		}
		out = append(out, command)
	}
	for _, b := range s.Gone {
		out = append(out, fmt.Sprintf("conntrack -D -f %s -p %s --orig-port-dst %d --reply-src %s", family(b), b.Proto, b.Host.Port(), b.Container.Addr()))
	}
	return out
}

func family(b spec.PortBinding) string {
	if b.Host.Addr().Is4() {
		return "ipv4"
	}
	return "ipv6"
}

// Reason implements Step.
func (s ForgetFlows) Reason() string {
	if len(s.Addrs) == 0 && len(s.Gone) == 0 {
		return "who has been sending to the port is translated from now on"
	}
	return "no old flow finds the address's next owner"
}

func (s ForgetFlows) unlessEmpty() []Step {
	if len(s.Addrs) == 0 && len(s.Ports) == 0 && len(s.Gone) == 0 {
		return nil
	}
	return []Step{s}
}

// translated are the bindings that the rules translate: not those from one family
// to the other, and not loopback's.
func translated(bindings []spec.PortBinding) []spec.PortBinding {
	return slices.DeleteFunc(slices.Clone(bindings), func(b spec.PortBinding) bool {
		return !b.Translatable() || b.Host.Addr().IsLoopback()
	})
}

// further are those whose flows are not forgotten along with the addresses': of
// protocols with connections, that lead elsewhere.
func further(bindings []spec.PortBinding, addrs []netip.Addr) []spec.PortBinding {
	return slices.DeleteFunc(streams(bindings), func(b spec.PortBinding) bool {
		return slices.Contains(addrs, b.Container.Addr())
	})
}

// streams are those of protocols with connections.
func streams(bindings []spec.PortBinding) []spec.PortBinding {
	return slices.DeleteFunc(bindings, func(b spec.PortBinding) bool { return b.Proto == spec.UDP })
}

// outlived are the addresses whose flows are forgotten when they are given back: all
// where datagrams were published, whose senders never stop. Else, for what the sandbox
// itself had asked, those of IPv4: of IPv6 the kernel cannot tell, and to look at all
// that it tracks takes 9 ms and more.
func outlived(a spec.Attachment, addrs []netip.Addr) []netip.Addr {
	if udp(a.Ports) {
		return addrs
	}
	return slices.DeleteFunc(addrs, netip.Addr.Is6)
}

// udp says whether a UDP port is among the bindings.
func udp(bindings []spec.PortBinding) bool {
	return slices.ContainsFunc(bindings, func(b spec.PortBinding) bool { return b.Proto == spec.UDP })
}
