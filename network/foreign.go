package network

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/kernel/firewalld"
	"github.com/fairlead/fairlead/kernel/iptables"
	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/ruleset"
)

// foreignRules is what is known of other programs' packet filters.
type foreignRules struct {
	// mending has one look at them at a time, and what it leads to.
	mending sync.Mutex
	// said is what was logged of each chain, so that it is said once.
	said map[string]bool
	// bus is where firewalld is, nil while there is no bus; zoned whether our
	// bridges may be in its zone.
	bus   *firewalld.Conn
	zoned bool
	// changed tells of changes of nf_tables, and wake has us look, too.
	changed <-chan struct{}
	wake    chan struct{}
	// tables tells whether another program changed our own; touched that it did and
	// they could not be made again; compared is when they were read last.
	tables   *nft.Watcher
	touched  atomic.Bool
	compared time.Time

	mu    sync.Mutex
	found abroad
}

// abroad is what others forward.
type abroad struct {
	// served are the interfaces that our guard is to let be, others the bridges of
	// guests; see firewall.Policy. peers are those of served that are another daemon's.
	served, others, peers []string
}

// strangers are the interfaces of served that are no other daemon's.
func (a abroad) strangers() []string {
	return slices.DeleteFunc(slices.Clone(a.served), func(name string) bool { return slices.Contains(a.peers, name) })
}

// same says whether nothing has changed; none is none, nil or not.
func (a abroad) same(b abroad) bool {
	return slices.Equal(a.served, b.served) && slices.Equal(a.others, b.others)
}

// abroadNow is what was found last.
func (c *Controller) abroadNow() abroad {
	c.foreign.mu.Lock()
	defer c.foreign.mu.Unlock()
	return c.foreign.found
}

// lookAbroad notes what other programs, or other daemons, want forwarded, and
// returns what was known before.
func (c *Controller) lookAbroad(ctx context.Context, nets []spec.Network) (before abroad, err error) {
	var guarded, all []string
	chains, variant := c.ownChains()
	legacy, err := iptables.Served(ctx, c.plan.Table, chains)
	all = append(all, legacy...)
	if variant != iptables.Legacy {
		guarded = append(guarded, legacy...)
	}
	var daemons []string
	if c.fw != nil {
		former, err2 := c.formerTables()
		tables, err3 := c.fw.Served(c.plan.Table, former, chains)
		for name, served := range tables {
			all = append(all, served...)
			// By iptables the guard is FORWARD's policy, and what the rules before
			// it accept needs nothing of ours.
			if variant != iptables.NFTables || name != "ip filter" && name != "ip6 filter" {
				guarded = append(guarded, served...)
			}
		}
		var err4 error
		daemons, err4 = c.otherDaemonsBridges()
		guarded, err = append(guarded, daemons...), errors.Join(err, err2, err3, err4)
	}
	var found abroad
	found.served, found.peers = foreignNames(guarded, nets), foreignNames(slices.Clone(daemons), nets)
	others, err2 := c.guestBridges(foreignNames(all, nets), daemons)
	found.others = others
	if err = errors.Join(err, err2); err != nil {
		return before, err
	}
	before = c.abroadNow()
	c.foreign.mu.Lock()
	c.foreign.found = found
	c.foreign.mu.Unlock()
	return before, nil
}

// foreignNames are the names, each once, that are none of our own networks'.
func foreignNames(names []string, nets []spec.Network) []string {
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool {
		return name == "lo" || slices.ContainsFunc(nets, func(n spec.Network) bool { return n.Bridge == name })
	})
}

// ownChains are the chains that we have in tables of iptables, and which of the two
// kinds of tables they are in.
func (c *Controller) ownChains() (names []string, variant iptables.Variant) {
	e, ok := c.enforcer.(*iptablesEnforcer)
	if !ok {
		return nil, ""
	}
	for _, ch := range e.backend.Chains() {
		names = append(names, ch.Name)
	}
	for _, p := range e.programs {
		variant = p.Variant
	}
	return names, variant
}

// formerTables are what this daemon made under other names; they go before long.
func (c *Controller) formerTables() ([]string, error) {
	tables, err := c.fw.Tables()
	var out []string
	for _, t := range tables {
		if t.Comment == firewall.Comment(c.plan.Daemon) {
			out = append(out, t.Name)
		}
	}
	return out, err
}

// otherDaemonsBridges are those in the tables of other daemons in this host
// namespace.
func (c *Controller) otherDaemonsBridges() ([]string, error) {
	tables, err := c.otherTables()
	var out []string
	for _, t := range tables {
		names, err2 := c.fw.Interfaces(ruleset.Inet, t, firewall.Bridges())
		out, err = append(out, names...), errors.Join(err, err2)
	}
	return out, err
}

