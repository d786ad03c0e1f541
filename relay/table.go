package relay

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/spread"
	"github.com/fairlead/fairlead/kernel/nowait"
	"github.com/fairlead/fairlead/proxy"
)

// table is every held port and the connections that live through them.
type table struct {
	loop
	logger *slog.Logger
	// spare is a descriptor to give up when there is no other: see refuse.
	spare *os.File

	next   uint64
	ports  map[uint64]*port
	hosts  map[hostKey]*port
	owners map[string]*owner
	warned time.Time

	// streams carries TCP connections, which live counts.
	streams proxy.Streams
	live    sync.WaitGroup
	// carried is all that was, by protocol.
	carried [2]proxy.Traffic
}

type hostKey struct {
	proto string
	host  netip.AddrPort
}

type port struct {
	Binding
	key   uint64
	fd    int
	owner *owner
	udp   *proxy.UDP // nil until the first datagram
	// revived is how often it listens again; see Binding.
	revived uint64
	carried *proxy.Traffic // nil until there is some
}

// owner is one sandbox: its ports, and its live connections.
type owner struct {
	name  string
	ports []*port
	live  proxy.Group
	// lingers says that the connections outlive the last port; see Client.Withdraw.
	lingers bool
}

func newTable(logger *slog.Logger) (*table, error) {
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	spare, err := os.Open(os.DevNull)
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return &table{
		loop: loop{poller: p}, logger: logger, spare: spare,
		ports: make(map[uint64]*port), hosts: make(map[hostKey]*port), owners: make(map[string]*owner),
	}, nil
}

// run serves the held ports until close.
func (t *table) run() error { return t.serveReady(t.ready) }

