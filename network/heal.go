package network

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/kernel/iptables"
	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
)

const (
	// quiet is how long other programs must have changed nothing before we look:
	// a reload is many changes. impatience is for those that never stop.
	quiet, impatience = 100 * time.Millisecond, time.Second
	// pause is between two looks.
	pause = 500 * time.Millisecond
	// burst is how often we put things back in a row, and refill how long it takes
	// until we do once more: somebody may be taking them away on purpose.
	burst, refill = 20, 10 * time.Second
	// legacyEvery is between two looks at legacy iptables, which has no events.
	legacyEvery = 2 * time.Second
)

// watchForeign readies the watch over other programs' packet filters. What happens
// from now on is seen, but nothing is done until startHealing.
func (c *Controller) watchForeign(ctx context.Context) error {
	c.foreign.wake = make(chan struct{}, 1)
	c.foreign.stopHealing = func() {}
	if c.cfg.Firewall == FirewallNone {
		return nil
	}
	if c.fw != nil {
		port, err := c.fw.Port()
		if err != nil {
			return err
		}
		w, err := nft.Watch(ctx, port)
		if err != nil {
			return err
		}
		c.foreign.changed = w.Changed()
	}
	return nil
}

// startHealing looks at other programs' packet filters whenever they change, until
// stopHealing.
func (c *Controller) startHealing() {
	if c.cfg.Firewall == FirewallNone {
		return
	}
	c.foreign.stopHealing()
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { c.heal(ctx, c.foreign.changed) })
	c.foreign.stopHealing = func() {
		cancel()
		ended.Wait()
	}
}

func (c *Controller) wakeWatcher() {
	select {
	case c.foreign.wake <- struct{}{}:
	default:
	}
}

func (c *Controller) heal(ctx context.Context, changed <-chan struct{}) {
	legacy := time.NewTicker(legacyEvery)
	defer legacy.Stop()
	left, since := burst, time.Now()
	last, _ := iptables.Fingerprint()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-c.foreign.wake:
		case <-legacy.C:
			now, err := iptables.Fingerprint()
			if err != nil || now == last {
				continue
			}
		}
		settle(ctx, changed)
		mended, err := c.mendForeign(ctx)
		if err != nil && ctx.Err() == nil {
			c.log.Error("another program changed the packet filter, and containers may be cut off", "err", err)
		}
		last, _ = iptables.Fingerprint()
		if back := int(time.Since(since) / refill); back > 0 {
			left, since = min(left+back, burst), time.Now()
		}
		wait := pause
		if mended {
			left--
		}
		if left <= 0 {
			c.log.Warn("something takes away again and again what containers need in other programs' packet filters; it is put back more slowly", "every", refill)
			wait = refill
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// settle waits until nothing has changed for a while.
func settle(ctx context.Context, changed <-chan struct{}) {
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

// FirewallChanged puts back what of ours another program took away: our rules in
// its chains, our bridges in its zones, and rules of ours that stand in chains it
// can flush. What is the other program's own stays as it is.
func (c *Controller) FirewallChanged(ctx context.Context) error {
	_, err := c.mendForeign(ctx)
	return err
}

func (c *Controller) mendForeign(ctx context.Context) (changed bool, err error) {
	if c.cfg.Firewall == FirewallNone {
		return false, nil
	}
	c.netOps.Lock()
	defer c.netOps.Unlock()
	ours, err := c.mendPolicy(ctx)
	theirs, err2 := c.openAbroad(ctx, c.Networks())
	return ours || theirs, errors.Join(err, err2)
}

// openAbroad makes other programs let our networks through, and our guard let
// theirs. The caller has netOps, or is Restore.
func (c *Controller) openAbroad(ctx context.Context, nets []spec.Network) (changed bool, err error) {
	c.foreign.mending.Lock()
	defer c.foreign.mending.Unlock()
	before, err := c.lookAbroad(ctx, nets)
	if now := c.abroadNow(); err == nil && !now.same(before) {
		err = c.changeServed(ctx, before, now)
	}
	zoned, err2 := c.zoneFirewalld(ctx, nets)
	opened, err3 := c.openForeignForward(ctx, nets)
	return zoned || opened, errors.Join(err, err2, err3)
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
}

// mendPolicy puts our rules back where another program can take them away: those of
// iptables, and a table that the kernel cannot keep for its owner.
func (c *Controller) mendPolicy(ctx context.Context) (changed bool, err error) {
	if c.cfg.Firewall == FirewallNFTables && c.fw.Features().Persist {
		return false, nil
	}
	c.mu.Lock()
	nets, members := c.state.Networks(), c.state.Members()
	c.mu.Unlock()
	lines, err := c.enforcer.Compare(ctx, c.policy(nets, members))
	if err != nil || len(lines) == 0 {
		return false, err
	}
	// What is being attached is half there: the second look is at leisure.
	err = c.atRest(ctx, func(p firewall.Policy) error {
		lines, err := c.enforcer.Compare(ctx, p)
		if err != nil || len(lines) == 0 {
			return err
		}
		c.log.Warn("another program took rules of ours away; they are made again", "differences", len(lines), "first", lines[0])
		changed = true
		return c.enforcer.Replace(ctx, p)
	})
	return changed, err
}

// replacePolicy makes all of our rules anew.
func (c *Controller) replacePolicy(ctx context.Context) error {
	return c.atRest(ctx, func(p firewall.Policy) error { return c.enforcer.Replace(ctx, p) })
}

// atRest calls f with the wanted policy while no container comes, goes or changes,
// and again where one came meanwhile.
func (c *Controller) atRest(ctx context.Context, f func(p firewall.Policy) error) error {
	for range 5 {
		again, err := c.atRestOnce(ctx, f)
		if err != nil || !again {
			return err
		}
	}
	return fmt.Errorf("containers come faster than their rules can be looked at: %w", context.DeadlineExceeded)
}

func (c *Controller) atRestOnce(ctx context.Context, f func(p firewall.Policy) error) (again bool, err error) {
	for _, a := range c.Attachments() {
		done, err := c.turns.take(ctx, a.Sandbox.ID)
		if err != nil {
			return false, err
		}
		defer done()
	}
	snapshot := func() ([]spec.Network, []firewall.Member) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.state.Networks(), c.state.Members()
	}
	nets, members := snapshot()
	if err := f(c.policy(nets, members)); err != nil {
		return false, err
	}
	netsNow, membersNow := snapshot()
	return !reflect.DeepEqual(nets, netsNow) || !reflect.DeepEqual(members, membersNow), nil
}
