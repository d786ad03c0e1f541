package relay

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/fdpass"
	"github.com/fairlead/fairlead/proxy"
)

// replaceParams: Fresh are the indices of the bindings that a descriptor comes with,
// in order. Linger is that of Withdraw.
type replaceParams struct {
	Owner    string    `json:"owner"`
	Bindings []Binding `json:"bindings"`
	Fresh    []int     `json:"fresh,omitempty"`
	Linger   bool      `json:"linger,omitempty"`
}

// Withdraw closes all sockets that the owner holds: who comes is refused. Connections
// that are being carried go on, until Release. A process of another build, which could
// not be replaced, may not know the difference, and is then as Replace by none.
func (c *Client) Withdraw(ctx context.Context, owner string) error {
	return c.give(ctx, "replace", replaceParams{Owner: owner, Linger: true}, nil, nil)
}

// Replace makes the bindings all that the owner holds. A port that it holds already
// keeps its socket, and with it the clients that wait, and takes the new backend:
// connections that are being carried go on to the old one. Others need a File; what
// is held and not named is closed. On failure nothing is changed. By no bindings all
// is closed, and live connections with it; unlike Release it leaves the resolver.
func (c *Client) Replace(ctx context.Context, owner string, bindings []Binding) error {
	p := replaceParams{Owner: owner, Bindings: bindings}
	var fds []int
	for i, b := range bindings {
		if err := b.validate(); err != nil {
			return err
		}
		if b.Owner != owner {
			return fmt.Errorf("held port %s of %s is not %s's: %w", b, b.Owner, owner, errdefs.ErrInvalidArgument)
		}
		if b.File != nil {
			p.Fresh = append(p.Fresh, i)
			fds = append(fds, int(b.File.Fd()))
		}
	}
	return c.give(ctx, "replace", p, bindings, fds)
}

func (s *server) replace(ctx context.Context, r *fdpass.Request, bound bool) error {
	var p replaceParams
	if err := r.Decode(&p); err != nil {
		return err
	}
	if r.Count() != len(p.Fresh) {
		return fmt.Errorf("%d sockets for %d new ports: %w", r.Count(), len(p.Fresh), errdefs.ErrInvalidArgument)
	}
	if p.Linger {
		s.table.linger(p.Owner)
	} else if len(p.Bindings) == 0 {
		// A predecessor may have connections of the owner. It has no resolvers.
		return errors.Join(s.table.release(p.Owner), s.service.Forward(ctx, "release", releaseParams{p.Owner}))
	}
	fds := make(map[int]int, len(p.Fresh))
	taken := r.Take()
	for i, at := range p.Fresh {
		if at < 0 || at >= len(p.Bindings) {
			fdpass.CloseFDs(taken)
			return fmt.Errorf("new port %d of %d: %w", at, len(p.Bindings), errdefs.ErrInvalidArgument)
		}
		fds[at] = taken[i]
	}
	if err := s.table.replace(p.Owner, p.Bindings, fds, bound); err != nil {
		fdpass.CloseFDs(taken)
		return err
	}
	return nil
}

// rebound is a port that is held already, with what it was and is to be.
type rebound struct {
	*port
	was, wanted Binding
	turned      bool
}

// replace is Client.Replace; fds are the new ports' sockets by the index of their
// binding, which on failure stay the caller's; bound is admit's.
func (t *table) replace(owner string, bindings []Binding, fds map[int]int, bound bool) error {
	t.mu.Lock()
	flows, closed, err := t.exchange(owner, bindings, fds, bound)
	t.mu.Unlock()
	// Outside the lock, which the flows' own goroutines may be waiting for.
	for _, u := range flows {
		u.Close()
	}
	var errs []error
	for _, fd := range closed {
		errs = append(errs, unix.Close(fd))
	}
	if err := errors.Join(errs...); err != nil {
		t.logger.Error("close the ports that are held no more", "container", owner, "err", err)
	}
	return err
}

