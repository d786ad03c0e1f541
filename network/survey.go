package network

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/sysctl"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
)

// Kinds of what is put back, as people are told (spec.Healing).
const (
	kindBridge    = "bridge"
	kindVeth      = "veth"
	kindRoute     = "route"
	kindSysctl    = "sysctl"
	kindRules     = "rules"
	kindForeign   = "foreign"
	kindNamespace = "namespace"
	kindPort      = "port"
	kindLoopback  = "loopback"
	kindFastPath  = "fastpath"
	kindRecord    = "record"
	kindStray     = "stray"
)

var kinds = []string{
	kindBridge, kindVeth, kindRoute, kindSysctl, kindRules, kindForeign, kindNamespace, kindPort, kindLoopback, kindFastPath, kindRecord, kindStray,
}

// finding is one way in which the host is not as it is wanted.
type finding struct {
	kind, text string
	// on is the thing: what is on one is put right by one mend.
	on string
	// cure are commands that put it right, or lines that begin with # and say how.
	cure []string
	// mend puts it right, or finds that it is right by now. It is nil where the
	// thing is the user's, or nothing can be done.
	mend func(ctx context.Context) error
}

// survey is a look at the host beside the wanted state: links with what is on them,
// routes, sysctls. It changes nothing.
type survey struct {
	c           *Controller
	nets        []spec.Network
	attachments []spec.Attachment
	links       []link.Link
	byName      map[string]link.Link
	byIndex     map[int]string
	byAlias     map[string]string       // ours, to their names
	wanted      map[string]bool         // links
	routes      map[link.Connected]bool // nil where they were not read

	found []finding
}

// newSurvey reads the host. The links are read first: what an operation makes is
// wanted before it is there, so that none is taken for nobody's. Networks that are
// being made or removed are left out.
func (c *Controller) newSurvey(routes bool) (*survey, error) {
	s := &survey{
		c: c, byName: make(map[string]link.Link), byIndex: make(map[int]string), byAlias: make(map[string]string),
		wanted: make(map[string]bool),
	}
	var err error
	if s.links, err = c.looking.Links(); err != nil {
		return nil, err
	}
	if routes {
		if s.routes, err = c.looking.OnLink(); err != nil {
			return nil, err
		}
	}
	for _, l := range s.links {
		s.byName[l.Name], s.byIndex[l.Index] = l, l.Name
		if c.tagged(l) {
			s.byAlias[l.Alias] = l.Name
		}
	}
	c.mu.Lock()
	s.nets, s.attachments = c.state.Networks(), c.state.Attachments()
	s.nets = slices.DeleteFunc(s.nets, func(n spec.Network) bool {
		s.wanted[n.Bridge] = true
		return c.state.Busy(n.ID)
	})
	c.mu.Unlock()
	return s, nil
}

// tagged says whether the link carries this daemon's name.
func (c *Controller) tagged(l link.Link) bool {
	return strings.HasPrefix(l.Alias, "fairlead:"+c.plan.Daemon+":")
}

// all looks at everything.
func (s *survey) all() {
	s.sysctls()
	for _, n := range s.nets {
		s.network(n)
	}
	for _, a := range s.attachments {
		for _, e := range a.Endpoints {
			s.endpoint(a, e)
		}
	}
	s.strays()
}

func (s *survey) say(f finding, format string, args ...any) {
	f.text = fmt.Sprintf(format, args...)
	s.found = append(s.found, f)
}

// lines are the findings as text.
func (s *survey) lines() []string {
	out := make([]string, len(s.found))
	for i, f := range s.found {
		out[i] = f.text
	}
	return out
}

func (s *survey) network(n spec.Network) {
	f := finding{kind: kindBridge, on: n.Bridge}
	if !n.Foreign {
		f.mend = func(ctx context.Context) error { return s.c.mendBridge(ctx, n.ID) }
	}
	l, ok := s.byName[n.Bridge]
	switch {
	case !ok:
		f.cure = s.c.plan.BridgeStep(n).Commands()
		s.say(f, "network %s: bridge %s is missing", n.Name, n.Bridge)
		return
	case l.Kind != "bridge":
		f.mend = nil // somebody else has the name
		s.say(f, "network %s: device %s is no bridge (%s)", n.Name, n.Bridge, l.Kind)
		return
	case !l.Up:
		s.say(f.with("ip link set "+n.Bridge+" up"), "network %s: bridge %s is down", n.Name, n.Bridge)
	}
	if n.Foreign {
		return
	}
	want := s.c.plan.BridgeStep(n)
	for _, d := range bridgeDifferences(want, l) {
		s.say(f.with(d.cure...), "network %s: bridge %s %s", n.Name, n.Bridge, d.text)
	}
	if s.c.cfg.IPForward {
		s.forwarding(n, want, l)
	}
	if s.routes == nil || !l.Up {
		return
	}
	for _, r := range connected(want, l) {
		if !s.routes[r.Route()] {
			s.say(finding{kind: kindRoute, on: n.Bridge + " " + r.Address.String(), cure: []string{connectedCommand(n.Bridge, r.Address)}, mend: func(ctx context.Context) error { return s.c.mendRoute(n.ID, r.Address) }},
				"network %s: the route to %s by bridge %s is missing", n.Name, r.Address.Masked(), n.Bridge)
		}
	}
}

