// Package socket holds host ports: it binds them without letting anything in yet,
// says who has a port that cannot be bound, and tells which ports the kernel
// gives out by itself.
//
// What is done with the traffic is somebody else's business, as is the choice of
// ports. Everything works in the calling thread's network namespace.
package socket

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/openfiles"
	"github.com/fairlead/fairlead/kernel/nowait"
	"github.com/fairlead/fairlead/kernel/sysctl"
)

// backlog asks for the longest queue; the kernel cuts it to net.core.somaxconn.
const backlog = 1<<16 - 1

// transport is how sockets of a protocol are made.
type transport struct{ kind, number int }

var transports = map[string]transport{
	"tcp":  {unix.SOCK_STREAM, unix.IPPROTO_TCP},
	"udp":  {unix.SOCK_DGRAM, unix.IPPROTO_UDP},
	"sctp": {unix.SOCK_STREAM, unix.IPPROTO_SCTP},
}

// Supported says whether this kernel has sockets of the protocol, "tcp", "udp" or
// "sctp": the last is an option of the kernel's (CONFIG_IP_SCTP), often a module
// that asking for a socket loads.
func Supported(proto string) bool {
	t, ok := transports[proto]
	if !ok {
		return false
	}
	fd, err := unix.Socket(unix.AF_INET, t.kind|unix.SOCK_CLOEXEC, t.number)
	return err == nil && unix.Close(fd) == nil
}

// place is where a socket is to be bound.
type place struct {
	netip.AddrPort
	family int
	scope  uint32 // the interface of an address of one link alone
}

func placeOf(ap netip.AddrPort) (place, error) {
	p := place{AddrPort: ap, family: unix.AF_INET6}
	a := ap.Addr().Unmap()
	if a.Is4() {
		p.family = unix.AF_INET
	}
	if zone := a.Zone(); zone != "" {
		i, err := net.InterfaceByName(zone)
		if err != nil {
			return p, fmt.Errorf("address %s: no link %s: %w", a, zone, errdefs.ErrInvalidArgument)
		}
		p.scope = uint32(i.Index)
	}
	return p, nil
}

// bind gives the socket the place.
func (p place) bind(fd int) error { return nowait.Bind(fd, p.AddrPort, p.scope) }

// toHold and toListen say what failed: a socket that is not for a host port is not
// called one.
func toHold(proto string, ap netip.AddrPort) string {
	return fmt.Sprintf("failed to bind host port %s/%s", ap, proto)
}

func toListen(proto string, ap netip.AddrPort) string {
	return fmt.Sprintf("failed to listen on %s/%s", ap, proto)
}

// explain says what keeps a socket from being bound, with the error's class.
func explain(failed string, err error) error {
	if why := openfiles.Why(err); why != "" {
		return &failure{failed + ": " + why, []error{err, errdefs.ErrResourceExhausted}}
	}
	for _, c := range []struct {
		errno unix.Errno
		class error
		text  string
	}{
		{unix.EADDRINUSE, errdefs.ErrConflict, "address already in use"},
		{unix.EADDRNOTAVAIL, errdefs.ErrInvalidArgument, "cannot assign requested address (this host does not have it)"},
		{unix.EACCES, errdefs.ErrPermissionDenied, "permission denied (CAP_NET_BIND_SERVICE is needed)"},
		{unix.EPERM, errdefs.ErrPermissionDenied, "operation not permitted"},
		{unix.EPROTONOSUPPORT, errdefs.ErrUnavailable, "this kernel does not have the protocol"},
		{unix.EAFNOSUPPORT, errdefs.ErrUnavailable, "this kernel does not have the address family"},
	} {
		if errors.Is(err, c.errno) {
			return &failure{failed + ": " + c.text, []error{c.errno, c.class}}
		}
	}
	return fmt.Errorf("%s: %w", failed, err)
}

// failure is an errno with the class it belongs to, read as one sentence.
type failure struct {
	text   string
	causes []error
}

func (f *failure) Error() string   { return f.text }
func (f *failure) Unwrap() []error { return f.causes }

// EphemeralRange returns the first and the last port that the kernel gives out by
// itself (net.ipv4.ip_local_port_range, for both families).
func EphemeralRange() (lo, hi uint16, err error) {
	const key = "net.ipv4.ip_local_port_range"
	text, err := sysctl.Get(key)
	if err != nil {
		return 0, 0, err
	}
	var ports [2]uint16
	fields := strings.Fields(text)
	for i := range ports {
		if len(fields) != len(ports) {
			return 0, 0, fmt.Errorf("sysctl %s is %q: want two ports", key, text)
		}
		n, err := strconv.ParseUint(fields[i], 10, 16)
		if err != nil {
			return 0, 0, fmt.Errorf("sysctl %s: %w", key, err)
		}
		ports[i] = uint16(n)
	}
	return ports[0], ports[1], nil
}
