package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/kernel/sysctl"
	"github.com/fairlead/fairlead/network/apply"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/ports"
	"github.com/fairlead/fairlead/relay"
)

// operation does the steps of one operation on the kernel. It holds one handle
// for each namespace the operation enters, for as long as it runs.
type operation struct {
	c    *Controller
	held []ports.Held
	ns   map[string]*sandbox
	// whole says that of a step that fails nothing is to be left, also where it may
	// have been done: what makes is undone, what takes away is tried again.
	whole bool
	// spare is a sandbox made before, to be used for the one this makes.
	spare *spare
}

// sandbox is an entered namespace.
type sandbox struct {
	file  *os.File
	links *link.Handle
	// spare names the host's end of a veth pair that is there already, whose other end
	// is eth0 here, without IPv6.
	spare string
}

func (c *Controller) newOperation(held []ports.Held) *operation {
	return &operation{c: c, held: held, ns: make(map[string]*sandbox)}
}

// close lets go of namespaces and of sockets that nobody took over: an open file
// would keep a dropped namespace alive.
func (o *operation) close() error {
	errs := []error{ports.Drop(o.held)}
	o.held = nil
	if o.spare != nil {
		errs = append(errs, o.c.discard(o.spare)) // it was not used
	}
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
	s := &sandbox{file: f, links: h}
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
		err := o.makeVeth(s)
		if errors.Is(err, unix.EXFULL) {
			o.c.departing.settle(ctx)
			err = o.makeVeth(s)
		}
		return err
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
		return o.c.forgetFlows(s)
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
	sb, err := o.newSandbox(s.Path)
	if err == nil && len(s.Sysctls) > 0 {
		err = sysctl.SetIn(sb.file, s.Sysctls)
	}
	if err != nil && !errdefs.IsAlreadyExists(err) {
		err = errors.Join(err, o.leave(s.Path), netns.Remove(s.Path))
	}
	return err
}

// newSandbox pins a namespace with lo up.
func (o *operation) newSandbox(path string) (*sandbox, error) {
	if o.spare != nil {
		return o.useSpare(path)
	}
	if err := netns.New(path); err != nil {
		return nil, err
	}
	sb, err := o.enter(path)
	if err == nil {
		err = sb.links.LoopbackUp()
	}
	return sb, err
}

func (o *operation) makeVeth(s plan.Veth) error {
	sb, err := o.enter(s.Namespace)
	if err != nil {
		return err
	}
	v := link.Veth{
		Name: s.Name, MAC: []byte(s.MAC), Alias: s.Alias, MTU: s.MTU, Bridge: s.Bridge,
		PeerName: s.Peer, PeerMAC: []byte(s.PeerMAC), PeerNS: sb.file, Hairpin: s.Hairpin, Fixed: s.Fixed,
	}
	placed := false
	if sb.spare == s.Name {
		placed, err = o.placeSpare(sb, v)
	}
	if err == nil && !placed {
		if err = o.c.links.CreateVeth(v); err != nil {
			return err
		}
		if s.NoIPv6 {
			_, err = sysctl.Set("net/ipv6/conf/"+s.Name+"/disable_ipv6", "1")
		}
	}
	if err == nil {
		err = o.c.links.Configure(s.Name, link.Config{Up: true})
	}
	if err != nil {
		sb.spare = "" // it is no more
		return errors.Join(err, o.c.links.Delete(s.Name))
	}
	return nil
}

// placeSpare makes the spare's pair what CreateVeth would have made. Of a pair whose end
// here somebody has deleted, renamed or moved meanwhile it takes what is left away, and
// says that none is placed.
func (o *operation) placeSpare(sb *sandbox, v link.Veth) (placed bool, err error) {
	if err = o.c.links.PlaceVeth(v); err == nil {
		return true, sb.links.Set(v.PeerName, link.Attributes{MAC: v.PeerMAC, MTU: v.MTU})
	}
	if _, there := o.c.links.Link(v.Name); !errdefs.IsNotFound(there) {
		return false, err
	}
	sb.spare = ""
	return false, sb.links.Delete(v.PeerName)
}

func (o *operation) configure(ctx context.Context, s plan.Interface) error {
	sb, err := o.enter(s.Namespace)
	if err != nil {
		return err
	}
	if spare := sb.spare == s.HostIf; s.IPv6 == spare {
		// Also where the host has it off: a namespace is born with it on.
		if err := setIPv6(sb.file, s.Name, s.IPv6); err != nil {
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

// setIPv6 says whether the link in the namespace has it. A kernel without IPv6 has no
// such key.
func setIPv6(ns *os.File, name string, on bool) error {
	err := sysctl.SetIn(ns, map[string]string{"net/ipv6/conf/" + name + "/disable_ipv6": map[bool]string{true: "0", false: "1"}[on]})
	if errors.Is(err, fs.ErrNotExist) && !on {
		return nil
	}
	return err
}

// publish hands the sockets over to the relay, which lets in who comes.
func (o *operation) publish(ctx context.Context, s plan.Publish) error {
	bindings := make([]relay.Binding, 0, len(o.held))
	for _, h := range o.held {
		bindings = append(bindings, o.c.relayBinding(s.Owner, h))
	}
	if err := o.c.cfg.Relay.Hold(ctx, bindings); err != nil {
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
