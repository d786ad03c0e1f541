package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/trace/netfilter"
	"github.com/fairlead/fairlead/trace/picture"
)

// unresolved says why a name led nowhere.
func (t *tracer) unresolved() {
	r := t.p.Resolutions[t.q.To]
	n := t.from
	t.hop0(n)
	c := Cause{Code: "name-unknown", What: fmt.Sprintf("nobody knows the name %s", t.q.To), Where: n.where()}
	servers := func(list []netip.Addr) string {
		var out []string
		for _, a := range list {
			out = append(out, a.String())
		}
		return strings.Join(out, ", ")
	}
	if strings.Trim(t.q.To, "0123456789.") == "" || !strings.Contains(t.q.To, ".") {
		c.What = fmt.Sprintf("no container, network or address is called %s", t.q.To)
		c.Mend = []string{"fairlead ps -a  # the containers", "fairlead network ls"}
		t.stop(c)
		return
	}
	if n.kind == HopOutside {
		c.What = fmt.Sprintf("the host does not know the name %s, and whom a machine outside asks for names is not known here", t.q.To)
		c.Mend = []string{"fairlead why outside ADDRESS"}
		t.stop(c)
		return
	}
	if n.ns != nil {
		if w, ok := t.noNames(n); ok {
			t.stop(w)
			return
		}
	}
	switch {
	case len(r.Asked) == 0:
		c.Code, c.What = "no-nameserver", fmt.Sprintf("%s has no name server in its /etc/resolv.conf", n.where())
		c.Who, c.Mend = inside, []string{"fairlead restart " + n.name}
	case len(r.Silent) == len(r.Asked):
		c.Code = "dns-silent"
		c.What = fmt.Sprintf("%s asks %s for names, which did not answer", n.where(), servers(r.Asked))
		c.Mend = []string{"fairlead daemon --dns SERVER", "fairlead why " + t.q.From + " " + r.Asked[0].String() + ":53/udp"}
		if r.Asked[0] == resolverAddr {
			c.What = fmt.Sprintf("the resolver of %s (%s) has no answer from the servers behind it", n.where(), resolverAddr)
			if a, ok := t.attachment(n.c); n.c != nil && ok && len(a.DNS.Servers) > 0 {
				c.What += ": " + servers(a.DNS.Servers)
				c.Mend = []string{"fairlead run --dns SERVER …", "fairlead why " + t.q.From + " " + a.DNS.Servers[0].String() + ":53/udp"}
			}
		}
		c.Who = "the name server, or the way to it"
	default:
		c.What += fmt.Sprintf(": %s was asked", servers(r.Asked))
		c.Who = "the name server"
		c.Mend = []string{"fairlead run --add-host " + t.q.To + ":ADDRESS …"}
		if a, ok := t.attachment(n.c); n.c != nil && ok && len(a.Endpoints) > 0 {
			network := a.Endpoints[0].Network
			c.Mend = append([]string{fmt.Sprintf("fairlead network connect --alias %s %s CONTAINER", t.q.To, network), "fairlead network inspect " + network + "  # the names that it has"}, c.Mend...)
		}
	}
	t.stop(c)
}

// resolverAddr is where containers find our resolver.
var resolverAddr = netip.AddrFrom4([4]byte{127, 0, 0, 11})

// hop0 is where the question begins, when no packet is sent.
func (t *tracer) hop0(n node) {
	t.path.Hops = append(t.path.Hops, Hop{Kind: n.kind, Name: n.name, Reached: true})
}

// noNames says whether a container cannot ask our resolver, which it is to ask.
func (t *tracer) noNames(n node) (Cause, bool) {
	if w, ok := t.wrongServers(n); ok {
		return w, true
	}
	return t.cutOff(n)
}

// cutOff says whether a container has thrown away what leads its questions to our
// resolver, which is there on a port by chance, or the answers back: the table, or rules
// of it.
func (t *tracer) cutOff(n node) (Cause, bool) {
	if n.c == nil || n.kind != HopContainer || !slices.Contains(n.ns.Nameservers, resolverAddr) {
		return Cause{}, false
	}
	served := slices.ContainsFunc(n.ns.Listeners, func(l picture.Listener) bool {
		return l.At.Addr() == resolverAddr && l.At.Port() != 53
	})
	lost := lostOfResolver(n.ns.Ruleset)
	if !served || lost == "" {
		return Cause{}, false
	}
	return Cause{
		Code: "resolver-cut-off", What: fmt.Sprintf("container %s %s, which leads its questions to the resolver (%s)", n.name, lost, resolverAddr),
		Where: n.where() + ", its nftables rules", Who: inside, Mend: []string{"fairlead restart " + n.name},
	}, true
}

// lostOfResolver says what was done to a container's resolver table, empty for nothing.
func lostOfResolver(r netfilter.Ruleset) string {
	i := slices.IndexFunc(r.Tables, func(f *netfilter.Table) bool { return f.Name == spec.ResolverTable && f.Family == netfilter.FamilyIPv4 })
	if i < 0 {
		return "threw table ip " + spec.ResolverTable + " away"
	}
	var empty []string
	for _, name := range []string{spec.ResolverQuestions, spec.ResolverAnswers} {
		if c := r.Tables[i].Chains[name]; c == nil || len(c.Rules) == 0 {
			empty = append(empty, name)
		}
	}
	switch len(empty) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("emptied chain %s of table ip %s", empty[0], spec.ResolverTable)
	}
	return "emptied table ip " + spec.ResolverTable
}

// byName tells of a container that is asked for by its name, which the other cannot look up.
func (t *tracer) byName() {
	if t.to.kind != HopContainer || t.to.addr.IsValid() || t.from.name == t.to.name {
		return
	}
	if c, ok := t.cutOff(t.from); ok {
		t.doubt(fmt.Sprintf("by its address alone: %s; %s mends that", c.What, c.Mend[0]))
	}
}

// wrongServers says whether a container that is to ask our resolver asks another.
func (t *tracer) wrongServers(n node) (Cause, bool) {
	if n.c == nil || n.kind != HopContainer {
		return Cause{}, false
	}
	a, _ := t.attachment(n.c)
	named := slices.ContainsFunc(a.Endpoints, func(e spec.Endpoint) bool { return e.Network != spec.DefaultNetwork })
	if !named || slices.Contains(n.ns.Nameservers, resolverAddr) {
		return Cause{}, false
	}
	return Cause{
		Code: "resolv-conf-wrong", What: fmt.Sprintf("/etc/resolv.conf of container %s does not name the resolver of its networks, %s", n.name, resolverAddr), Where: n.where() + ", /etc/resolv.conf", Who: inside,
		Mend: []string{fmt.Sprintf("fairlead exec %s sh -c 'echo nameserver %s > /etc/resolv.conf'", n.name, resolverAddr)},
	}, true
}
