package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/fdpass"
	"github.com/fairlead/fairlead/internal/spawn"
	"github.com/fairlead/fairlead/proxy"
)

// A handover: the new process calls "handover" on the old one, which stops
// accepting and answers with copies of its sockets; connections wait in their
// backlogs meanwhile. The new one starts and calls "handed-over"; the old one
// then lets go of its copies, carries the TCP connections it had to their end
// (the new one forwards "release" and "stop"), and exits. Should the new one
// die in between, the old one goes on.
//
// The descriptors of the answer, in order: the unix socket, the state (a memfd),
// the firewall's socket if there is one, the held ports, the UDP flows.

// state is what goes to a successor. Fields may be added, never changed.
type state struct {
	Firewall bool        `json:"firewall"`
	Bindings []Binding   `json:"bindings"`
	Flows    []flowState `json:"flows,omitempty"`
}

// flowState is one live UDP flow of Bindings[Port].
type flowState struct {
	Port   int            `json:"port"`
	Client netip.AddrPort `json:"client"`
	Local  netip.Addr     `json:"local,omitzero"`
	Zone   uint32         `json:"zone,omitempty"`
}

// handOver answers with everything and pauses until "handed-over", or until the
// caller is gone.
func (s *server) handOver(r *fdpass.Request) (fdpass.Response, error) {
	if !s.table.freeze() {
		return fdpass.Response{}, errFrozen
	}
	s.mu.Lock()
	s.handing = true
	s.mu.Unlock()
	// Stops accepting clients; acceptClients waits for the outcome.
	err := s.listener.SetDeadline(time.Unix(1, 0))
	var resp fdpass.Response
	if err == nil {
		resp, err = s.snapshot()
	}
	if err != nil {
		s.goOn(err)
		return fdpass.Response{}, err
	}
	go func() {
		<-r.Gone
		s.goOn(errors.New("the successor is gone"))
	}()
	return resp, nil
}

// goOn is the other outcome of a handover than commitHandover; the first of them
// counts.
func (s *server) goOn(cause error) {
	s.mu.Lock()
	handing := s.handing
	s.handing = false
	s.mu.Unlock()
	if !handing {
		return
	}
	if err := s.listener.SetDeadline(time.Time{}); err != nil {
		cause = errors.Join(cause, err)
	}
	s.logger.Warn("not replaced, going on", "error", cause)
	s.table.thaw()
	select {
	case s.resume <- struct{}{}:
	default: // acceptClients was not interrupted the last time
	}
}

// commitHandover lets go of what the successor has.
func (s *server) commitHandover(r *fdpass.Request) error {
	s.mu.Lock()
	handing := s.handing
	s.handing = false
	s.mu.Unlock()
	if !handing {
		return fmt.Errorf("nothing is being handed over: %w", errdefs.ErrFailedPrecondition)
	}
	s.rpc.CloseOthers(r)
	err := errors.Join(s.table.abandon(), s.listener.Close())
	close(s.handedOver)
	return err
}

// snapshot is the answer with copies of all descriptors.
func (s *server) snapshot() (fdpass.Response, error) {
	st, ports, flows := s.table.snapshot()
	files := flows // those to close once they are sent
	closeFiles := func() {
		for _, f := range files {
			_ = f.Close()
		}
	}
	s.mu.Lock()
	firewall := s.firewall
	s.mu.Unlock()
	st.Firewall = firewall != nil
	l, err := s.listener.File()
	if err != nil {
		closeFiles()
		return fdpass.Response{}, err
	}
	files = append(files, l)
	memfd, err := spawn.SaveState(st)
	if err != nil {
		closeFiles()
		return fdpass.Response{}, err
	}
	files = append(files, memfd)
	head := []*os.File{l, memfd}
	if firewall != nil {
		head = append(head, firewall)
	}
	headFDs, err := fdpass.Descriptors(head...)
	flowFDs, flowErr := fdpass.Descriptors(flows...)
	if err := errors.Join(err, flowErr); err != nil {
		closeFiles()
		return fdpass.Response{}, err
	}
	return fdpass.Response{FDs: slices.Concat(headFDs, ports, flowFDs), After: closeFiles}, nil
}

