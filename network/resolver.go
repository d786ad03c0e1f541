package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/dns"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/kernel/socket"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/relay"
	"github.com/fairlead/fairlead/ruleset"
)

// resolverTable is the table in a sandbox that leads 127.0.0.11:53 to the port
// where the relay answers.
const resolverTable = "fairlead_resolver"

// resolve does the step: see plan.Resolver.
func (o *operation) resolve(ctx context.Context, s plan.Resolver) error {
	switch {
	case s.Sandbox == nil:
		return o.unresolve(ctx, s)
	case s.Former != nil:
		err := o.c.cfg.Relay.Resolve(ctx, relay.Resolver{Sandbox: *s.Sandbox})
		if !errdefs.IsNotFound(err) {
			return err
		}
	}
	return o.serveNames(ctx, s)
}

// unresolve does the step backwards.
func (o *operation) undoResolve(ctx context.Context, s plan.Resolver) error {
	s.Sandbox, s.Former = s.Former, s.Sandbox
	return o.resolve(ctx, s)
}

func (o *operation) unresolve(ctx context.Context, s plan.Resolver) error {
	err := o.c.cfg.Relay.Unresolve(ctx, s.Owner)
	if !netns.IsPinned(s.Namespace) {
		return err // it is gone, and the table with it
	}
	sb, nsErr := o.enter(s.Namespace)
	if nsErr == nil {
		nsErr = o.c.changeInside(ctx, sb.file, ruleset.DeleteTable{Family: ruleset.IPv4, Name: resolverTable, IgnoreMissing: true})
	}
	if lacksNAT(nsErr) {
		nsErr = nil
	}
	return errors.Join(err, nsErr)
}

// serveNames opens the sockets in the sandbox, gives them to the relay, and then
// leads queries to them. Where the kernel cannot, they take port 53 themselves.
func (o *operation) serveNames(ctx context.Context, s plan.Resolver) error {
	sb, err := o.enter(s.Namespace)
	if err != nil {
		return err
	}
	err = o.c.serveAt(ctx, sb.file, s, 0)
	if !lacksNAT(err) {
		return err
	}
	o.c.log.Warn("the kernel has no NAT by nftables, so that a container's resolver takes its port 53", "operation", "resolve", "container", s.Owner, "err", err)
	return o.c.serveAt(ctx, sb.file, s, dns.Address.Port())
}

// lacksNAT says that the kernel has no nf_tables, no table of IPv4, or no NAT in one.
func lacksNAT(err error) bool {
	return errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) ||
		errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT)
}

// serveAt has the sockets on the port; 0 is one by chance, with NAT.
func (c *Controller) serveAt(ctx context.Context, ns *os.File, s plan.Resolver, port uint16) error {
	q := resolverSockets{}
	defer func() { _ = q.close() }() // the relay has its own copies
	if err := netns.Do(ns, func() error { return q.open(port) }); err != nil {
		return err
	}
	err := c.cfg.Relay.Resolve(ctx, relay.Resolver{Sandbox: *s.Sandbox, UDP: q.udp, TCP: q.tcp})
	if err != nil || port != 0 {
		return err
	}
	err = c.changeBy(ctx, q.nft, ruleset.ReplaceTable{Table: resolverNAT(q.udpAt, q.tcpAt)})
	if err != nil {
		return errors.Join(
			fmt.Errorf("lead %s to the resolver: %w", dns.Address, err),
			c.cfg.Relay.Unresolve(context.WithoutCancel(ctx), s.Owner))
	}
	return nil
}

// resolverSockets are opened inside a sandbox.
type resolverSockets struct {
	udp, tcp, nft *os.File
	udpAt, tcpAt  netip.AddrPort
}

func (q *resolverSockets) open(port uint16) (err error) {
	at := netip.AddrPortFrom(dns.Address.Addr(), port)
	if port == 0 {
		if q.nft, err = nft.NewSocket(); err != nil {
			return err
		}
	}
	if q.udp, q.udpAt, err = socket.ListenOpen("udp", at); err != nil {
		return err
	}
	q.tcp, q.tcpAt, err = socket.ListenOpen("tcp", at)
	return err
}

func (q *resolverSockets) close() error {
	var errs []error
	for _, f := range []*os.File{q.udp, q.tcp, q.nft} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// resolverNAT is for what the container sends itself; answers are translated back
// by connection tracking.
func resolverNAT(udp, tcp netip.AddrPort) ruleset.Table {
	const ports = "resolver"
	element := func(proto ruleset.Value, to netip.AddrPort) ruleset.Element {
		return ruleset.Element{
			Key:  []ruleset.Value{proto, ruleset.Addr(dns.Address.Addr()), ruleset.Port(dns.Address.Port())},
			Data: []ruleset.Value{ruleset.Addr(to.Addr()), ruleset.Port(to.Port())},
		}
	}
	return ruleset.Table{
		Family: ruleset.IPv4, Name: resolverTable,
		Sets: []ruleset.Set{{
			Name: ports, Key: []ruleset.DataType{ruleset.InetProto, ruleset.IPv4Addr, ruleset.InetService},
			Data:     []ruleset.DataType{ruleset.IPv4Addr, ruleset.InetService},
			Elements: []ruleset.Element{element(ruleset.UDP, udp), element(ruleset.TCP, tcp)},
		}},
		Chains: []ruleset.Chain{{
			Name: "nat_output", Type: ruleset.NAT, Hook: ruleset.Output, Priority: ruleset.PriorityDstNAT, Policy: ruleset.PolicyAccept,
			Rules: []ruleset.Rule{ruleset.NewRule("names are answered outside the container", ruleset.DNAT{
				Family: ruleset.IPv4, Key: []ruleset.Selector{ruleset.L4Proto, ruleset.IPDAddr, ruleset.THDPort}, Map: ports,
			})},
		}},
	}
}

// changeInside makes changes in the ruleset of another namespace.
func (c *Controller) changeInside(ctx context.Context, ns *os.File, changes ...ruleset.Change) error {
	var f *os.File
	err := netns.Do(ns, func() (err error) {
		f, err = nft.NewSocket()
		return err
	})
	if err != nil {
		return err
	}
	return errors.Join(c.changeBy(ctx, f, changes...), f.Close())
}

// changeBy makes changes by a socket of another namespace. What the kernel can do
// is asked once.
func (c *Controller) changeBy(ctx context.Context, f *os.File, changes ...ruleset.Change) error {
	c.mu.Lock()
	features := c.nftFeatures
	c.mu.Unlock()
	var conn *nft.Conn
	var err error
	if features != nil {
		conn, err = nft.OpenKnown(f, *features)
	} else if conn, err = nft.Open(f); err == nil {
		found := conn.Features()
		c.mu.Lock()
		c.nftFeatures = &found
		c.mu.Unlock()
	}
	if err != nil {
		return err
	}
	return conn.Apply(ctx, changes)
}
