package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/sysctl"
	"github.com/fairlead/fairlead/network/plan"
)

// difference is one way in which a link is not the one wanted.
type difference struct {
	text string
	// cure are the commands that put it right.
	cure []string
}

// with is the finding with its cure.
func (f finding) with(cure ...string) finding {
	f.cure = cure
	return f
}

// textsOf are the differences for people.
func textsOf(differs []difference) []string {
	out := make([]string, len(differs))
	for i, d := range differs {
		out[i] = d.text
	}
	return out
}

// bridgeDifferences are how the bridge there is not the one wanted.
func bridgeDifferences(want plan.Bridge, l link.Link) (out []difference) {
	say := func(cure, format string, args ...any) {
		out = append(out, difference{fmt.Sprintf(format, args...), []string{cure}})
	}
	set := "ip link set " + want.Name + " "
	if l.Alias != want.Alias {
		say(set+"alias "+want.Alias, "has alias %q, wanted %q", l.Alias, want.Alias)
	}
	if l.Group != want.Group {
		say(set+fmt.Sprintf("group %d", want.Group), "is in device group %d, wanted %d", l.Group, want.Group)
	}
	if want.MTU != 0 && l.MTU != want.MTU {
		say(set+fmt.Sprintf("mtu %d", want.MTU), "has MTU %d, wanted %d", l.MTU, want.MTU)
	}
	if l.MAC.String() != want.MAC.String() {
		say(set+"address "+want.MAC.String(), "has MAC %s, wanted %s", l.MAC, want.MAC)
	}
	if l.NoARP {
		say(set+"arp on", "answers no ARP")
	}
	for _, a := range want.Addrs {
		if !slices.Contains(l.Addrs, a) {
			say(plan.AddAddress(a, want.Name), "lacks address %s", a)
		}
	}
	for _, a := range l.Addrs {
		if slices.ContainsFunc(want.Addrs, func(w netip.Prefix) bool { return w.Addr() == a.Addr() && w != a }) {
			say("ip addr del "+a.String()+" dev "+want.Name, "has address %s with another length", a)
		}
	}
	for _, p := range want.Heedless() {
		have, ok := l.Parameter(parameterOf(p.Key))
		if want, err := strconv.Atoi(p.Value); ok && err == nil && have != want {
			say("sysctl -w "+p.Key+"="+p.Value, "has sysctl %s at %d, wanted %d", sysctl.Name(p.Key), have, want)
		}
	}
	disabled := link.Parameter{V6: true, Name: "disable_ipv6"}
	if off, ok := l.Parameter(disabled); ok && (off == 1) == want.IPv6 {
		say(fmt.Sprintf("sysctl -w %s=%d", disabled.Key(want.Name), 1-off), "has IPv6 %s", onOff(off != 1))
	}
	return out
}

// vethDifferences are how the host's end there is not the one wanted. What a bridge of
// the user's does with its ports is the user's.
func vethDifferences(want plan.Veth, l link.Link, master string, foreign bool) (out []difference) {
	say := func(cure, format string, args ...any) {
		out = append(out, difference{fmt.Sprintf(format, args...), []string{cure}})
	}
	set := "ip link set " + want.Name + " "
	switch {
	case master != want.Bridge:
		out = append(out, difference{"is no port of bridge " + want.Bridge, append([]string{set + "master " + want.Bridge}, want.PortCommands()...)})
		if !l.Up {
			out[0].cure = append(out[0].cure, set+"up")
		}
	case !l.Up:
		say(set+"up", "is down")
	}
	if l.Alias != want.Alias {
		say(set+"alias "+want.Alias, "has alias %q, wanted %q", l.Alias, want.Alias)
	}
	if want.MTU != 0 && l.MTU != want.MTU {
		say(set+fmt.Sprintf("mtu %d", want.MTU), "has MTU %d, wanted %d", l.MTU, want.MTU)
	}
	if want.MAC != nil && l.MAC.String() != want.MAC.String() {
		say(set+"address "+want.MAC.String(), "has MAC %s, wanted %s", l.MAC, want.MAC)
	}
	if p := (link.Parameter{V6: true, Name: "disable_ipv6"}); want.NoIPv6 {
		if off, ok := l.Parameter(p); ok && off == 0 {
			say("sysctl -w "+p.Key(want.Name)+"=1", "has IPv6 on")
		}
	}
	if p, ok := l.Port(); ok && master == want.Bridge {
		out = append(out, portDifferences(want.Name, p, rightPort(p, want, foreign))...)
	}
	return out
}

// stateDifference is that the port of a bridge of ours was switched off.
func stateDifference(l, bridge link.Link) []difference {
	if p, ok := l.Port(); !ok || l.MasterIndex != bridge.Index || !p.Disabled(l, bridge) {
		return nil
	}
	return []difference{{"is disabled as a port", []string{fmt.Sprintf("bridge link set dev %s state %d", l.Name, link.Forwarding)}}}
}

func portDifferences(name string, have, want link.Port) (out []difference) {
	for _, flag := range []struct {
		name       string
		have, want bool
	}{
		{"hairpin", have.Hairpin, want.Hairpin},
		{"isolated", have.Isolated, want.Isolated},
		{"locked", have.Locked, want.Locked},
		{"learning", have.Learning, want.Learning},
		{"flood", have.Flood, want.Flood},
		{"mcast_flood", have.MulticastFlood, want.MulticastFlood},
		{"bcast_flood", have.BroadcastFlood, want.BroadcastFlood},
		{"root_block", have.RootBlock, want.RootBlock},
	} {
		if flag.have != flag.want {
			out = append(out, difference{
				"has " + flag.name + " " + onOff(flag.have) + " as a port",
				[]string{"bridge link set dev " + name + " " + flag.name + " " + onOff(flag.want)},
			})
		}
	}
	return out
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// connectedCommand makes the route that the address brings by itself.
func connectedCommand(dev string, a netip.Prefix) string {
	route := "ip route replace " + a.Masked().String() + " dev " + dev + " proto kernel"
	if a.Addr().Is4() {
		return route + " scope link src " + a.Addr().String()
	}
	return route + " metric 256"
}