// parameterOf is the parameter whose key that is, of whichever link.
func parameterOf(key string) link.Parameter {
	return link.Parameter{V6: strings.HasPrefix(key, "net/ipv6/"), Name: key[strings.LastIndexByte(key, '/')+1:]}
}

// forwarding looks at the bridge's own switch, which the host's sets for all and which
// can be set apart from it.
func (s *survey) forwarding(n spec.Network, want plan.Bridge, l link.Link) {
	for v6, global := range map[bool]string{false: forward4, true: forward6} {
		if v6 && !want.IPv6 {
			continue
		}
		p := link.Parameter{V6: v6, Name: "forwarding"}
		if on, ok := l.Parameter(p); !ok || on != 0 {
			continue
		}
		if all, err := sysctl.Get(global); err != nil || all == "0" {
			continue // that is said once, of the host
		}
		key := sysctl.Name(p.Key(n.Bridge))
		s.say(finding{kind: kindSysctl, on: key, cure: []string{"sysctl -w " + key + "=1"}, mend: func(context.Context) error { return s.c.mendParameter(n.ID, p, "1") }},
			"sysctl %s is %q, wanted %q", key, "0", "1")
	}
}

// connected are the routes that the bridge's addresses bring.
func connected(want plan.Bridge, l link.Link) (out []link.Connected) {
	for _, a := range want.Addrs {
		if a.Bits() < a.Addr().BitLen() && slices.Contains(l.Addrs, a) {
			out = append(out, link.Connected{Address: a, Index: l.Index})
		}
	}
	return out
}

func (s *survey) endpoint(a spec.Attachment, e spec.Endpoint) {
	s.wanted[e.HostIf] = true
	want := s.c.plan.VethStep(a, e)
	f := finding{kind: kindVeth, on: e.HostIf, mend: func(ctx context.Context) error { return s.c.mendVeth(ctx, a.Sandbox.ID, e.ID) }}
	if _, ok := s.byName[e.Bridge]; !ok && s.foreign(e.NetworkID) {
		f.mend = nil // the user's bridge is gone, and only the user can make it
	}
	l, ok := s.byName[e.HostIf]
	if !ok {
		if other, renamed := s.byAlias[want.Alias]; renamed {
			s.say(f.with("ip link set "+other+" down", "ip link set "+other+" name "+e.HostIf, "ip link set "+e.HostIf+" up"),
				"container %s: link %s of network %s is called %s", a.Sandbox.Name, e.HostIf, e.Network, other)
			s.wanted[other] = true
			return
		}
		s.say(f.with(append(want.Commands(), s.c.plan.InterfaceStep(a, e).Commands()...)...), "container %s: link %s of network %s is missing", a.Sandbox.Name, e.HostIf, e.Network)
		return
	}
	differs := vethDifferences(want, l, s.byIndex[l.MasterIndex], s.foreign(e.NetworkID))
	if !s.foreign(e.NetworkID) {
		differs = append(differs, stateDifference(l, s.byName[e.Bridge])...)
	}
	for _, d := range differs {
		s.say(f.with(d.cure...), "container %s: link %s %s", a.Sandbox.Name, e.HostIf, d.text)
	}
}

func (s *survey) foreign(networkID string) bool {
	return slices.ContainsFunc(s.nets, func(n spec.Network) bool { return n.ID == networkID && n.Foreign })
}

// rightPort is the port as it is wanted, with what is nobody's business as it is.
func rightPort(have link.Port, want plan.Veth, foreign bool) link.Port {
	right := have
	if want.Hairpin {
		right.Hairpin = true
	}
	if want.Fixed {
		right.Learning, right.RootBlock = false, true
	}
	if foreign {
		return right
	}
	right.Isolated, right.Locked = false, false
	right.Learning, right.Flood, right.MulticastFlood, right.BroadcastFlood = !want.Fixed, true, true, true
	return right
}

// strays are links of ours that nobody wants.
func (s *survey) strays() {
	for _, l := range s.links {
		if !s.wanted[l.Name] && s.c.tagged(l) && !s.c.departing.has(l.Name) && !s.c.spares.has(l.Name) && s.there(l) {
			s.say(finding{kind: kindStray, on: l.Name, cure: []string{"ip link del " + l.Name}, mend: func(context.Context) error { return s.c.dropStray(l.Index, l.Name) }},
				"link %s (alias %s) is ours and nobody wants it", l.Name, l.Alias)
		}
	}
}

// there says whether a link is still there: one that departed may have gone since the links were
// listed.
func (s *survey) there(l link.Link) bool {
	now, err := s.c.looking.Link(l.Name)
	return err == nil && now.Index == l.Index || err != nil && !errdefs.IsNotFound(err)
}

// sysctls are those of the whole host.
func (s *survey) sysctls() {
	if !s.c.cfg.IPForward {
		return
	}
	keys := []string{forward4}
	if s.c.plan.HostIPv6 && slices.ContainsFunc(s.nets, func(n spec.Network) bool { return n.IPv6 }) {
		keys = append(keys, forward6)
	}
	for _, key := range keys {
		if have, err := sysctl.Get(key); err != nil || have != "1" {
			s.say(finding{kind: kindSysctl, on: key, cure: []string{"sysctl -w " + key + "=1"}, mend: s.c.mendForwarding}, "sysctl %s is %q, wanted %q", key, have, "1")
		}
	}
}