// hold takes the sockets over, all or none; on failure they stay the caller's. Those
// that are bound alone it opens; see admit.
func (t *table) hold(bindings []Binding, fds []int, bound bool) error {
	for _, b := range bindings {
		if err := b.validate(); err != nil {
			return err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.frozen {
		return errFrozen
	}
	added := make([]*port, 0, len(bindings))
	for i, b := range bindings {
		p, err := t.enter(b, fds[i])
		if err != nil {
			t.leaveAll(added)
			return err
		}
		added = append(added, p)
	}
	err := spread.Over(len(added), worthwhile, func(from, to int) error {
		for _, p := range added[from:to] {
			if err := admit(p.Binding, p.fd, bound); err != nil {
				return err
			}
			if err := t.begin(p, bound); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		for _, p := range added {
			if p.Proxy {
				_ = t.poller.remove(p.fd) // it may not be there
			}
		}
		t.leaveAll(added)
	}
	return err
}

func (t *table) leaveAll(ports []*port) {
	for _, p := range ports {
		t.leave(p)
	}
}

var errFrozen = fmt.Errorf("the relay is being replaced, try again: %w", errdefs.ErrUnavailable)

// add takes over a socket that is prepared; bound is admit's.
func (t *table) add(b Binding, fd int, bound bool) (*port, error) {
	p, err := t.enter(b, fd)
	if err != nil {
		return nil, err
	}
	if err := t.begin(p, bound); err != nil {
		t.leave(p)
		return nil, err
	}
	return p, nil
}

// begin opens the port if it is not open, and watches it. It listens first: the loop
// would be told of a socket that does not.
func (t *table) begin(p *port, bound bool) error {
	if bound {
		if err := p.open(); err != nil {
			return err
		}
	}
	return t.watch(p)
}

// watch has the loop told when somebody comes to a port that is proxied.
func (t *table) watch(p *port) error {
	if !p.Proxy {
		return nil
	}
	if err := t.poller.add(p.fd, p.key); err != nil {
		return fmt.Errorf("hold port %s: %w", p.Binding, err)
	}
	return nil
}

// enter puts a port on the table that nobody has.
func (t *table) enter(b Binding, fd int) (*port, error) {
	hk := hostKey{proto(b.Proto), b.Host}
	if p, ok := t.hosts[hk]; ok {
		return nil, fmt.Errorf("port %s is held already, for %s: %w", b, p.Owner, errdefs.ErrConflict)
	}
	t.next++
	p := &port{Binding: b, key: t.next, fd: fd}
	o := t.owners[b.Owner]
	if o == nil {
		o = &owner{name: b.Owner}
		t.owners[b.Owner] = o
	}
	// One string for all of the owner's ports, and not one each.
	p.Owner, p.Proto = o.name, proto(b.Proto)
	p.owner, o.ports = o, append(o.ports, p)
	t.ports[p.key], t.hosts[hk] = p, p
	return p, nil
}

// proto returns the constant of that value, to let the copy go.
func proto(s string) string {
	switch s {
	case "udp":
		return "udp"
	case "sctp":
		return "sctp"
	}
	return "tcp"
}

// remove forgets the port; its socket is the caller's to close.
func (t *table) remove(p *port) {
	t.unwatch(p)
	t.leave(p)
}

// unwatch undoes watch.
func (t *table) unwatch(p *port) {
	if !p.Proxy {
		return
	}
	if err := t.poller.remove(p.fd); err != nil {
		t.logger.Error("let go of a port", "port", p.Binding, "err", err)
	}
}

// leave undoes enter.
func (t *table) leave(p *port) {
	t.strike(p)
	p.owner.ports = slices.DeleteFunc(p.owner.ports, func(q *port) bool { return q == p })
	if len(p.owner.ports) == 0 && !p.owner.lingers {
		delete(t.owners, p.Owner)
		p.owner.live.End()
	}
}

// strike is leave but for the owner.
func (t *table) strike(p *port) {
	delete(t.ports, p.key)
	delete(t.hosts, hostKey{p.Proto, p.Host})
}

// release closes all that the owner has and waits until it is closed.
func (t *table) release(name string) error {
	t.mu.Lock()
	if t.frozen {
		t.mu.Unlock()
		return errFrozen
	}
	o := t.owners[name]
	if o == nil {
		t.mu.Unlock()
		return nil
	}
	ports := o.ports
	o.ports = nil
	for _, p := range ports {
		t.unwatch(p)
		t.strike(p)
	}
	delete(t.owners, name)
	t.mu.Unlock()

	o.live.End()
	err := closeAll(ports)
	o.live.Wait()
	return err
}

// list is every binding, by owner and then in the order held.
func (t *table) list() []Binding {
	t.mu.Lock()
	defer t.mu.Unlock()
	ports := make([]*port, 0, len(t.ports))
	for _, p := range t.ports {
		if !p.Proxy && !t.frozen {
			t.revive(p) // nothing tells of these
		}
		ports = append(ports, p)
	}
	slices.SortFunc(ports, func(a, b *port) int {
		return cmp.Or(cmp.Compare(a.Owner, b.Owner), cmp.Compare(a.key, b.key))
	})
	out := make([]Binding, len(ports))
	for i, p := range ports {
		out[i] = p.Binding
		out[i].Revived = p.revived
	}
	return out
}

// close ends everything.
func (t *table) close() error {
	t.thaw()
	t.mu.Lock()
	var names []string
	for name := range t.owners {
		names = append(names, name)
	}
	t.mu.Unlock()
	var errs []error
	for _, name := range names {
		errs = append(errs, t.release(name))
	}
	t.streams.Close()
	if err := t.poller.close(); !errors.Is(err, os.ErrClosed) { // abandon may have
		errs = append(errs, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.spare != nil {
		errs = append(errs, t.spare.Close())
		t.spare = nil
	}
	return errors.Join(errs...)
}

// ready serves one readable socket.
func (t *table) ready(key uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.ports[key]
	if !ok || t.frozen {
		return
	}
	if p.Proto == "tcp" {
		t.accept(p)
		return
	}
	if p.udp == nil {
		p.udp = proxy.NewUDP(p.fd, p.Backend, t.logger, t.traffic(p))
	}
	p.udp.Readable()
}

// acceptBurst connections are taken from one port before the next has its turn.
const acceptBurst = 32

// accept takes those who wait, and says whether there may be more.
func (t *table) accept(p *port) bool {
	for range acceptBurst {
		fd, err := nowait.Accept(p.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		switch {
		case err == nil:
			t.serve(p, fd)
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
			t.refuse(p, err)
		case errors.Is(err, unix.EAGAIN):
			return false
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
		case errors.Is(err, unix.EINVAL):
			t.revive(p) // it does not listen
			return false
		default:
			// accept(2): network errors of the new connection come here too.
			t.logger.Warn("accept", "port", p.Binding, "err", err)
			return false
		}
	}
	return true
}

// refuse resets one connection when there is no descriptor for it: left in the
// backlog it would be reported again and again.
func (t *table) refuse(p *port, cause error) {
	if now := time.Now(); now.Sub(t.warned) > 10*time.Second {
		t.warned = now
		t.logger.Error("no room for a connection, clients are refused", "port", p.Binding, "err", cause)
	}
	if t.spare != nil {
		_ = t.spare.Close()
		t.spare = nil
	}
	if fd, _, err := unix.Accept4(p.fd, unix.SOCK_CLOEXEC); err == nil {
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		_ = unix.Close(fd)
		t.traffic(p).Fail()
	} else {
		// Not even that: at least do not ask again at once.
		time.Sleep(10 * time.Millisecond)
	}
	if f, err := os.Open(os.DevNull); err == nil {
		t.spare = f
	}
}

// serve proxies one connection. The port's backend may change meanwhile.
func (t *table) serve(p *port, fd int) {
	t.live.Add(1)
	t.streams.Carry(&p.owner.live, fd, p.Backend, t.traffic(p), func(err error) {
		if err != nil {
			t.logger.Debug("proxied connection ended", "port", p.Host, "err", err)
		}
		t.live.Done()
	})
}
