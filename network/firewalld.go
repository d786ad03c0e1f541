package network

import (
	"context"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/firewalld"
	"github.com/fairlead/fairlead/network/spec"
)

// busTimeout is how long firewalld may take: a reload with many rules, say.
const busTimeout = time.Minute

// firewalldHere returns the firewalld of this host namespace, nil where none runs.
func (c *Controller) firewalldHere(ctx context.Context) (*firewalld.Conn, error) {
	if c.foreign.bus == nil {
		bus, err := firewalld.Dial(ctx)
		if errdefs.IsNotFound(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		c.foreign.bus = bus
		go c.heedFirewalld(bus)
	}
	running, err := c.foreign.bus.Running(ctx)
	if err != nil || !running {
		return nil, err
	}
	return c.foreign.bus, nil
}

// heedFirewalld has the watcher look whenever firewalld came, went or reloaded.
func (c *Controller) heedFirewalld(bus *firewalld.Conn) {
	for range bus.Signals() {
		c.wakeWatcher()
	}
	c.foreign.mending.Lock()
	if c.foreign.bus == bus {
		c.foreign.bus = nil
	}
	c.foreign.mending.Unlock()
	_ = bus.Close()
}

// zoneFirewalld has our bridges in firewalld's zone of ours, and says what it changed.
func (c *Controller) zoneFirewalld(ctx context.Context, nets []spec.Network) (changed []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	c.foreign.zoned = false
	bus, err := c.firewalldHere(ctx)
	if bus == nil || err != nil {
		return nil, err
	}
	c.foreign.zoned = true
	done, err := bus.Serve(ctx, bridges(nets))
	for _, line := range done {
		c.log.Info("firewalld runs: "+line, "operation", "let containers through")
		changed = append(changed, "firewalld: "+line)
	}
	return changed, err
}

// lackZone is what zoneFirewalld would put right. The caller has mending.
func (c *Controller) lackZone(ctx context.Context, nets []spec.Network) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	bus, err := c.firewalldHere(ctx)
	if bus == nil || err != nil {
		return nil, err
	}
	return bus.Lack(ctx, bridges(nets))
}

// greetFirewalld has a new network's bridge in the zone. Where that fails the network
// is there all the same, as are others that firewalld came after.
func (c *Controller) greetFirewalld(ctx context.Context, n spec.Network) {
	if c.cfg.Firewall == FirewallNone {
		return
	}
	c.foreign.mending.Lock()
	defer c.foreign.mending.Unlock()
	if _, err := c.zoneFirewalld(ctx, c.Networks()); err != nil {
		c.log.Error("firewalld may cut a network's containers off", "operation", "policy", "network", n.Name, "err", err)
	}
}

// unzoneFirewalld takes the bridges of the networks out of our zone; with all, the
// zone goes too, unless another daemon's bridges are in it.
func (c *Controller) unzoneFirewalld(ctx context.Context, nets []spec.Network, all bool) error {
	ctx, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	c.foreign.mending.Lock()
	defer c.foreign.mending.Unlock()
	bus, err := c.firewalldHere(ctx)
	if bus == nil || err != nil {
		return err
	}
	if err := bus.Withdraw(ctx, bridges(nets)...); err != nil || !all {
		return err
	}
	return bus.Remove(ctx)
}

func bridges(nets []spec.Network) []string {
	out := make([]string, 0, len(nets))
	for _, n := range nets {
		out = append(out, n.Bridge)
	}
	return out
}

// closeForeign ends the watch over other programs.
func (c *Controller) closeForeign() error {
	c.foreign.mending.Lock()
	defer c.foreign.mending.Unlock()
	if c.foreign.bus == nil {
		return nil
	}
	return c.foreign.bus.Close()
}
