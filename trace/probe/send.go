package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/trace"
)

// sender has the socket that the probe is sent by; its source port, or the echo's
// identifier, is known before it is.
type sender struct {
	identity
	fd     int
	to     netip.AddrPort
	source netip.AddrPort
}

// payload is what a probe carries: it says whose it is.
const payload = "fairlead probe"

// rootQuestion asks a name server for those of the root (RFC 1035, section 4.1), so that
// one that is there answers.
var rootQuestion = []byte{0xf1, 0xea, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1}

// prepare opens the socket inside the sender's namespace, and binds it.
func (r Request) prepare() (*sender, error) {
	s := &sender{fd: -1, to: r.Destination}
	s.ipv6 = r.Destination.Addr().Is6()
	s.proto = protocolNumber(r.Proto, s.ipv6)
	err := r.inside(func() error { return s.open(r.Source.Unmap()) })
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *sender) open(source netip.Addr) (err error) {
	domain, kind, proto := unix.AF_INET, unix.SOCK_STREAM, 0
	if s.ipv6 {
		domain = unix.AF_INET6
	}
	switch s.proto {
	case unix.IPPROTO_UDP:
		kind = unix.SOCK_DGRAM
	case s.icmp():
		kind, proto = unix.SOCK_RAW, int(s.proto)
	}
	s.fd, err = unix.Socket(domain, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	if err := s.hearErrors(); err != nil {
		return err
	}
	if !source.IsValid() {
		if source = netip.IPv4Unspecified(); s.ipv6 {
			source = netip.IPv6Unspecified()
		}
	}
	if err := unix.Bind(s.fd, sockaddr(netip.AddrPortFrom(source, 0))); err != nil {
		return fmt.Errorf("bind to %s: %w", source, err)
	}
	s.source = netip.AddrPortFrom(source, 0)
	if s.proto == s.icmp() {
		s.id = uint16(rand.N(0xffff) + 1)
		return nil
	}
	bound, err := unix.Getsockname(s.fd)
	if err != nil {
		return err
	}
	s.id = addrPort(bound).Port()
	return nil
}

// hearErrors has the kernel tell of ICMP errors that a connection would outlive, too (ip(7)).
// TCP tells of all before it is connected.
func (s *sender) hearErrors() error {
	if s.proto == unix.IPPROTO_TCP {
		return nil
	}
	level, option := unix.SOL_IP, unix.IP_RECVERR
	if s.ipv6 {
		level, option = unix.SOL_IPV6, unix.IPV6_RECVERR
	}
	if err := unix.SetsockoptInt(s.fd, level, option, 1); err != nil {
		return fmt.Errorf("IP_RECVERR: %w", err)
	}
	return nil
}

func (s *sender) close() {
	if s.fd >= 0 {
		_ = unix.Close(s.fd)
		s.fd = -1
	}
}

// send sends the probe and waits for what comes of it: until ctx ends, or a little longer
// than it is told that the packet was thrown away.
func (s *sender) send(ctx context.Context, dropped <-chan struct{}) trace.Answer {
	if err := unix.Connect(s.fd, sockaddr(s.to)); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return failed(err)
	}
	// What the kernel chose.
	if bound, err := unix.Getsockname(s.fd); err == nil {
		s.source = netip.AddrPortFrom(addrPort(bound).Addr(), s.id)
	}
	message := []byte(payload)
	switch {
	case s.proto == unix.IPPROTO_TCP:
		message = nil
	case s.proto == s.icmp():
		message = s.echo()
	case s.to.Port() == 53:
		message = rootQuestion
	}
	if message != nil {
		if _, err := unix.Write(s.fd, message); err != nil {
			return failed(err)
		}
	}
	return s.await(ctx, dropped)
}

// echo is an echo request. The kernel reckons the checksum of ICMPv6.
func (s *sender) echo() []byte {
	b := make([]byte, icmpBytes, icmpBytes+len(payload))
	b[0] = echoRequest4
	if s.ipv6 {
		b[0] = echoRequest6
	}
	binary.BigEndian.PutUint16(b[4:], s.id)
	binary.BigEndian.PutUint16(b[6:], 1)
	b = append(b, payload...)
	if !s.ipv6 {
		binary.BigEndian.PutUint16(b[2:], checksum(b))
	}
	return b
}

// checksum is the Internet's (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// turn is how often it is looked whether the wait is over.
const turn = 20 * time.Millisecond

func (s *sender) await(ctx context.Context, dropped <-chan struct{}) trace.Answer {
	events := int16(unix.POLLIN)
	if s.proto == unix.IPPROTO_TCP {
		events = unix.POLLOUT
	}
	var over <-chan time.Time
	wait := turn
	for {
		select {
		case <-ctx.Done():
			wait = 0 // an answer that has come by then is one
		case <-over:
			wait = 0
		case <-dropped:
			dropped, over = nil, time.After(settle)
		default:
		}
		poll := []unix.PollFd{{Fd: int32(s.fd), Events: events}}
		n, err := unix.Poll(poll, int(wait.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return failed(err)
		}
		if n > 0 {
			if a, done := s.read(); done {
				return a
			}
		} else if wait == 0 {
			return trace.Answer{Kind: trace.AnswerNone}
		}
	}
}

// read takes what there is; false where it is nothing of the probe's.
func (s *sender) read() (trace.Answer, bool) {
	if code, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && code != 0 {
		return failed(unix.Errno(code)), true
	}
	if s.proto == unix.IPPROTO_TCP {
		// A reset ends the connection: nothing of it is left here.
		_ = unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		return trace.Answer{Kind: trace.AnswerYes}, true
	}
	b := make([]byte, 1500)
	n, err := unix.Read(s.fd, b)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return trace.Answer{}, false
	case err != nil:
		return failed(err), true
	case s.proto != s.icmp():
		return trace.Answer{Kind: trace.AnswerYes}, true
	}
	return s.echoAnswer(b[:n])
}

// echoAnswer reads what a raw socket got: of IPv4 with its IP header.
func (s *sender) echoAnswer(b []byte) (trace.Answer, bool) {
	if !s.ipv6 {
		_, rest, ok := ipHeader(b)
		if !ok {
			return trace.Answer{}, false
		}
		b = rest
	}
	reply := byte(echoReply4)
	if s.ipv6 {
		reply = echoReply6
	}
	if len(b) < icmpBytes || b[0] != reply || binary.BigEndian.Uint16(b[4:]) != s.id {
		return trace.Answer{}, false
	}
	return trace.Answer{Kind: trace.AnswerYes}, true
}

func failed(err error) trace.Answer {
	if errors.Is(err, unix.ECONNREFUSED) {
		return trace.Answer{Kind: trace.AnswerRefused, Error: err.Error()}
	}
	return trace.Answer{Kind: trace.AnswerError, Error: err.Error()}
}

func sockaddr(ap netip.AddrPort) unix.Sockaddr {
	if ap.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: ap.Addr().As4(), Port: int(ap.Port())}
	}
	return &unix.SockaddrInet6{Addr: ap.Addr().As16(), Port: int(ap.Port())}
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
