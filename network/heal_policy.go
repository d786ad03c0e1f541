package network

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/kernel/iptables"
	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/firewall/xtables"
	"github.com/fairlead/fairlead/network/spec"
)

// watchForeign readies the watch over other programs' packet filters. What happens
// from now on is seen, but nothing is done until startHealing.
func (c *Controller) watchForeign(ctx context.Context) error {
	c.foreign.wake = make(chan struct{}, 1)
	if c.cfg.Firewall == FirewallNone {
		return nil
	}
	if c.fw != nil {
		port, err := c.fw.Port()
		if err != nil {
			return err
		}
		w, err := nft.Watch(ctx, port, c.plan.Table)
		if err != nil {
			return err
		}
		c.fw.LookAway(w)
		c.foreign.changed, c.foreign.tables = w.Changed(), w
	}
	return nil
}

func (c *Controller) wakeWatcher() {
	select {
	case c.foreign.wake <- struct{}{}:
	default:
	}
}

// healPolicy looks at the packet filters, ours and others', whenever they change.
func (c *Controller) healPolicy(ctx context.Context, changed <-chan struct{}) {
	watched, every := c.legacyTables()
	legacy := time.NewTicker(every)
	defer legacy.Stop()
	again := time.NewTimer(everyLook)
	defer again.Stop()
	last, _ := iptables.Fingerprint(watched...)
	var noticed time.Time // what changed while it rested
	for {
		since := noticed
		noticed = time.Time{}
		if since.IsZero() {
			select {
			case <-ctx.Done():
				return
			case <-changed:
				since = time.Now()
			case <-c.foreign.wake:
			case <-again.C:
			case <-legacy.C:
				now, err := iptables.Fingerprint(watched...)
				if err != nil || now == last {
					continue
				}
				since = time.Now()
			}
		}
		if c.touched() || c.cfg.Firewall == FirewallIPTables {
			// Until our own rules are there again, much is open.
			settle(ctx, changed, quietHost, impatientHost)
		} else {
			settle(ctx, changed, quiet, impatience)
		}
		if ctx.Err() != nil {
			return
		}
		if c.isPaused() {
			continue
		}
		begun := time.Now()
		wait := c.mendFilters(ctx, since)
		took := time.Since(begun)
		again.Reset(max(wait, 4*restShare*took))
		last, _ = iptables.Fingerprint(watched...)
		noticed = c.rest(ctx, took, changed)
	}
}

// rest waits between two looks at the packet filters, and long after one that took long:
// tens of thousands of rules take the kernel seconds to list, and somebody may change one
// of them again and again. Our own tables are not kept waiting. It returns when something
// changed first meanwhile.
func (c *Controller) rest(ctx context.Context, took time.Duration, changed <-chan struct{}) (since time.Time) {
	sleep(ctx, pause)
	if took < longLook || c.cfg.Firewall == FirewallIPTables { // whose rules are among others'
		return since
	}
	end := time.After(min(restShare*took, maxRest) - pause)
	for !c.touched() {
		select {
		case <-changed:
			if since.IsZero() {
				since = time.Now()
			}
		case <-end:
			return since
		case <-ctx.Done():
			return since
		}
	}
	return since
}

// legacyTables are the tables of legacy iptables that matter, and how often they are
// looked at: all that have rules of ours, or others' that may drop what containers send.
func (c *Controller) legacyTables() (tables []string, every time.Duration) {
	if _, variant := c.ownChains(); variant == iptables.Legacy {
		return []string{xtables.Filter, xtables.NAT, xtables.Raw}, legacyOwnEvery
	}
	return []string{xtables.Filter}, legacyEvery
}

// settle waits until nothing has changed for a while.
func settle(ctx context.Context, changed <-chan struct{}, quiet, impatience time.Duration) {
	deadline := time.After(impatience)
	for {
		select {
		case <-changed:
		case <-time.After(quiet):
			return
		case <-deadline:
			return
		case <-ctx.Done():
			return
		}
	}
}

// mendFilters puts back what of ours is missing in the packet filters. It returns when
// to look again though nothing tells.
func (c *Controller) mendFilters(ctx context.Context, since time.Time) time.Duration {
	f := finding{kind: kindRules, on: c.plan.Table, text: "rules that containers need"}
	for _, kind := range []string{kindForeign, kindRules} {
		f.kind = kind
		if wait := c.allowed(f); wait > 0 {
			return wait
		}
	}
	rules, foreign, err := c.mendForeign(ctx)
	if ctx.Err() != nil {
		return everyLook
	}
	if err == nil && len(rules)+len(foreign) == 0 {
		err = errRight
	}
	again := everyLook
	for kind, lines := range map[string][]string{kindRules: rules, kindForeign: foreign} {
		if len(lines) == 0 && (err == nil || kind == kindForeign) {
			continue
		}
		if f.kind = kind; len(lines) > 0 {
			f.text = strings.Join(lines, "; ")
		}
		if wait := c.mended(f, since, err); wait > 0 {
			again = min(again, wait)
		}
	}
	return again
}

// FirewallChanged puts back what of ours another program took away: our rules in
// its chains, our bridges in its zones, and rules of ours that stand in chains it
// can flush. What is the other program's own stays as it is.
func (c *Controller) FirewallChanged(ctx context.Context) error {
	_, _, err := c.mendForeign(ctx)
	return err
}

