package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/dns"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/kernel/socket"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/relay"
	"github.com/fairlead/fairlead/ruleset"
)

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
		nsErr = o.c.changeInside(ctx, sb.file, ruleset.DeleteTable{Family: ruleset.IPv4, Name: spec.ResolverTable, IgnoreMissing: true})
	}
	if lacksTables(nsErr) {
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
	if !lacksTables(err) {
		return err
	}
	o.c.log.Warn("the kernel has no nftables for IPv4, so that a container's resolver takes its port 53", "operation", "resolve", "container", s.Owner, "err", err)
	return o.c.serveAt(ctx, sb.file, s, dns.Address.Port())
}

// lacksTables says that the kernel has no nf_tables, or no table of IPv4.
func lacksTables(err error) bool {
	return errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) ||
		errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT)
}

// serveAt has the sockets on the port; 0 is one by chance, to which port 53 is turned.
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
	err = c.changeBy(ctx, q.nft, ruleset.ReplaceTable{Table: resolverTurn(q.udpAt, q.tcpAt)})
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

// priorityQuestions is behind connection tracking at -200, if the container wants it, and behind
// its filter at 0 (linux/netfilter_ipv4.h). Answers are turned before both, so that for all that
// it may have set up both are of one flow to port 53.
const priorityQuestions ruleset.Priority = 300

// resolverTurn leads what the container sends to port 53 to the relay's ports, and has
// answers come from port 53. With NAT for it the kernel would track all that goes in and out of
// the sandbox.
func resolverTurn(udp, tcp netip.AddrPort) ruleset.Table {
	address := netip.PrefixFrom(dns.Address.Addr(), dns.Address.Addr().BitLen())
	questions := ruleset.Chain{Name: spec.ResolverQuestions, Type: ruleset.Filter, Hook: ruleset.Output, Priority: priorityQuestions, Policy: ruleset.PolicyAccept}
	answers := ruleset.Chain{Name: spec.ResolverAnswers, Type: ruleset.Filter, Hook: ruleset.Output, Priority: ruleset.PriorityRaw, Policy: ruleset.PolicyAccept}
	for _, of := range []struct {
		protocol ruleset.TransportProtocol
		port     uint16
	}{{ruleset.TransportUDP, udp.Port()}, {ruleset.TransportTCP, tcp.Port()}} {
		questions.Rules = append(questions.Rules, ruleset.NewRule("names are answered outside the container",
			ruleset.Address{Selector: ruleset.IPDAddr, Prefix: address},
			ruleset.PortIs{Protocol: of.protocol, Selector: ruleset.THDPort, Port: dns.Address.Port()},
			ruleset.SetPort{Protocol: of.protocol, Selector: ruleset.THDPort, Port: of.port}))
		answers.Rules = append(answers.Rules, ruleset.NewRule("answers come from where the question went",
			ruleset.Address{Selector: ruleset.IPSAddr, Prefix: address},
			ruleset.PortIs{Protocol: of.protocol, Selector: ruleset.THSPort, Port: of.port},
			ruleset.SetPort{Protocol: of.protocol, Selector: ruleset.THSPort, Port: dns.Address.Port()}))
	}
	return ruleset.Table{Family: ruleset.IPv4, Name: spec.ResolverTable, Chains: []ruleset.Chain{questions, answers}}
}

// cutOff says that the resolver of a sandbox is there and nothing leads questions to it,
// or answers back: a container that may change its own rules has thrown them away, or
// those of one chain. What is not pinned is told of by others.
func (c *Controller) cutOff(path string) (cut bool, err error) {
	ns, err := netns.Open(path)
	if err != nil {
		return false, nil // such a namespace is a difference of its own
	}
	defer func() { _ = ns.Close() }()
	var f *os.File
	err = netns.Do(ns, func() error {
		all, err := socket.Listeners()
		byTable := slices.ContainsFunc(all, func(l socket.Listener) bool {
			return l.Local.Addr() == dns.Address.Addr() && l.Local.Port() != dns.Address.Port()
		})
		if byTable { // else it has port 53 itself, where the kernel has no tables
			f, err = nft.NewSocket()
		}
		return err
	})
	if err != nil || f == nil {
		return false, err
	}
	conn, err := c.openInside(f)
	if err != nil {
		return false, errors.Join(err, f.Close())
	}
	has, err := conn.HasRules(ruleset.IPv4, spec.ResolverTable, spec.ResolverQuestions, spec.ResolverAnswers)
	return !has, errors.Join(err, f.Close())
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

// changeBy makes changes by a socket of another namespace.
func (c *Controller) changeBy(ctx context.Context, f *os.File, changes ...ruleset.Change) error {
	conn, err := c.openInside(f)
	if err != nil {
		return err
	}
	return conn.Apply(ctx, changes)
}

// openInside speaks to nf_tables by a socket of another namespace. What the kernel can do
// is asked once.
func (c *Controller) openInside(f *os.File) (*nft.Conn, error) {
	c.mu.Lock()
	features := c.nftFeatures
	c.mu.Unlock()
	if features != nil {
		return nft.OpenKnown(f, *features)
	}
	conn, err := nft.Open(f)
	if err != nil {
		return nil, err
	}
	found := conn.Features()
	c.mu.Lock()
	c.nftFeatures = &found
	c.mu.Unlock()
	return conn, nil
}
