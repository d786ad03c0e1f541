package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/fdpass"
	"github.com/fairlead/fairlead/internal/spawn"
	"github.com/fairlead/fairlead/proxy"
)

// What is handed over: the held ports, the firewall's socket, the UDP flows, the
// resolvers (see resolver_handover.go), the files that are only kept.
// Connections that come meanwhile wait in the backlogs. Live TCP connections
// stay where they are; the successor forwards "release" and "stop" for them.
//
// The descriptors, in order: the firewall's socket if there is one, the held
// ports, the UDP flows, the resolvers' sockets, the kept files.

// state is what goes to a successor.
type state struct {
	Firewall bool        `json:"firewall"`
	Bindings []Binding   `json:"bindings"`
	Flows    []flowState `json:"flows,omitempty"`
	Kept     []keptState `json:"kept,omitempty"`

	Resolvers resolverState `json:"resolvers,omitzero"`
}

// flowState is one live UDP flow of Bindings[Port].
type flowState struct {
	Port   int            `json:"port"`
	Client netip.AddrPort `json:"client"`
	Local  netip.Addr     `json:"local,omitzero"`
	Zone   uint32         `json:"zone,omitempty"`
}

// Pause stops the loop and returns copies of everything.
func (s *server) Pause() (spawn.Handover, error) {
	s.table.freeze()
	s.resolvers.freeze()
	st, ports, flows := s.table.snapshot()
	var resolvers []int
	st.Resolvers, resolvers = s.resolvers.snapshot()
	sent := func() {
		for _, f := range flows {
			_ = f.Close()
		}
	}
	s.mu.Lock()
	firewall := s.firewall
	s.mu.Unlock()
	var head []*os.File
	if firewall != nil {
		st.Firewall = true
		head = append(head, firewall)
	}
	headFDs, err := fdpass.Descriptors(head...)
	flowFDs, flowErr := fdpass.Descriptors(flows...)
	if err := errors.Join(err, flowErr); err != nil {
		sent()
		s.resume()
		return spawn.Handover{}, err
	}
	kept, keptFDs := s.keptFiles()
	st.Kept = kept
	return spawn.Handover{
		State: st, FDs: slices.Concat(headFDs, ports, flowFDs, resolvers, keptFDs), Sent: sent,
		Resume: s.resume, Commit: s.abandon,
	}, nil
}

// resume goes on, for there is no successor after all.
func (s *server) resume() {
	s.table.thaw()
	s.resolvers.thaw()
}

// abandon lets go of what the successor has.
func (s *server) abandon() error {
	s.dropKept()
	return errors.Join(s.table.abandon(), s.resolvers.abandon())
}

// Adopt takes over what Pause returned.
func (s *server) Adopt(load func(any) error, fds []int) error {
	defer func() { fdpass.CloseFDs(fds) }() // those that are left
	var st state
	if err := load(&st); err != nil {
		return err
	}
	want := len(st.Bindings) + len(st.Flows) + 2*len(st.Resolvers.Sandboxes)
	if st.Firewall {
		want++
	}
	for _, k := range st.Kept {
		want += k.Files
	}
	if len(fds) != want {
		return fmt.Errorf("%d descriptors came, want %d: %w", len(fds), want, errdefs.ErrInvalidArgument)
	}
	if st.Firewall {
		s.firewall = os.NewFile(uintptr(fds[0]), "netlink")
		fds = fds[1:]
	}
	if err := s.table.hold(st.Bindings, fds[:len(st.Bindings)], false); err != nil {
		return err
	}
	fds = fds[len(st.Bindings):]
	for _, f := range st.Flows {
		fd := fds[0]
		fds = fds[1:]
		if err := s.table.adoptFlow(st.Bindings, f, fd); err != nil {
			s.table.logger.Warn("take over a UDP flow", "client", f.Client, "err", err)
		}
	}
	sockets := 2 * len(st.Resolvers.Sandboxes)
	if err := s.resolvers.adopt(st.Resolvers, fds[:sockets]); err != nil {
		fds = fds[sockets:]
		return err
	}
	fds = fds[sockets:]
	s.adoptKept(st.Kept, fds)
	fds = nil
	return nil
}

// Drain waits for the TCP connections and queries that were here at the handover.
func (s *server) Drain(ctx context.Context) {
	defer s.resolvers.drain(ctx)
	done := make(chan struct{})
	go func() {
		s.table.live.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// snapshot is what a successor needs: the state, the held sockets (ours), and
// the flows' (copies, to be closed).
func (t *table) snapshot() (st state, ports []int, flows []*os.File) {
	st.Bindings = t.list()
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, b := range st.Bindings {
		p := t.hosts[hostKey{b.Proto, b.Host}]
		ports = append(ports, p.fd)
		if p.udp == nil {
			continue
		}
		for _, f := range p.udp.Snapshot() {
			st.Flows = append(st.Flows, flowState{i, f.Client, f.Local, f.Zone})
			flows = append(flows, f.File)
		}
	}
	return st, ports, flows
}

// abandon closes our copies of all held sockets, leaves the live TCP connections
// and ends the loop.
func (t *table) abandon() error {
	t.mu.Lock()
	ports := t.ports
	t.ports, t.hosts = make(map[uint64]*port), make(map[hostKey]*port)
	for _, o := range t.owners {
		o.ports = nil
	}
	errs := []error{t.poller.close()}
	t.mu.Unlock()
	t.thaw()
	for _, p := range ports {
		if p.udp != nil {
			p.udp.Close()
		}
		errs = append(errs, unix.Close(p.fd))
	}
	return errors.Join(errs...)
}

// adoptFlow goes on with a flow of a predecessor; fd is taken over.
func (t *table) adoptFlow(bindings []Binding, f flowState, fd int) error {
	file := os.NewFile(uintptr(fd), "flow")
	defer file.Close()
	if f.Port < 0 || f.Port >= len(bindings) {
		return fmt.Errorf("flow of port %d of %d: %w", f.Port, len(bindings), errdefs.ErrInvalidArgument)
	}
	c, err := net.FileConn(file)
	if err != nil {
		return err
	}
	conn, ok := c.(*net.UDPConn)
	if !ok {
		return errors.Join(fmt.Errorf("flow's socket is not UDP: %w", errdefs.ErrInvalidArgument), c.Close())
	}
	b := bindings[f.Port]
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.hosts[hostKey{b.Proto, b.Host}]
	if p.udp == nil {
		p.udp = proxy.NewUDP(p.fd, p.Backend, t.logger, t.traffic(p))
	}
	p.udp.Adopt(proxy.Flow{Client: f.Client, Local: f.Local, Zone: f.Zone}, conn)
	return nil
}
