package plan

import (
	"slices"

	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
)

// Connect orders a further endpoint of a sandbox that is there: its rules first, then
// its link, then what moves to it. Undone in reverse the sandbox is as before.
func (c Config) Connect(ch Change, before, after firewall.Member) []Step {
	steps := c.memberChange(before, after, "the sandbox's policy with the network")
	// A flow that goes on would keep its translation to the former address.
	steps = append(steps, ForgetFlows{Ports: moved(ch)}.unlessEmpty()...)
	end := c.InterfaceStep(ch.After, ch.Endpoint)
	end.Gateways = nil // the former ones are replaced below
	steps = append(steps, c.VethStep(ch.After, ch.Endpoint), end)
	steps = append(steps, announce(ch.Endpoint)...)
	steps = append(steps, c.moves(ch)...)
	return append(steps, c.resolver(before, after)...)
}

// Disconnect orders the end of one endpoint of a sandbox that stays: what leads to it
// first, then its link, and its rules when the link is gone. Every step is also right
// when it, or all of it, has been done before.
func (c Config) Disconnect(ch Change, before, after firewall.Member) []Step {
	veth := c.VethStep(ch.Before, ch.Endpoint)
	steps := append(c.resolver(before, after), c.moves(ch)...)
	steps = append(steps, DropLink{Name: veth.Name, Alias: veth.Alias})
	steps = append(steps, c.memberChange(before, after, "the sandbox's policy without the network")...)
	forget := ForgetFlows{Ports: moved(ch)}
	gone := addresses(ch.Endpoint)
	forget.Addrs = outlived(ch.Before, slices.Clone(gone))
	for _, p := range further(translated(ch.Before.Ports), forget.Addrs) {
		if slices.Contains(gone, p.Container.Addr()) {
			forget.Gone = append(forget.Gone, p)
		}
	}
	return append(steps, forget.unlessEmpty()...)
}

// memberChange puts one policy of a sandbox into the place of another, in one
// transaction.
func (c Config) memberChange(before, after firewall.Member, why string) []Step {
	changes := c.Firewall.RemoveMember(before).Then(c.Firewall.AddMember(after))
	if changes.Empty() {
		return nil
	}
	return []Step{Firewall{
		Changes: changes,
		Reverse: c.Firewall.RemoveMember(after).Then(c.Firewall.AddMember(before)),
		Why:     why,
	}}
}

// moves are the default routes and the published ports that change.
func (c Config) moves(ch Change) []Step {
	var steps []Step
	former, routes := defaultRoutes(ch.Before), defaultRoutes(ch.After)
	if changed := slices.DeleteFunc(slices.Clone(routes), func(r DefaultRoute) bool { return slices.Contains(former, r) }); len(changed) > 0 {
		steps = append(steps, DefaultRoutes{Namespace: ch.After.Sandbox.Path, Routes: changed, Former: former})
	}
	steps = append(steps, c.redirect(ch.Before.Ports, ch.After.Ports)...)
	was, are := HostPorts(ch.Before.Ports), HostPorts(ch.After.Ports)
	if !slices.Equal(was, are) {
		steps = append(steps, Republish{Owner: ch.After.Sandbox.ID, Bindings: are, Former: was})
	}
	return steps
}

// Routes are the default routes that the sandbox has by its endpoints.
func (Config) Routes(a spec.Attachment) DefaultRoutes {
	return DefaultRoutes{Namespace: a.Sandbox.Path, Routes: defaultRoutes(a)}
}

func defaultRoutes(a spec.Attachment) []DefaultRoute {
	var out []DefaultRoute
	for _, e := range a.Endpoints {
		if e.Gateway4.IsValid() {
			out = append(out, DefaultRoute{e.Interface, e.Gateway4})
		}
		if e.Gateway6.IsValid() {
			out = append(out, DefaultRoute{e.Interface, e.Gateway6})
		}
	}
	return out
}

// moved are the ports that lead elsewhere after the change.
func moved(ch Change) []spec.PortBinding {
	before := make(map[spec.PortBinding]bool, len(ch.Before.Ports))
	for _, p := range ch.Before.Ports {
		before[p] = true
	}
	return slices.DeleteFunc(translated(ch.After.Ports), func(p spec.PortBinding) bool { return before[p] })
}