// drain waits for the connections that were here at the handover.
func (s *server) drain(ctx context.Context) {
	s.logger.Info("handed over, carrying the live connections to their end")
	done := make(chan struct{})
	go func() {
		s.table.live.Wait()
		s.mu.Lock()
		pred := s.predecessor
		s.mu.Unlock()
		if pred != nil {
			<-pred.Done()
		}
		close(done)
	}()
	select {
	case <-done:
	case <-s.stop:
	case <-ctx.Done():
	}
}

// takeOver gets everything from the process at the other end and tells it so.
func (s *server) takeOver(ctx context.Context, conn *fdpass.Conn) error {
	pred, err := fdpass.NewClient(ctx, conn)
	if err != nil {
		return err
	}
	fds, err := pred.Call(ctx, "handover", nil, nil, nil)
	if err == nil {
		err = s.adopt(fds)
	}
	if err == nil {
		_, err = pred.Call(ctx, "handed-over", nil, nil, nil)
	}
	if err != nil {
		return errors.Join(err, pred.Close())
	}
	s.predecessor = pred
	return nil
}

// adopt takes over what snapshot made.
func (s *server) adopt(fds []int) error {
	rest := fds
	take := func() int {
		fd := rest[0]
		rest = rest[1:]
		return fd
	}
	defer func() { fdpass.CloseFDs(rest) }()
	if len(fds) < 2 {
		return fmt.Errorf("%d descriptors came, want 2 at least: %w", len(fds), errdefs.ErrInvalidArgument)
	}
	lf := os.NewFile(uintptr(take()), "listener")
	l, err := spawn.Listener(lf)
	_ = lf.Close()
	if err != nil {
		return err
	}
	s.listener = l
	var st state
	if err := spawn.LoadState(take(), &st); err != nil {
		return err
	}
	want := len(st.Bindings) + len(st.Flows)
	if st.Firewall {
		want++
	}
	if len(rest) != want {
		return fmt.Errorf("%d descriptors came, want %d: %w", len(rest), want, errdefs.ErrInvalidArgument)
	}
	if st.Firewall {
		s.firewall = os.NewFile(uintptr(take()), "netlink")
	}
	if err := s.table.hold(st.Bindings, rest[:len(st.Bindings)]); err != nil {
		return err
	}
	rest = rest[len(st.Bindings):]
	for _, f := range st.Flows {
		if err := s.table.adoptFlow(st.Bindings, f, take()); err != nil {
			s.logger.Warn("take over a UDP flow", "client", f.Client, "error", err)
		}
	}
	return nil
}

// freeze pauses the loop; it is false when that has been done already.
func (t *table) freeze() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.frozen {
		return false
	}
	t.frozen = true
	t.thawed = make(chan struct{})
	return true
}

func (t *table) thaw() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.frozen {
		t.frozen = false
		close(t.thawed)
	}
}

func (t *table) isFrozen() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.frozen
}

// snapshot is what a successor needs: the state, the held sockets (ours) and
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

// abandon closes our copies of all held sockets and leaves the live TCP
// connections. The table stays frozen for the loop, which ends.
func (t *table) abandon() error {
	t.mu.Lock()
	ports := t.ports
	t.ports, t.hosts = make(map[uint64]*port), make(map[hostKey]*port)
	for _, o := range t.owners {
		o.ports = nil
	}
	errs := []error{t.poller.close()} // ends the loop
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
		p.udp = proxy.NewUDP(p.fd, p.Backend, t.logger)
	}
	p.udp.Adopt(proxy.Flow{Client: f.Client, Local: f.Local, Zone: f.Zone}, conn)
	return nil
}

func dup(f *os.File) (int, error) {
	fds, err := fdpass.Descriptors(f)
	if err != nil {
		return -1, err
	}
	return unix.FcntlInt(uintptr(fds[0]), unix.F_DUPFD_CLOEXEC, 0)
}