// mendForeign says what of ours was made again, and what in other programs' chains and
// zones.
func (c *Controller) mendForeign(ctx context.Context) (rules, foreign []string, err error) {
	if c.cfg.Firewall == FirewallNone {
		return nil, nil, nil
	}
	c.netOps.Lock()
	defer c.netOps.Unlock()
	rules, err = c.mendPolicy(ctx)
	foreign, err2 := c.openAbroad(ctx, c.Networks())
	return rules, foreign, errors.Join(err, err2)
}

// openAbroad makes other programs let our networks through, and our guard let
// theirs, and says what it changed. The caller has netOps, or is Restore.
func (c *Controller) openAbroad(ctx context.Context, nets []spec.Network) (changed []string, err error) {
	c.foreign.mending.Lock()
	defer c.foreign.mending.Unlock()
	before, err := c.lookAbroad(ctx, nets)
	if now := c.abroadNow(); err == nil && !now.same(before) {
		err = c.changeServed(ctx, before, now)
	}
	zoned, err2 := c.zoneFirewalld(ctx, nets)
	opened, err3 := c.openForeignForward(ctx, nets)
	return append(zoned, opened...), errors.Join(err, err2, err3)
}

// changeServed has our rules heed what others forward now.
func (c *Controller) changeServed(ctx context.Context, before, now abroad) error {
	c.sayAbroad(before, now)
	if c.cfg.Firewall != FirewallNFTables {
		return c.replacePolicy(ctx)
	}
	lacks := func(names []string) func(string) bool {
		return func(n string) bool { return slices.Contains(names, n) }
	}
	more := slices.DeleteFunc(slices.Clone(now.served), lacks(before.served))
	less := slices.DeleteFunc(slices.Clone(before.served), lacks(now.served))
	return c.fw.Apply(ctx, firewall.ChangeServed(c.plan.Table, more, less))
}

// sayAbroad logs who else forwards.
func (c *Controller) sayAbroad(before, now abroad) {
	if !slices.Equal(before.peers, now.peers) {
		c.log.Info("bridges of other daemons in this host namespace, which the guard of forwarding lets be", "bridges", now.peers)
		c.cfg.Events.Tell("firewall", "neighbours", "", "bridges", strings.Join(now.peers, ","))
	}
	strangers, former := now.strangers(), before.strangers()
	switch {
	case slices.Equal(strangers, former) && slices.Equal(now.others, before.others):
	case len(strangers) == 0 && len(now.others) == 0:
		c.log.Info("no other program forwards any more", "interfaces", former, "guests", before.others)
	default:
		c.log.Info("other programs forward as well; the guard of forwarding lets them, and their guests stay shut off from containers as from others",
			"interfaces", strangers, "guests", now.others)
	}
	if !slices.Equal(strangers, former) || !slices.Equal(now.others, before.others) {
		c.cfg.Events.Tell("firewall", "forwarders", "", "interfaces", strings.Join(strangers, ","), "guests", strings.Join(now.others, ","))
	}
}

// mendPolicy puts our rules back where they are not as they should be, and says how they
// were. The kernel keeps a table for its owner (Linux 6.9): such a one is only looked at
// now and then.
func (c *Controller) mendPolicy(ctx context.Context) (changed []string, err error) {
	touched := c.touched()
	c.foreign.touched.Store(false)
	if owned := c.cfg.Firewall == FirewallNFTables && c.fw.Features().Persist; owned && !touched && time.Since(c.foreign.compared) < everyLook {
		return nil, nil
	}
	c.foreign.compared = time.Now()
	c.mu.Lock()
	nets, members := c.state.Networks(), c.state.Members()
	c.mu.Unlock()
	lines, err := c.enforcer.Compare(ctx, c.policy(nets, members))
	if err != nil || len(lines) == 0 && !touched {
		return nil, err
	}
	// What is being attached is half there: the second look is at leisure.
	err = c.atRest(ctx, func(p firewall.Policy) error {
		lines, err := c.enforcer.Compare(ctx, p)
		if err != nil || len(lines) == 0 && !touched {
			return err
		}
		if changed = summary(lines); len(lines) == 0 {
			changed = []string{"table " + c.plan.Table + " was changed by another program"}
		}
		return c.enforcer.Replace(ctx, p)
	})
	if err != nil && touched {
		c.foreign.touched.Store(true)
	}
	return changed, err
}

// touched says whether another program changed our own tables since they were made.
func (c *Controller) touched() bool {
	if c.foreign.tables != nil && c.foreign.tables.Touched() {
		c.foreign.touched.Store(true)
	}
	return c.foreign.touched.Load()
}

// summary is the first of the lines, and how many more there are.
func summary(lines []string) []string {
	if len(lines) <= 1 {
		return lines
	}
	return []string{lines[0], fmt.Sprintf("and %d more", len(lines)-1)}
}

// replacePolicy makes all of our rules anew.
func (c *Controller) replacePolicy(ctx context.Context) error {
	return c.atRest(ctx, func(p firewall.Policy) error { return c.enforcer.Replace(ctx, p) })
}

// atRest calls f with the wanted policy while no container comes, goes or changes: what
// one had done to the rules meanwhile would be undone.
func (c *Controller) atRest(ctx context.Context, f func(p firewall.Policy) error) error {
	done, err := c.turns.rest(ctx)
	if err != nil {
		return err
	}
	defer done()
	c.mu.Lock()
	nets, members := c.state.Networks(), c.state.Members()
	c.mu.Unlock()
	return f(c.policy(nets, members))
}
