package network

import (
	"context"
	"errors"
	"os"
	"sync"

	"github.com/fairlead/fairlead/kernel/nft"
)

// Ahead is what the kernel is asked before Open, which takes it a while.
type Ahead struct {
	asked    sync.WaitGroup
	features nft.Features
	err      error
}

// LookAhead begins to ask in the process's network namespace: what it takes, a daemon can
// spend with its helpers. Open says what came of it. Nothing is changed.
func LookAhead() *Ahead {
	a := new(Ahead)
	a.asked.Go(func() { a.features, a.err = nft.Ask() })
	return a
}

// kernel waits for what the kernel's nf_tables can do.
func (a *Ahead) kernel() (nft.Features, error) {
	a.asked.Wait()
	return a.features, a.err
}

// openFirewall gets the socket that owns our table from the relay, which keeps it
// while no daemon runs, or makes one and has the relay keep it.
func (c *Controller) openFirewall(ctx context.Context) error {
	f, err := c.cfg.Relay.FirewallSocket(ctx)
	if err != nil {
		return err
	}
	if f == nil {
		if f, err = nft.NewSocket(); err != nil {
			return err
		}
		if err := c.cfg.Relay.KeepFirewallSocket(ctx, f); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	c.fwSocket = f
	if c.fw, err = c.openFirewallBy(f); err != nil {
		return err
	}
	features := c.fw.Features()
	c.mu.Lock()
	c.nftFeatures = &features
	c.mu.Unlock()
	if !features.Bridge {
		c.log.Warn("the kernel has no nf_tables of family bridge (CONFIG_NF_TABLES_BRIDGE): no container can be attached to a network that keeps its containers apart, and containers may send under each other's addresses")
	}
	return nil
}

func (c *Controller) openFirewallBy(f *os.File) (*nft.Conn, error) {
	if c.cfg.Ahead == nil {
		return nft.Open(f)
	}
	features, err := c.cfg.Ahead.kernel()
	if err != nil {
		return nil, err
	}
	return nft.OpenKnown(f, features)
}
