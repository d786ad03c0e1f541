package network

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

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
	// stopHealing ends what startHealing began.
	stopHealing func()

	mu sync.Mutex
	// served are the interfaces of firewall.Policy's Served.
	served []string
}

// servedNow are the interfaces that somebody else wants forwarding for.
func (c *Controller) servedNow() []string {
	c.foreign.mu.Lock()
	defer c.foreign.mu.Unlock()
	return slices.Clone(c.foreign.served)
}

// lookAbroad notes the interfaces that other programs, or other daemons, want
// forwarding for, and says which were not there before and which are no more.
func (c *Controller) lookAbroad(ctx context.Context, nets []spec.Network) (more, less []string, err error) {
	served, err := iptables.Served(ctx, c.plan.Table)
	if c.fw != nil {
		former, err2 := c.formerTables()
		byNFT, err3 := c.fw.Served(c.plan.Table, former...)
		daemons, err4 := c.otherDaemonsBridges()
		served, err = append(append(served, byNFT...), daemons...), errors.Join(err, err2, err3, err4)
	}
	if err != nil {
		return nil, nil, err
	}
	slices.Sort(served)
	served = slices.DeleteFunc(slices.Compact(served), func(name string) bool {
		return name == "lo" || slices.ContainsFunc(nets, func(n spec.Network) bool { return n.Bridge == name })
	})
	before := c.servedNow()
	c.foreign.mu.Lock()
	c.foreign.served = served
	c.foreign.mu.Unlock()
	lacks := func(names []string) func(string) bool {
		return func(n string) bool { return slices.Contains(names, n) }
	}
	return slices.DeleteFunc(slices.Clone(served), lacks(before)), slices.DeleteFunc(before, lacks(served)), nil
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

// otherGuests are the bridges that other programs have guests on: those served by
// others that have no port but guests'. A bridge with hardware in it is a part of
// the world that containers reach.
func (c *Controller) otherGuests() ([]string, error) {
	links, err := c.links.Links()
	if err != nil {
		return nil, err
	}
	var daemons []string
	if c.fw != nil {
		if daemons, err = c.otherDaemonsBridges(); err != nil {
			return nil, err
		}
	}
	served := c.servedNow()
	var out []string
	for _, l := range links {
		if l.Kind != "bridge" || strings.HasPrefix(l.Alias, "fairlead:") || slices.Contains(daemons, l.Name) || !slices.Contains(served, l.Name) {
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
// have their own. It says whether it changed any.
func (c *Controller) openForeignForward(ctx context.Context, nets []spec.Network) (changed bool, err error) {
	var bridges []string
	for _, n := range nets {
		if n.Foreign {
			bridges = append(bridges, n.Bridge) // it is not in our group
		}
	}
	others, err := c.otherGuests()
	if err != nil {
		return false, err
	}
	var leave []string
	if c.foreign.zoned {
		leave = append(leave, "firewalld")
	}
	own := c.ownForward()
	if slices.Contains(own, iptables.NFTables) {
		leave = append(leave, "filter")
	}
	if c.fw != nil {
		var found []nft.ForeignChain
		found, err = c.fw.OpenForward(ctx, nft.Forward{Tag: c.plan.Table, Group: Group, Bridges: bridges, Others: others, Leave: leave})
		for _, ch := range found {
			changed = changed || ch.Added > 0
			c.sayForeign(ch.String(), ch.Err != nil)
		}
	}
	if slices.Contains(own, iptables.Legacy) {
		return changed, err
	}
	legacy, err2 := iptables.OpenForward(ctx, iptables.Forward{Tag: c.plan.Table, Group: Group, Bridges: bridges, Others: others})
	for _, line := range legacy {
		changed = changed || strings.HasSuffix(line, "were added")
		c.sayForeign(line, false)
	}
	return changed, errors.Join(err, err2)
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
