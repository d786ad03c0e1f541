package link

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// change is one request with what it is called in messages.
type change struct {
	what string
	req  *request
}

// apply sends the changes together and returns what failed first: what failed after it
// did so because of it, as a rule.
func (h *Handle) apply(changes ...change) error {
	if len(changes) == 0 {
		return nil
	}
	reqs := make([]*request, len(changes))
	for i, c := range changes {
		reqs[i] = c.req
	}
	answers, err := h.c.do(reqs...)
	if err != nil {
		return fmt.Errorf("%s: %w", changes[0].what, err)
	}
	for i, a := range answers {
		if a.err != nil {
			return fmt.Errorf("%s: %w", changes[i].what, classify(a.err))
		}
	}
	return nil
}

// created makes up for a lost answer to the request for a link: the one there is is
// ours if it has the hardware address that was asked for, and is then taken as made.
func (h *Handle) created(err error, want Link) error {
	if !errors.Is(err, errUnheard) || want.MAC == nil {
		return err
	}
	have, readErr := h.get(want.Name)
	switch {
	case errdefs.IsNotFound(readErr):
		return err
	case readErr != nil:
		return errors.Join(err, readErr)
	case have.Kind != want.Kind || !bytes.Equal(have.MAC, want.MAC):
		return err
	}
	return nil
}

// kernelError is the kernel's word with the class it belongs to.
type kernelError struct{ err, class error }

func (e *kernelError) Error() string   { return e.err.Error() }
func (e *kernelError) Unwrap() []error { return []error{e.err, e.class} }

var classes = map[unix.Errno]error{
	unix.ENODEV:        errdefs.ErrNotFound,
	unix.ESRCH:         errdefs.ErrNotFound,
	unix.EADDRNOTAVAIL: errdefs.ErrNotFound,
	unix.EEXIST:        errdefs.ErrAlreadyExists,
	unix.EPERM:         errdefs.ErrPermissionDenied,
	unix.EACCES:        errdefs.ErrPermissionDenied,
	unix.EOPNOTSUPP:    errdefs.ErrUnavailable,
	unix.EXFULL:        errdefs.ErrResourceExhausted,
	unix.ENOSPC:        errdefs.ErrResourceExhausted,
}

// classify gives an errno its errdefs class, and leaves other errors alone.
func classify(err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) || classes[errno] == nil {
		return err
	}
	return &kernelError{err: err, class: classes[errno]}
}

// Config is what Configure gives a link.
type Config struct {
	// Addrs, IPv4 with a broadcast address, IPv6 without duplicate detection.
	Addrs []netip.Prefix
	// Gateways of the default routes, one of a family.
	Gateways []netip.Addr
	// MTU in bytes; 0 leaves it.
	MTU int
	Up  bool
	// Loopback brings lo up too, as LoopbackUp does.
	Loopback bool
}

// Configure brings the link up, adds the addresses and default routes through it, in
// that order and in one system call. What is there already is no error. A default route
// of the same family is replaced.
//
// An IPv6 address that is there before the link is up gets its route in an atomic
// allocation (fixup_permanent_addr in net/ipv6/addrconf.c), which fails where hundreds of
// namespaces are made at once ("percpu: allocation failed, atomic=1"): the kernel then
// drops the address, or only its route, and tells nobody.
func (h *Handle) Configure(name string, c Config) error {
	index, err := h.index(name)
	if err != nil {
		return err
	}
	return h.apply(c.changes(name, index)...)
}

func (c Config) changes(name string, index int) (todo []change) {
	if c.Loopback {
		todo = append(todo, loopback())
	}
	if c.Up || c.MTU != 0 {
		req := newLink(unix.RTM_SETLINK, 0, name, c.Up)
		if c.MTU != 0 {
			req.uint32(unix.IFLA_MTU, uint32(c.MTU))
		}
		todo = append(todo, change{"set up link " + name, req})
	}
	for _, p := range c.Addrs {
		todo = append(todo, addAddr(name, index, p))
	}
	for _, gw := range c.Gateways {
		todo = append(todo, change{fmt.Sprintf("default route by %s on %s", gw, name), newRoute(index, gw)})
	}
	return todo
}

// Down takes the link out of use: nothing comes in or goes out by it, and a bridge
// forgets what it learned behind it. One that is absent gives errdefs.ErrNotFound.
func (h *Handle) Down(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	req := &request{typ: unix.RTM_SETLINK}
	req.ifinfo(0, 0, unix.IFF_UP).text(unix.IFLA_IFNAME, name)
	return h.apply(change{"bring down link " + name, req})
}

// LoopbackUp brings lo up, which gives it 127.0.0.1/8 and ::1/128.
func (h *Handle) LoopbackUp() error {
	return h.apply(loopback())
}

func loopback() change {
	return change{"bring lo up", newLink(unix.RTM_SETLINK, 0, "lo", true)}
}

// AddAddr adds an address to a link; one that is there already is no error.
func (h *Handle) AddAddr(name string, p netip.Prefix) error {
	index, err := h.index(name)
	if err != nil {
		return err
	}
	return h.apply(addAddr(name, index, p))
}

func addAddr(name string, index int, p netip.Prefix) change {
	return change{
		fmt.Sprintf("add address %s to %s", p, name),
		newAddr(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, index, p),
	}
}

// DelAddr takes an address from a link; a link or an address that is absent is no
// error.
func (h *Handle) DelAddr(name string, p netip.Prefix) error {
	index, err := h.index(name)
	if err != nil {
		return absentOK(err)
	}
	return absentOK(h.apply(delAddr(name, index, p)))
}

func delAddr(name string, index int, p netip.Prefix) change {
	return change{fmt.Sprintf("take address %s from %s", p, name), newAddr(unix.RTM_DELADDR, 0, index, p)}
}

// SetMaster makes a link a port of the bridge, or of none if bridge is empty.
func (h *Handle) SetMaster(name, bridge string) error {
	if err := checkName(name); err != nil {
		return err
	}
	var master int
	if bridge != "" {
		var err error
		if master, err = h.index(bridge); err != nil {
			return err
		}
	}
	req := newLink(unix.RTM_SETLINK, 0, name, false).uint32(unix.IFLA_MASTER, uint32(master))
	return full(bridge, h.apply(change{fmt.Sprintf("make %s a port of bridge %q", name, bridge), req}))
}

// Delete deletes a link, and a veth's other end with it; an absent one is no
// error. It takes about 30 ms: drop the namespace or use DeleteGroup for many.
func (h *Handle) Delete(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	return absentOK(h.apply(change{"delete link " + name, newLink(unix.RTM_DELLINK, 0, name, false)}))
}

// DeleteGroup deletes every link of a device group at once, whatever its kind.
// Group 0, where every link begins, is refused.
func (h *Handle) DeleteGroup(group uint32) error {
	if group == 0 {
		return fmt.Errorf("delete the links of group 0: %w", errdefs.ErrInvalidArgument)
	}
	req := &request{typ: unix.RTM_DELLINK}
	req.ifinfo(0, 0, 0).uint32(unix.IFLA_GROUP, group)
	return absentOK(h.apply(change{fmt.Sprintf("delete links of group %d", group), req}))
}

func absentOK(err error) error {
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}
