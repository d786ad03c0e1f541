package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Server answers every TCP connection and every datagram with one line that says
// which host answers and whom it sees: "host 192.0.2.1:4711". After the line a TCP
// connection is echoed until the client closes it.
type Server struct {
	host  *Host
	proto string
	// Addr is where it listens.
	Addr netip.AddrPort

	closer io.Closer
	wg     sync.WaitGroup
	mu     sync.Mutex
	conns  map[net.Conn]bool
}

// Listen starts a server on the host, "tcp" or "udp", at an address and port; port
// 0 takes any. It ends with the lab.
func (h *Host) Listen(proto, address string) *Server {
	h.lab.t.Helper()
	s := &Server{host: h, proto: proto, conns: map[net.Conn]bool{}}
	if err := h.Do(func() error { return s.listen(address) }); err != nil {
		h.lab.t.Fatalf("listen on %s: %v", h.name, err)
	}
	h.lab.mu.Lock()
	h.lab.servers = append(h.lab.servers, s)
	h.lab.mu.Unlock()
	return s
}

// listen runs in the namespace. An address is taken as it is: 0.0.0.0 is IPv4
// only, [::] is IPv6 only.
func (s *Server) listen(address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	network := s.proto + "4"
	if ap.Addr().Is6() {
		network = s.proto + "6"
	}
	switch s.proto {
	case "tcp":
		l, err := net.ListenTCP(network, net.TCPAddrFromAddrPort(ap))
		if err != nil {
			return err
		}
		s.closer, s.Addr = l, l.Addr().(*net.TCPAddr).AddrPort()
		s.wg.Go(func() { s.accept(l) })
	case "udp":
		c, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(ap))
		if err != nil {
			return err
		}
		s.closer, s.Addr = c, c.LocalAddr().(*net.UDPAddr).AddrPort()
		s.wg.Go(func() { s.answer(c) })
	default:
		return fmt.Errorf("protocol %q: want tcp or udp", s.proto)
	}
	return nil
}

func (s *Server) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && s.keep(c) {
			s.wg.Go(func() { s.serve(c) })
		}
	}
}

// keep notes a connection, to be closed with the server; false if it is too late.
func (s *Server) keep(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		_ = c.Close()
		return false
	}
	s.conns[c] = true
	return true
}

func (s *Server) serve(c net.Conn) {
	defer func() {
		_ = c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	if _, err := io.WriteString(c, s.line(c.RemoteAddr().String())); err == nil {
		_, _ = io.Copy(c, c)
	}
}

func (s *Server) answer(c *net.UDPConn) {
	buf := make([]byte, 64<<10)
	for {
		_, peer, err := c.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = c.WriteToUDPAddrPort([]byte(s.line(peer.String())), peer)
		}
	}
}

func (s *Server) line(peer string) string { return s.host.name + " " + peer + "\n" }

// Close stops the server and ends its connections.
func (s *Server) Close() {
	s.mu.Lock()
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	if conns == nil {
		return
	}
	_ = s.closer.Close()
	for c := range conns {
		_ = c.Close()
	}
	s.wg.Wait()
}

// Reply is what a Server said.
type Reply struct {
	// Host is the name of the host that answered.
	Host string
	// Peer is the address that the server saw.
	Peer netip.AddrPort
}

// Dial connects from the host to an address and port. Names are not looked up.
func (h *Host) Dial(proto, address string, timeout time.Duration) (c net.Conn, err error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, err
	}
	err = h.Do(func() error {
		c, err = net.DialTimeout(proto, address, timeout)
		return err
	})
	return c, err
}

// Ask asks a Server, "tcp" or "udp", who it is and whom it sees.
func (h *Host) Ask(proto, address string, timeout time.Duration) (Reply, error) {
	c, err := h.Dial(proto, address, timeout)
	if err != nil {
		return Reply{}, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return Reply{}, err
	}
	if proto == "udp" {
		if _, err := c.Write([]byte("?")); err != nil {
			return Reply{}, err
		}
	}
	buf := make([]byte, 200)
	n, err := c.Read(buf)
	if err != nil {
		return Reply{}, err
	}
	host, peer, ok := strings.Cut(strings.TrimSuffix(string(buf[:n]), "\n"), " ")
	ap, err := netip.ParseAddrPort(peer)
	if !ok || err != nil {
		return Reply{}, fmt.Errorf("%s/%s answered %q, which is no lab server's word", address, proto, buf[:n])
	}
	return Reply{Host: host, Peer: ap}, nil
}
