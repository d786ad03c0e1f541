// Package network is the heart of Fairlead and a library of its own: it gives
// sandboxes (network namespaces) their endpoints on networks, publishes their
// ports, and keeps the kernel as the wanted state says.
//
// The wanted state is ours and the kernel's is derived from it. A request goes
// through package plan, which decides and orders, and package apply, which
// journals and runs the steps; this package owns the state and does the steps on
// the kernel. Restore may run at any time and is the only way to start.
//
// It knows nothing of containers' processes, of HTTP, or of containerd.
package network

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/conntrack"
	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/loopback"
	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/kernel/socket"
	"github.com/fairlead/fairlead/kernel/sysctl"
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/ipam"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/store"
)

// Group is the device group (ip-link(8)) of every bridge of ours, whichever
// daemon's: one constant rule in a foreign chain can then speak of all of them.
const Group = firewall.DefaultGroup

// Controller owns the wanted state of one host namespace.
type Controller struct {
	cfg   Config
	plan  plan.Config
	log   *slog.Logger
	links *link.Handle
	// looking is for surveys, so that nobody else waits for them.
	looking *link.Handle
	watch   *link.Watcher
	// stopWatch ends watch.
	stopWatch context.CancelFunc
	// fw is nil where the kernel has no nftables and none is needed.
	fw *nft.Conn
	// fwSocket is what fw works on; the relay has a copy.
	fwSocket *os.File
	enforcer enforcer
	foreign  foreignRules

	// hooks serve loopback; nil where the userland proxy does, or nobody.
	hooks *loopback.Hooks

	// fast takes containers' frames past bridges.
	fast shortcut

	networks *networkRecords
	journal  *store.Journal[record]
	sysctls  *sysctlBook

	// netOps serialises making and removing networks, which choose subnets by
	// what the host uses at that moment.
	netOps sync.Mutex

	mu sync.Mutex // no I/O under it
	// nftFeatures are the kernel's, once asked.
	nftFeatures *nft.Features
	state       *plan.State

	// unheld are whose ports are tried to be held.
	unheld unheld
	// unended are operations of which something is left.
	unended unended
	// flows are those that the kernel tracks.
	flows conntrack.Handle
	// spares are sandboxes made before they are asked for.
	spares spares
	// departing are links that the kernel is about to take away.
	departing departing

	// ground has bridges made, mended and deleted one at a time.
	ground sync.Mutex
	healer healer
	pins   pins
	drops  dropWatch // of the goroutine that heals

	// turns has one operation at a time on each sandbox.
	turns turns
	// settled are the bridges whose IPv6 addresses neighbours can find.
	settled sync.Map
	// linking has one change at a time of what links allow.
	linking sync.Mutex
}

// Open readies a Controller. Nothing is done to the kernel until Restore.
func Open(ctx context.Context, cfg Config) (*Controller, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Pools == nil {
		cfg.Pools = ipam.DefaultPools()
	}
	if cfg.Default.Bridge == "" {
		cfg.Default.Bridge = DefaultBridge
	}
	c := &Controller{cfg: cfg, log: cfg.Log}
	c.healer.noticed.wake = make(chan struct{}, 1)
	if err := c.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open the network: %w", err), c.Close())
	}
	return c, nil
}

func (c *Controller) open(ctx context.Context) error {
	lo, hi, err := socket.EphemeralRange()
	if err != nil {
		return err
	}
	v6, err := hostHasIPv6()
	if err != nil {
		return err
	}
	c.plan = plan.Config{
		Daemon:        c.cfg.Store.ID(),
		ExecRoot:      c.cfg.ExecRoot,
		Table:         firewall.TableName(c.cfg.Default.bridgeName(), DefaultBridge),
		Group:         Group,
		Pools:         c.cfg.Pools,
		UserlandProxy: c.cfg.UserlandProxy, NetworkOptions: c.cfg.NetworkOptions,
		HostIPv6: v6,
		SCTP:     socket.Supported(string(spec.SCTP)),

		EphemeralLow:  lo,
		EphemeralHigh: hi,
	}
	if c.networks, err = openNetworkRecords(c.cfg.Store, c.cfg.ExecRoot, c.log); err != nil {
		return err
	}
	var stale bool
	if c.journal, stale, err = store.OpenJournal[record](c.cfg.ExecRoot); err != nil {
		return err
	}
	if stale {
		c.log.Info("the machine was booted since: leases of then are dropped")
	}
	if err = keepID(c.cfg.ExecRoot, c.plan.Daemon); err != nil {
		return err
	}
	if c.sysctls, err = openSysctlBook(filepath.Join(c.cfg.ExecRoot, "state", "sysctls.json"), filepath.Join(c.cfg.Store.Dir(), "sysctls.json")); err != nil {
		return err
	}
	if c.links, err = link.Open(nil); err != nil {
		return err
	}
	if c.looking, err = link.Open(nil); err != nil {
		return err
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stopWatch = stop
	if c.watch, err = c.links.Watch(watching); err != nil {
		return err
	}
	if err := c.openEnforcer(ctx); err != nil {
		return err
	}
	if err := c.watchForeign(watching); err != nil {
		return err
	}
	if err := errors.Join(c.openLoopback(ctx), c.openFastPath()); err != nil {
		return err
	}
	c.state = plan.NewState(c.plan)
	return nil
}

func hostHasIPv6() (bool, error) {
	off, err := sysctl.Get("net.ipv6.conf.all.disable_ipv6")
	if errdefs.IsNotFound(err) {
		return false, nil // a kernel without it
	}
	return err == nil && off == "0", err
}

// Close lets go of sockets; the kernel stays as it is.
func (c *Controller) Close() error {
	c.stopHealing()
	c.stopHolding()
	c.stopEnding()
	c.departing.ended.Wait()
	errs := []error{c.closeForeign()}
	for _, one := range c.spares.drain() {
		errs = append(errs, one.close())
	}
	if c.journal != nil {
		c.journal.Settle()
		errs = append(errs, c.journal.EndLog())
	}
	if c.stopWatch != nil {
		c.stopWatch()
	}
	c.flows.Close()
	if c.links != nil {
		errs = append(errs, c.links.Close())
	}
	if c.looking != nil {
		errs = append(errs, c.looking.Close())
	}
	if c.fwSocket != nil {
		errs = append(errs, c.fwSocket.Close())
	}
	if c.hooks != nil {
		errs = append(errs, c.hooks.Close())
	}
	errs = append(errs, c.closeFastPath())
	return errors.Join(errs...)
}

func newID() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails: crypto/rand crashes the program instead
	return hex.EncodeToString(b)
}

func birth() plan.Birth { return plan.Birth{ID: newID(), Time: time.Now().UTC()} }