// exchange returns the UDP flows and the sockets that are to be closed. New ports
// come first: an owner that has none for a moment would lose its connections.
func (t *table) exchange(owner string, bindings []Binding, fds map[int]int, bound bool) (flows []*proxy.UDP, closed []int, err error) {
	if t.frozen {
		return nil, nil, errFrozen
	}
	var kept []*rebound
	named := make(map[*port]bool)
	for i, b := range bindings {
		if fd, fresh := fds[i]; fresh {
			if err := admit(b, fd, bound); err != nil {
				return nil, nil, err
			}
			continue
		}
		p := t.hosts[hostKey{proto(b.Proto), b.Host}]
		if p == nil || p.Owner != owner {
			return nil, nil, fmt.Errorf("port %s is not held for %s: %w", b, owner, errdefs.ErrNotFound)
		}
		kept = append(kept, &rebound{port: p, was: p.Binding, wanted: b})
		named[p] = true
	}
	if err := t.addAndTurn(bindings, fds, bound, kept, named); err != nil {
		return nil, nil, err
	}
	for _, k := range kept {
		if k.turned && k.udp != nil {
			flows = append(flows, k.udp)
			k.udp = nil
		}
	}
	if o := t.owners[owner]; o != nil {
		flows, closed = t.closeOthers(o, named, flows)
	}
	return flows, closed, nil
}

// addAndTurn adds the new ports, which it names, and turns those that are kept: all
// of it or none.
func (t *table) addAndTurn(bindings []Binding, fds map[int]int, bound bool, kept []*rebound, named map[*port]bool) (err error) {
	var added []*port
	defer func() {
		if err == nil {
			return
		}
		for _, p := range added {
			t.remove(p)
		}
		for _, k := range kept {
			if !k.turned {
				continue
			}
			if back := t.turn(k.port, k.was); back != nil {
				t.logger.Error("a port could not be turned back", "port", k.was.String(), "err", back)
			}
			k.Backend = k.was.Backend
		}
	}()
	for i, b := range bindings {
		fd, fresh := fds[i]
		if !fresh {
			continue
		}
		p, err := t.add(b, fd, bound)
		if err != nil {
			return err
		}
		added = append(added, p)
		named[p] = true
	}
	for _, k := range kept {
		if k.Backend == k.wanted.Backend && k.Proxy == k.wanted.Proxy {
			continue
		}
		if err := t.turn(k.port, k.wanted); err != nil {
			return fmt.Errorf("port %s: %w", k.wanted, err)
		}
		k.Backend, k.turned = k.wanted.Backend, true
	}
	return nil
}

// turnBursts bounds how many that wait are taken from a port before it is held alone.
const turnBursts = 32

// turn turns the userland proxy on or off for a port that is held.
func (t *table) turn(p *port, wanted Binding) error {
	switch {
	case p.Proxy == wanted.Proxy:
		return nil
	case wanted.Proxy:
		if err := unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("take its filter off: %w", err)
		}
		if err := t.poller.add(p.fd, p.key); err != nil {
			return err
		}
	default:
		if err := prepare(wanted, p.fd); err != nil {
			return err
		}
		// Who has come would wait for ever. Nobody comes any more.
		for range turnBursts {
			if p.Proto != "tcp" || !t.accept(p) {
				break
			}
		}
		if err := t.poller.remove(p.fd); err != nil {
			return err
		}
	}
	p.Proxy = wanted.Proxy
	return nil
}

// linger has the owner's connections go on though it holds no port any more.
func (t *table) linger(owner string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if o := t.owners[owner]; o != nil && !t.frozen {
		o.lingers = true
	}
}

// closeOthers forgets the owner's ports that are not named.
func (t *table) closeOthers(o *owner, named map[*port]bool, flows []*proxy.UDP) (_ []*proxy.UDP, closed []int) {
	var others []*port
	for _, p := range o.ports {
		if !named[p] {
			others = append(others, p)
		}
	}
	for _, p := range others {
		if p.udp != nil {
			flows = append(flows, p.udp)
		}
		closed = append(closed, p.fd)
		t.remove(p)
	}
	return flows, closed
}