// guestBridges are those of the names that are bridges with other programs' guests:
// no port is anything else. A bridge with hardware in it is a part of the world that
// containers reach.
func (c *Controller) guestBridges(names, daemons []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil // as on most hosts, whose links may be thousands
	}
	links, err := c.links.Links()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, l := range links {
		if l.Kind != "bridge" || strings.HasPrefix(l.Alias, "fairlead:") || slices.Contains(daemons, l.Name) || !slices.Contains(names, l.Name) {
			continue
		}
		hardware := false
		for _, port := range links {
			guest := port.Kind == "veth" || port.Kind == "tun" || port.Kind == "dummy"
			hardware = hardware || port.MasterIndex == l.Index && !guest
		}
		if !hardware {
			out = append(out, l.Name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// openForeignForward lets our networks through chains of the host's own that drop
// what is forwarded: an accept in our table does not override their drop. What we
// forbid stays forbidden, since a drop in our table is not overridden either. The
// rules are tagged with our table's name: two daemons in one host namespace each
// have their own. It says what it changed.
func (c *Controller) openForeignForward(ctx context.Context, nets []spec.Network) (changed []string, err error) {
	f, err := c.foreignForward(nets)
	if err != nil {
		return nil, err
	}
	if c.fw != nil {
		var found []nft.ForeignChain
		found, err = c.fw.OpenForward(ctx, f)
		for _, ch := range found {
			if ch.Added > 0 {
				changed = append(changed, ch.String())
			}
			c.sayForeign(ch.String(), ch.Err != nil)
		}
	}
	if c.legacyIsOurs() {
		return changed, err
	}
	legacy, err2 := iptables.OpenForward(ctx, legacyForward(f))
	for _, line := range legacy {
		if strings.HasSuffix(line, "were added") {
			changed = append(changed, line)
		}
		c.sayForeign(line, false)
	}
	return changed, errors.Join(err, err2)
}

// lackAbroad is what openAbroad would put right in other programs' chains and zones, a
// line each.
func (c *Controller) lackAbroad(ctx context.Context, nets []spec.Network) ([]string, error) {
	if c.cfg.Firewall == FirewallNone {
		return nil, nil
	}
	c.foreign.mending.Lock()
	defer c.foreign.mending.Unlock()
	lines, err := c.lackZone(ctx, nets)
	f, err2 := c.foreignForward(nets)
	if err = errors.Join(err, err2); err != nil {
		return lines, err
	}
	if c.fw != nil {
		more, err := c.fw.LackForward(f)
		if lines = append(lines, more...); err != nil {
			return lines, err
		}
	}
	if c.legacyIsOurs() {
		return lines, nil
	}
	more, err := iptables.LackForward(ctx, legacyForward(f))
	return append(lines, more...), err
}

// legacyIsOurs says whether legacy iptables' FORWARD chains have our own rules, which are
// first.
func (c *Controller) legacyIsOurs() bool {
	_, variant := c.ownChains()
	return variant == iptables.Legacy || slices.Contains(c.ownForward(), iptables.Legacy)
}

func legacyForward(f nft.Forward) iptables.Forward {
	return iptables.Forward{Tag: f.Tag, Group: f.Group, Bridges: f.Bridges, Others: f.Others}
}

// foreignForward is what must pass other programs' chains. The caller has mending.
func (c *Controller) foreignForward(nets []spec.Network) (nft.Forward, error) {
	f := nft.Forward{Tag: c.plan.Table, Group: Group, Others: c.abroadNow().others}
	for _, n := range nets {
		if n.Foreign {
			f.Bridges = append(f.Bridges, n.Bridge) // it is not in our group
		}
	}
	if c.foreign.zoned {
		f.Leave = append(f.Leave, "inet firewalld")
	}
	if _, variant := c.ownChains(); variant == iptables.NFTables {
		f.Leave = append(f.Leave, "ip filter", "ip6 filter") // our own rules are there, and first
	}
	if slices.Contains(c.ownForward(), iptables.NFTables) {
		f.Leave = append(f.Leave, "filter")
	}
	if c.fw == nil {
		return f, nil
	}
	// Another daemon's guard lets our bridges be, and drops only what goes to its own
	// containers otherwise.
	peers, err := c.otherTables()
	for _, name := range peers {
		f.Leave = append(f.Leave, string(ruleset.Inet)+" "+name)
	}
	return f, err
}

// sayForeign logs what is found again and again once.
func (c *Controller) sayForeign(line string, bad bool) {
	if c.foreign.said[line] {
		return
	}
	if c.foreign.said == nil {
		c.foreign.said = make(map[string]bool)
	}
	c.foreign.said[line] = true
	c.cfg.Events.Tell("firewall", "foreign", "", "what", line)
	if bad {
		c.log.Error(line)
	} else {
		c.log.Warn(line)
	}
}

func (c *Controller) closeForeignForward(ctx context.Context) error {
	return c.closeForward(ctx, c.plan.Table)
}

func (c *Controller) closeForward(ctx context.Context, tag string) error {
	if c.fw == nil {
		return iptables.CloseForward(ctx, tag)
	}
	return errors.Join(c.fw.CloseForward(ctx, tag), iptables.CloseForward(ctx, tag))
}
