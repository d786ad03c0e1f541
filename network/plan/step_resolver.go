package plan

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"

	"github.com/fairlead/fairlead/dns"
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
)

// Resolver makes Sandbox what the relay answers the sandbox by, at 127.0.0.11, in
// the place of Former. Without Former the resolver comes, without Sandbox it goes.
// Its port is one by chance, to which a table in the sandbox leads: port 53 stays
// the container's.
type Resolver struct {
	Owner, Namespace string
	Sandbox, Former  *dns.Sandbox
}

// Resolved is the sandbox as its resolver must know it; nil for one that has none:
// on no network, or on the default one alone.
func Resolved(m firewall.Member) *dns.Sandbox {
	out := &dns.Sandbox{
		ID: m.Sandbox.ID, Namespace: m.Sandbox.Path, Ndots: m.DNS.Ndots,
		// None is nil, as it is when it has been told and read back.
		Servers: append([]netip.Addr(nil), m.DNS.Servers...),
	}
	for _, e := range m.Endpoints {
		n := m.Networks[e.NetworkID]
		out.Outward = out.Outward || !n.Internal
		if n.Default || e.Network == spec.DefaultNetwork {
			continue // which has no names
		}
		out.Endpoints = append(out.Endpoints, resolvedEndpoint(m.Attachment, e))
	}
	if len(out.Endpoints) == 0 {
		return nil
	}
	return out
}

func resolvedEndpoint(a spec.Attachment, e spec.Endpoint) dns.Endpoint {
	out := dns.Endpoint{NetworkID: e.NetworkID, Network: e.Network, Names: e.Names, Priority: e.GwPriority}
	if len(out.Names) == 0 {
		out.Names = append(out.Names, a.Sandbox.Name)
		out.Names = append(append(out.Names, e.Aliases...), fmt.Sprintf("%.12s", a.Sandbox.ID))
	}
	for _, p := range e.Addrs() {
		out.Addrs = append(out.Addrs, p.Addr())
	}
	for _, l := range e.Links {
		out.Links = append(out.Links, dns.Link{Alias: l.Alias, Sandbox: l.Sandbox})
	}
	return out
}

// resolver is the step from what the sandbox was to what it is; none where its
// resolver is to know nothing new.
func (c Config) resolver(before, after firewall.Member) []Step {
	was, is := Resolved(before), Resolved(after)
	if reflect.DeepEqual(was, is) {
		return nil
	}
	a := after.Attachment
	if a.Sandbox.ID == "" {
		a = before.Attachment
	}
	return []Step{Resolver{Owner: a.Sandbox.ID, Namespace: a.Sandbox.Path, Sandbox: is, Former: was}}
}

// Commands implements Step.
func (s Resolver) Commands() []string {
	if s.Sandbox == nil {
		return []string{"# the relay no longer answers " + dns.Address.String() + " there"}
	}
	out := []string{"# the relay answers " + dns.Address.String() + " there, udp and tcp"}
	for _, e := range s.Sandbox.Endpoints {
		out = append(out, "# on "+e.Network+" it is "+strings.Join(e.Names, ", "))
		for _, l := range e.Links {
			out = append(out, fmt.Sprintf("# on %s it calls %.12s %s", e.Network, l.Sandbox, l.Alias))
		}
	}
	return out
}

// Reason implements Step.
func (s Resolver) Reason() string {
	if s.Sandbox == nil {
		return "on the default network there are no names"
	}
	return "the container asks for names, and is found by its own"
}
