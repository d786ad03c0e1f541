package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/dns"
)

// resolvers are the name servers of all sandboxes: their sockets, in one loop, and
// what they know.
type resolvers struct {
	loop
	dns    *dns.Resolver
	logger *slog.Logger
	warned time.Time

	datagrams *datagrams // of the loop

	next   uint64
	served map[uint64]*served
	owners map[string]*served
	// left counts those that a successor has and we still carry queries of.
	left sync.WaitGroup

	host hostWatch

	queries queries
}

// served is one sandbox's sockets. They stay open while anything is live.
type served struct {
	id       string
	key      uint64
	udp, tcp int
	ctx      context.Context
	cancel   context.CancelFunc
	live     sync.WaitGroup

	// gone says that a socket was destroyed, parked that the poller does not have tcp
	// for the moment; mu of the loop covers them.
	gone, parked bool

	mu sync.Mutex
	// conns are the connections, with when they last asked something.
	conns map[net.Conn]time.Time
}

// The two sockets of a resolver are told apart by the lowest bit of their key.
const tcpBit = 1

func newResolvers(logger *slog.Logger) (*resolvers, error) {
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	return &resolvers{
		dns: dns.New(dialer{}, logger), loop: loop{poller: p}, logger: logger, datagrams: newDatagrams(),
		served: make(map[uint64]*served), owners: make(map[string]*served),
	}, nil
}

// run reads queries until close.
func (t *resolvers) run() error { return t.serveReady(t.ready) }

// checkResolver sees that the sockets are what they should be, and makes them
// non-blocking for the loop.
func checkResolver(id string, udp, tcp int) error {
	for proto, fd := range map[string]int{"udp": udp, "tcp": tcp} {
		b := Binding{Proto: proto, Host: dns.Address}
		if err := checkSocket(b, fd); err != nil {
			return fmt.Errorf("resolver of sandbox %s: %w", id, err)
		}
		if err := unix.SetNonblock(fd, true); err != nil {
			return err
		}
	}
	return nil
}

// serve takes the sockets over, whatever it returns, in place of those there were.
func (t *resolvers) serve(s dns.Sandbox, udp, tcp int) error {
	if err := checkResolver(s.ID, udp, tcp); err != nil {
		return errors.Join(err, unix.Close(udp), unix.Close(tcp))
	}
	if err := t.drop(s.ID); err != nil {
		return errors.Join(err, unix.Close(udp), unix.Close(tcp))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.frozen {
		return errors.Join(errFrozen, unix.Close(udp), unix.Close(tcp))
	}
	t.next += 2
	v := &served{id: s.ID, key: t.next, udp: udp, tcp: tcp, conns: make(map[net.Conn]time.Time)}
	v.ctx, v.cancel = context.WithCancel(context.Background())
	t.dns.Set(s)
	err := t.poller.add(udp, v.key)
	if err == nil {
		if err = t.poller.add(tcp, v.key|tcpBit); err != nil {
			err = errors.Join(err, t.poller.remove(udp))
		}
	}
	if err != nil {
		t.dns.Remove(s.ID)
		return errors.Join(fmt.Errorf("serve sandbox %s: %w", s.ID, err), unix.Close(udp), unix.Close(tcp))
	}
	t.served[v.key], t.owners[s.ID] = v, v
	return nil
}

// introduce tells of sandboxes, served or not, for their names to be known.
func (t *resolvers) introduce(sandboxes []dns.Sandbox) {
	for _, s := range sandboxes {
		t.dns.Set(s)
	}
}

// tell says anew what the sandbox is called and whom it asks.
func (t *resolvers) tell(s dns.Sandbox) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.frozen {
		return errFrozen
	}
	if v := t.owners[s.ID]; v == nil || v.gone {
		return fmt.Errorf("sandbox %s has no resolver: %w", s.ID, errdefs.ErrNotFound)
	}
	t.dns.Set(s)
	return nil
}

// release ends the sandbox's resolver and returns when nothing of it is open.
func (t *resolvers) release(id string) error {
	return t.let(id, func() { t.dns.Remove(id) }) // one without sockets may have been introduced
}

// drop ends what serves the sandbox, which others are to do. Its names stay.
func (t *resolvers) drop(id string) error { return t.let(id, func() {}) }

// let lets go of the sandbox's sockets; then is called before it is waited for their end.
func (t *resolvers) let(id string, then func()) error {
	t.mu.Lock()
	if t.frozen {
		t.mu.Unlock()
		return errFrozen
	}
	v, err := t.take(id)
	t.mu.Unlock()
	if v != nil {
		v.hangUp()
	}
	then()
	return errors.Join(err, v.end())
}

// take takes the sandbox's sockets out of the loop; nil where it has none. mu is held.
func (t *resolvers) take(id string) (*served, error) {
	v := t.owners[id]
	if v == nil {
		return nil, nil
	}
	delete(t.owners, id)
	return v, t.unpoll(v)
}

// end closes the sockets when nothing uses them any more.
func (v *served) end() error {
	if v == nil {
		return nil
	}
	v.live.Wait()
	return v.close()
}

// unpoll takes the sockets out of the loop, once.
func (t *resolvers) unpoll(v *served) error {
	if t.served[v.key] == nil {
		return nil
	}
	delete(t.served, v.key)
	err := t.poller.remove(v.udp)
	if !v.parked {
		err = errors.Join(err, t.poller.remove(v.tcp))
	}
	return err
}

// hangUp ends what waits for others, and connections.
func (v *served) hangUp() {
	v.cancel()
	v.mu.Lock()
	defer v.mu.Unlock()
	for c := range v.conns {
		_ = c.SetDeadline(time.Unix(1, 0))
	}
}

// close closes the sockets, once.
func (v *served) close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.udp < 0 {
		return nil
	}
	err := errors.Join(unix.Close(v.udp), unix.Close(v.tcp))
	v.udp, v.tcp = -1, -1
	return err
}

// list is what is served, by sandbox.
func (t *resolvers) list() []Served {
	told := t.dns.Sandboxes()
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Served, 0, len(told))
	for _, s := range told {
		if v := t.owners[s.ID]; v != nil && !v.gone {
			out = append(out, Served{Sandbox: s, UDP: boundTo(v.udp), TCP: boundTo(v.tcp)})
		}
	}
	return out
}

func boundTo(fd int) netip.AddrPort {
	sa, err := unix.Getsockname(fd)
	if v4, ok := sa.(*unix.SockaddrInet4); err == nil && ok {
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), uint16(v4.Port))
	}
	return netip.AddrPort{}
}

// close ends everything.
func (t *resolvers) close() error {
	t.thaw()
	errs := []error{t.host.close()}
	t.mu.Lock()
	ids := make([]string, 0, len(t.owners))
	for id := range t.owners {
		ids = append(ids, id)
	}
	t.mu.Unlock()
	slices.Sort(ids)
	for _, id := range ids {
		errs = append(errs, t.release(id))
	}
	if err := t.poller.close(); !errors.Is(err, os.ErrClosed) { // abandon may have
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
