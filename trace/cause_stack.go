package trace

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/trace/netfilter"
	"github.com/fairlead/fairlead/trace/picture"
)

// forwards says whether the host forwards what comes in by the link.
func (t *tracer) forwards(n node, in picture.Link) (Cause, bool) {
	keys := []string{"net/ipv4/ip_forward", "net/ipv4/conf/" + in.Name + "/forwarding"}
	code := "forwarding-off"
	if t.pk.IPv6() {
		keys = []string{"net/ipv6/conf/all/forwarding"}
		code = "ipv6-forwarding-off"
	}
	for i, key := range keys {
		if v, ok := n.ns.Sysctls[key]; !ok || v != "0" || i == 1 && n.ns.Sysctls[keys[0]] == "0" {
			continue
		}
		name := strings.ReplaceAll(key, "/", ".")
		return Cause{
			Code: code, What: fmt.Sprintf("%s does not forward: sysctl %s is 0", n.where(), name), Where: n.where() + ", sysctl " + name, Who: ours,
			Mend: []string{n.command("sysctl -w %s=1", name)},
		}, false
	}
	return Cause{}, true
}

// sourceValid is what fib_validate_source of the kernel says of the sender.
func (t *tracer) sourceValid(n node, in picture.Link) (Cause, bool) {
	a := t.pk.Source.Addr()
	if t.pk.IPv6() {
		return Cause{}, true // IPv6 has no rp_filter
	}
	w := lookup(n.ns, wayQuery{to: a, from: t.pk.Destination.Addr(), mark: 0})
	if w.found && w.route.Kind == picture.Local && n.kind == HopHost {
		l, _ := n.ns.Owns(a)
		return Cause{
			Code: "duplicate-address", What: fmt.Sprintf("%s is an address of the host too, on %s: the host throws away what comes from there under its own address", a, l.Name),
			Where: "the host, link " + l.Name, Who: admin, Mend: []string{fmt.Sprintf("ip addr del %s dev %s", prefixOn(l, a), l.Name)},
		}, false
	}
	mode := max(number(n.ns.Sysctls["net/ipv4/conf/all/rp_filter"]), number(n.ns.Sysctls["net/ipv4/conf/"+in.Name+"/rp_filter"]))
	if mode == 0 || mode == 2 && w.found || mode == 1 && w.found && w.link.Index == in.Index {
		return Cause{}, true
	}
	back := "it has no route back to it"
	if w.found {
		back = "its route back is " + w.text()
	}
	var keys, off []string
	for _, name := range []string{"all", in.Name} {
		if number(n.ns.Sysctls["net/ipv4/conf/"+name+"/rp_filter"]) != 0 {
			keys = append(keys, "net.ipv4.conf."+name+".rp_filter")
			off = append(off, keys[len(keys)-1]+"=0")
		}
	}
	c := Cause{
		Code: "rp-filter", What: fmt.Sprintf("%s throws away what comes from %s by %s, for %s (rp_filter %d)", n.where(), a, in.Name, back, mode),
		Where: n.where() + ", sysctl " + strings.Join(keys, " and "), Who: admin, Mend: []string{n.command("sysctl -w %s", strings.Join(off, " "))},
	}
	// Where the route is what is wrong, it is that which is to be mended.
	if d, ok := t.divertedBack(n, w, a); !ok {
		d.What += "; so rp_filter throws away what comes from there"
		return d, false
	}
	return c, false
}

func (t *tracer) divertedBack(n node, w way, a netip.Addr) (Cause, bool) {
	if w.found && (n.kind != HopHost || len(t.wantedEndpoints(a)) == 0) {
		return Cause{}, true
	}
	saved := t.pk.Destination
	defer func() { t.pk.Destination = saved }()
	t.pk.Destination = netip.AddrPortFrom(a, 0)
	if !w.found {
		return t.routed(n, w)
	}
	return t.diverted(w)
}

