package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/kernel/sysctl"
	"github.com/fairlead/fairlead/network/apply"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/ports"
	"github.com/fairlead/fairlead/relay"
)

// goneWithin is how long a dropped namespace may take to take its links along
// before they are deleted by hand: something else, such as somebody's nsenter,
// holds it open then.
const goneWithin = 50 * time.Millisecond

// operation does the steps of one operation on the kernel. It holds one handle
// for each namespace the operation enters, for as long as it runs.
type operation struct {
	c    *Controller
	held []ports.Held
	ns   map[string]*sandbox
	// whole says that of a step that fails nothing is to be left, also where it may
	// have been done: what makes is undone, what takes away is tried again.
	whole bool
}

// sandbox is an entered namespace.
type sandbox struct {
	file  *os.File
	links *link.Handle
}

func (c *Controller) newOperation(held []ports.Held) *operation {
	return &operation{c: c, held: held, ns: make(map[string]*sandbox)}
}

// close lets go of namespaces and of sockets that nobody took over: an open file
// would keep a dropped namespace alive.
func (o *operation) close() error {
	errs := []error{ports.Drop(o.held)}
	o.held = nil
	for path := range o.ns {
		errs = append(errs, o.leave(path))
	}
	return errors.Join(errs...)
}

func (o *operation) enter(path string) (*sandbox, error) {
	if s, ok := o.ns[path]; ok {
		return s, nil
	}
	f, err := netns.Open(path)
	if err != nil {
		return nil, err
	}
	h, err := link.Open(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s := &sandbox{f, h}
	o.ns[path] = s
	return s, nil
}

func (o *operation) leave(path string) error {
	s, ok := o.ns[path]
	if !ok {
		return nil
	}
	delete(o.ns, path)
	return errors.Join(s.links.Close(), s.file.Close())
}

// Do implements apply.Kernel.
func (o *operation) Do(ctx context.Context, steps []plan.Step) error {
	for _, step := range steps {
		if err := o.do(ctx, step); err != nil {
			if left := o.takeBack(ctx, step, err); left != nil {
				return &apply.LeftError{Cause: err, Left: left}
			}
			return err
		}
	}
	return nil
}

// takeBack undoes a step that failed and may have been done. Those that are not here
// see to it themselves.
func (o *operation) takeBack(ctx context.Context, step plan.Step, cause error) error {
	if !o.whole {
		return nil
	}
	var refused *nft.Error
	switch step.(type) {
	case plan.Firewall:
		if errors.As(cause, &refused) {
			return nil // for certain; and what it ran into may be somebody else's
		}
	case plan.Resolver, plan.Republish, plan.Redirect:
	default:
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	return apply.Again(func() error { return o.undo(ctx, step) })
}

func (o *operation) do(ctx context.Context, step plan.Step) error {
	switch s := step.(type) {
	case plan.Sysctl:
		return o.c.sysctls.set(s.Key, s.Value)
	case plan.Namespace:
		return o.makeNamespace(s)
	case plan.Bridge:
		o.c.ground.Lock()
		defer o.c.ground.Unlock()
		return o.c.ensureBridge(s)
	case plan.Veth:
		return o.makeVeth(s)
	case plan.Interface:
		return o.configure(ctx, s)
	case plan.Firewall:
		return o.c.changeFirewall(ctx, s.Changes)
	case plan.Publish:
		return o.publish(ctx, s)
	case plan.Redirect:
		return o.c.redirect(s, false)
	case plan.Withdraw:
		return o.c.cfg.Relay.Release(ctx, s.Owner)
	case plan.DropNamespace:
		return o.dropNamespace(ctx, s)
	case plan.ForgetFlows:
		return o.forgetFlows(s)
	case plan.Resolver:
		return o.resolve(ctx, s)
	case plan.Announce:
		return o.c.links.Announce(s.Bridge, []byte(s.MAC), s.Addrs)
	case plan.DefaultRoutes:
		return o.route(s.Namespace, s.Routes)
	case plan.Republish:
		return o.republish(ctx, s.Owner, s.Bindings)
	case plan.DropLink:
		return o.c.deleteLink(s.Name, s.Alias)
	}
	return fmt.Errorf("step %T: %w", step, errdefs.ErrNotImplemented)
}

// Undo implements apply.Kernel.
func (o *operation) Undo(ctx context.Context, steps []plan.Step) error {
	var errs []error
	for i := len(steps) - 1; i >= 0; i-- {
		errs = append(errs, o.undo(ctx, steps[i]))
	}
	return errors.Join(errs...)
}

func (o *operation) undo(ctx context.Context, step plan.Step) error {
	switch s := step.(type) {
	case plan.Sysctl:
		return o.c.sysctls.restore(s.Key)
	case plan.Namespace:
		return errors.Join(o.leave(s.Path), netns.Remove(s.Path))
	case plan.Bridge:
		o.c.ground.Lock()
		defer o.c.ground.Unlock()
		return o.c.deleteBridge(s)
	case plan.Veth:
		return o.c.deleteLink(s.Name, s.Alias)
	case plan.Interface:
		return nil // it goes with its veth
	case plan.Firewall:
		return o.c.changeFirewall(ctx, s.Reverse)
	case plan.Publish:
		return o.c.cfg.Relay.Release(ctx, s.Owner)
	case plan.Redirect:
		return o.c.redirect(s, true)
	case plan.DefaultRoutes:
		return o.route(s.Namespace, s.Former)
	case plan.Republish:
		return o.republish(context.WithoutCancel(ctx), s.Owner, s.Former)
	case plan.Resolver:
		return o.undoResolve(ctx, s)
	case plan.Withdraw, plan.DropNamespace, plan.ForgetFlows, plan.DropLink, plan.Announce:
		return nil // what only takes away is finished, never taken back
	}
	return fmt.Errorf("step %T: %w", step, errdefs.ErrNotImplemented)
}

func (o *operation) makeNamespace(s plan.Namespace) error {
	if err := netns.New(s.Path); err != nil {
		return err
	}
	sb, err := o.enter(s.Path)
	if err == nil {
		err = sb.links.LoopbackUp()
	}
	if err == nil && len(s.Sysctls) > 0 {
		err = sysctl.SetIn(sb.file, s.Sysctls)
	}
	if err != nil {
		return errors.Join(err, o.leave(s.Path), netns.Remove(s.Path))
	}
	return nil
}

func (o *operation) makeVeth(s plan.Veth) error {
	sb, err := o.enter(s.Namespace)
	if err != nil {
		return err
	}
	err = o.c.links.CreateVeth(link.Veth{
		Name: s.Name, MAC: []byte(s.MAC), Alias: s.Alias, MTU: s.MTU, Bridge: s.Bridge,
		PeerName: s.Peer, PeerMAC: []byte(s.PeerMAC), PeerNS: sb.file, Hairpin: s.Hairpin, Fixed: s.Fixed,
	})
	if err != nil {
		return err
	}
	if s.NoIPv6 {
		_, err = sysctl.Set("net/ipv6/conf/"+s.Name+"/disable_ipv6", "1")
	}
	if err == nil {
		err = o.c.links.Configure(s.Name, link.Config{Up: true})
	}
	if err != nil {
		return errors.Join(err, o.c.links.Delete(s.Name))
	}
	return nil
}

func (o *operation) configure(ctx context.Context, s plan.Interface) error {
	sb, err := o.enter(s.Namespace)
	if err != nil {
		return err
	}
	if !s.IPv6 {
		// Also where the host has it off: a namespace is born with it on. A
		// kernel without IPv6 has no such key.
		key := "net/ipv6/conf/" + s.Name + "/disable_ipv6"
		if err := sysctl.SetIn(sb.file, map[string]string{key: "1"}); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if len(s.Sysctls) > 0 {
		if err := sysctl.SetIn(sb.file, s.Sysctls); err != nil {
			return err
		}
	}
	if err := sb.links.Configure(s.Name, link.Config{Addrs: s.Addrs, Gateways: s.Gateways, Up: true}); err != nil {
		return err
	}
	if err := o.c.links.Settle(ctx, s.HostIf, s.Bridge); err != nil || !s.IPv6 {
		return err
	}
	if err := sb.links.SettleIPv6(ctx, s.Name); err != nil {
		return err
	}
	// The bridge's own are joined when its first port carries.
	if _, done := o.c.settled.Load(s.Bridge); done {
		return nil
	}
	o.c.settled.Store(s.Bridge, true)
	return o.c.links.SettleIPv6(ctx, s.Bridge)
}

// publish hands the sockets over first and takes their filters off last, so that
// nothing gets in before the relay is there to answer.
func (o *operation) publish(ctx context.Context, s plan.Publish) error {
	bindings := make([]relay.Binding, 0, len(o.held))
	for _, h := range o.held {
		bindings = append(bindings, o.c.relayBinding(s.Owner, h))
	}
	if err := o.c.cfg.Relay.Hold(ctx, bindings); err != nil {
		return errors.Join(err, o.c.cfg.Relay.Release(context.WithoutCancel(ctx), s.Owner))
	}
	if err := o.c.activate(o.held); err != nil {
		return errors.Join(err, o.c.cfg.Relay.Release(context.WithoutCancel(ctx), s.Owner))
	}
	held := o.held
	o.held = nil
	return ports.Drop(held)
}

func (c *Controller) relayBinding(owner string, h ports.Held) relay.Binding {
	return relay.Binding{
		Owner: owner, Proto: string(h.Proto), Host: h.Host, Backend: h.Container,
		Proxy: c.proxied(h.PortBinding), File: h.Socket,
	}
}

// dropNamespace unpins the sandbox and waits for the kernel to say that its links
// are gone. A link that outlives it is taken off its bridge at once and deleted.
func (o *operation) dropNamespace(ctx context.Context, s plan.DropNamespace) error {
	gone := make([]<-chan struct{}, len(s.HostIfs))
	for i, name := range s.HostIfs {
		gone[i] = o.c.watch.Gone(name)
	}
	errs := []error{o.leave(s.Path), netns.Remove(s.Path)}
	deadline := time.NewTimer(goneWithin)
	defer deadline.Stop()
	for i, name := range s.HostIfs {
		if _, err := o.c.links.Link(name); errors.Is(err, errdefs.ErrNotFound) {
			continue
		}
		select {
		case <-gone[i]:
		case <-deadline.C:
			deadline.Reset(0)
			errs = append(errs, o.c.links.Delete(name))
		case <-ctx.Done():
			errs = append(errs, ctx.Err())
		}
	}
	return errors.Join(errs...)
}