func number(s string) int {
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' {
			return n
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// trackable says whether the host can track one more connection. A full table is never
// quite full for long: some connection is always over, and one that is refused has the
// kernel give up a few that are ending (gc_worker of nf_conntrack_core.c). What becomes free
// the next one has.
func (t *tracer) trackable() (Cause, bool) {
	h := &t.p.Host
	if t.back || h.MaxTracked == 0 || h.Tracked < h.MaxTracked-h.MaxTracked/100 {
		return Cause{}, true
	}
	return Cause{
		Code: "conntrack-full", What: fmt.Sprintf("the host tracks %d connections, and may track %d: new ones are thrown away", h.Tracked, h.MaxTracked),
		Where: "the host, sysctl net.netfilter.nf_conntrack_max", Who: admin,
		Mend: []string{fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d", 2*max(h.MaxTracked, 65536)), "conntrack -L | awk '{print $5}' | sort | uniq -c | sort -n | tail"},
	}, false
}

// stale looks for a connection that is still tracked as it was translated before.
func (t *tracer) stale() (Cause, bool) {
	if t.back {
		return Cause{}, true
	}
	o := t.seen.original
	for _, f := range t.p.Host.Flows {
		if f.Proto != t.q.Proto || f.Original.Destination != o.Destination || f.Original.Source.Addr() != o.Source.Addr() || t.q.Port == 0 {
			continue
		}
		if f.Reply.Source == t.pk.Destination {
			continue
		}
		if len(t.wantedEndpoints(f.Reply.Source.Addr())) > 0 && t.q.Proto == "tcp" {
			continue // one that goes on by itself
		}
		return Cause{
			Code: "stale-conntrack", What: fmt.Sprintf("the host tracks a connection from %s to %s that leads to %s, and it should lead to %s: what comes from that port goes on there", f.Original.Source, o.Destination, f.Reply.Source, t.pk.Destination),
			Where: "the host, conntrack", Who: "the kernel, which remembers",
			Mend: []string{fmt.Sprintf("conntrack -D -p %s -s %s --sport %d -d %s --dport %d", f.Proto, f.Original.Source.Addr(), f.Original.Source.Port(), o.Destination.Addr(), o.Destination.Port())},
		}, false
	}
	return Cause{}, true
}

// dropped says whose rule it is that drops the packet, and what opens it.
func (t *tracer) dropped(n node, d netfilter.Decision) Cause {
	by := d.By
	c := Cause{Where: n.where() + ", " + by.String(), Who: t.whose(by)}
	does := "drops"
	if d.Reject {
		does = "refuses"
	}
	if c.Who == fairlead && n.kind == HopHost {
		return t.byOurs(c, by)
	}
	what := fmt.Sprintf("a rule of %s %s it", by.Chain, does)
	c.Code = "foreign-drop"
	if by.Policy() {
		what, c.Code = fmt.Sprintf("the policy of chain %s is drop, and no rule before it accepts the packet", by.Chain), "foreign-policy-drop"
	}
	c.What = what
	c.Mend = t.opens(n, by)
	switch c.Who {
	case "ufw", "firewalld", "Docker", "libvirt":
		c.Code = strings.ToLower(c.Who) + "-drop"
		c.What = c.Who + " is in the way: " + c.What
	}
	return c
}

const fairlead = "Fairlead"

// whose tells who made a chain, by the names that they all give.
func (t *tracer) whose(by netfilter.Where) string {
	switch chain := strings.ToLower(by.Chain); {
	case t.p.Table != "" && by.Table == t.p.Table || strings.HasPrefix(by.Comment, "fairlead"):
		return fairlead
	case strings.HasPrefix(chain, "ufw") || t.jumpsTo(by, "ufw"):
		return "ufw"
	case strings.HasPrefix(by.Table, "firewalld"):
		return "firewalld"
	case chain == "docker-user" && t.p.Firewall == "iptables": // where users' own rules go
		return "an administrator of the host, by iptables"
	case strings.HasPrefix(chain, "docker"):
		if t.p.Firewall == "iptables" {
			return fairlead
		}
		return "Docker"
	case strings.HasPrefix(chain, "libvirt") || strings.HasPrefix(by.Table, "libvirt"):
		return "libvirt"
	case by.Legacy || (by.Family == "ip" || by.Family == "ip6") && (by.Table == "filter" || by.Table == "nat" || by.Table == "raw" || by.Table == "mangle"):
		return "an administrator of the host, by iptables"
	}
	return "an administrator of the host, or another program, by nft"
}

// jumpsTo says whether the chain leads to chains of that prefix.
func (t *tracer) jumpsTo(by netfilter.Where, prefix string) bool {
	for _, table := range t.p.Host.Ruleset.Tables {
		if table.Name != by.Table || netfilter.FamilyName(table.Family) != by.Family {
			continue
		}
		for name := range table.Chains {
			if strings.HasPrefix(name, prefix+"-") && (by.Chain == "FORWARD" || by.Chain == "INPUT" || by.Chain == "OUTPUT") {
				return true
			}
		}
	}
	return false
}

// opens are the commands that take the obstacle away.
func (t *tracer) opens(n node, by netfilter.Where) []string {
	program := "iptables"
	if by.Family == "ip6" {
		program = "ip6tables"
	}
	if by.Legacy {
		program += "-legacy"
	}
	switch who := t.whose(by); {
	case who == "ufw" && by.Hook == "forward":
		return []string{fmt.Sprintf("ufw route allow in on %s out on %s", orAny(t.pk.In.Name), orAny(t.pk.Out.Name)), healHint}
	case who == "ufw":
		return []string{fmt.Sprintf("ufw allow in on %s to any port %d proto %s", t.pk.In.Name, t.pk.Destination.Port(), t.q.Proto)}
	case who == "firewalld":
		return []string{healHint, "firewall-cmd --reload"}
	case by.Policy() && (by.Legacy || (by.Family == "ip" || by.Family == "ip6") && by.Table == "filter" && by.Chain == strings.ToUpper(by.Chain)):
		return []string{n.command("%s -P %s ACCEPT", program, by.Chain)}
	case by.Legacy:
		return []string{n.command("%s -t %s -D %s %d", program, by.Table, by.Chain, by.Handle)}
	case by.Policy():
		return []string{n.command("nft 'add chain %s %s %s { policy accept; }'", by.Family, by.Table, by.Chain), healHint}
	}
	return []string{n.command("nft delete rule %s %s %s handle %d", by.Family, by.Table, by.Chain, by.Handle)}
}

func orAny(name string) string {
	if name == "" {
		return "any"
	}
	return name
}

// byOurs says why our own policy is against it.
func (t *tracer) byOurs(c Cause, by netfilter.Where) Cause {
	c.Who = policy
	from, to := t.ofSubnet(t.pk.Source.Addr()), t.ofSubnet(t.pk.Destination.Addr())
	port := t.portWord()
	switch {
	case by.Family == "bridge" && from != nil && to != nil && from.ID == to.ID && !to.ICC && !strings.Contains(by.Chain, "guard"):
		return t.iccOff(c, to)
	case by.Family == "bridge":
		c.Code = "guard"
		c.What = fmt.Sprintf("the guard against spoofing throws it away: the container does not send under its own addresses (source %s, MAC %s)", t.pk.Source.Addr(), t.pk.SourceMAC)
		c.Who = inside
		c.Mend = t.ownAddresses()
		if by.Comment != "" || by.Rule != "" {
			c.Where = "the host, " + by.String()
		}
	case from != nil && to != nil && from.ID == to.ID:
		return t.iccOff(c, to)
	case from != nil && from.Internal || to != nil && to.Internal:
		net := from
		if net == nil || !net.Internal {
			net = to
		}
		c.Code, c.What = "internal-network", fmt.Sprintf("network %s is internal: nothing comes in, and nothing goes out", net.Name)
		c.Mend = []string{t.joinsNetwork(to)}
	case from != nil && to != nil:
		c.Code, c.What = "other-network", fmt.Sprintf("networks %s and %s are kept apart", from.Name, to.Name)
		c.Mend = []string{t.joinsNetwork(to)}
	case to != nil:
		c.Code, c.What = "not-published", fmt.Sprintf("port %s of container %s is not published, and what is not is reached from its own network alone", port, t.to.name)
		c.Mend = []string{publishAnew("%s:%s", port, port)}
	default:
		c.Code, c.What = "policy", "Fairlead's policy drops it"
	}
	return c
}

func (t *tracer) iccOff(c Cause, n *spec.Network) Cause {
	c.Code, c.What = "icc-off", fmt.Sprintf("the containers of network %s are kept apart (icc is off)", n.Name)
	c.Mend = []string{t.linked() + "  # made anew; or another network: fairlead network create NAME"}
	if n.Default {
		c.Mend = []string{"fairlead daemon --icc=true", t.linked() + "  # made anew"}
	}
	return c
}

// ownAddresses are the commands by which a container has its own again.
func (t *tracer) ownAddresses() (out []string) {
	n := t.from
	if t.back {
		n = t.to
	}
	if n.c == nil || n.ns == nil {
		return nil
	}
	at, _ := t.attachment(n.c)
	for _, e := range at.Endpoints {
		l, ok := n.ns.Named(e.Interface)
		if !ok {
			continue
		}
		var own []string
		if l.MAC.String() != e.MAC.String() {
			own = append(own, fmt.Sprintf("ip link set %s address %s", l.Name, e.MAC))
		}
		for _, have := range l.Addrs {
			if have.Addr() == t.pk.Source.Addr() && have.Addr() != e.Addr4.Addr() && have.Addr() != e.Addr6.Addr() {
				own = append(own, fmt.Sprintf("ip addr del %s dev %s", have, l.Name))
				if gateway, by, ok := t.gateway(n); ok && by.Interface == l.Name {
					own = append(own, defaultRoute(gateway, l.Name)) // a route with that source goes with it
				}
			}
		}
		if len(own) > 0 {
			out = append(out, n.commands(own...))
		}
	}
	return append(out, "fairlead network create --opt com.fairlead.network.anti_spoofing=false NAME")
}
