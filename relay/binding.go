// Package relay holds the host ports of published container ports and carries
// their connections (the userland proxy), in a process that outlives the daemon;
// it also keeps the netlink socket that owns the firewall table.
//
// The daemon's side is Client; the process is `fairlead relay`. It knows owners
// and addresses, not containers and networks, and makes no firewall rules.
package relay

import (
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"
)

// Name is the hidden command of the process, and what its socket, lock and log
// under EXEC_ROOT are called.
const Name = "relay"

// protocol is the version of the methods below. A change that an older peer
// cannot follow raises it; "handover" keeps its meaning for ever.
const protocol = 2

// Binding is one held host port.
type Binding struct {
	// Owner is who asked for it: a sandbox's ID.
	Owner string `json:"owner"`
	// Proto is "tcp", "udp", or "sctp", which is only held.
	Proto string `json:"proto"`
	// Host is the address the socket is bound to.
	Host netip.AddrPort `json:"host"`
	// Backend is where Proxy carries connections to.
	Backend netip.AddrPort `json:"backend"`
	// Proxy turns the userland proxy on. Without it the port is only held: the
	// socket gets a filter that drops everything.
	Proxy bool `json:"proxy,omitempty"`
	// Revived is how often its socket was ended from outside and listens again since
	// this process has it. List tells it; Hold does not heed it.
	Revived uint64 `json:"revived,omitempty"`
	// File is the socket, as socket.Bind makes it. Hold needs it; List leaves it nil.
	File Socket `json:"-"`
}

// Socket is one of kernel/socket, or a file of one.
type Socket interface {
	Fd() uintptr
	Close() error
}

// String is owner-free: 0.0.0.0:8080/tcp.
func (b Binding) String() string { return fmt.Sprintf("%s/%s", b.Host, b.Proto) }

func (b Binding) validate() error {
	switch {
	case b.Owner == "":
		return fmt.Errorf("held port %s has no owner: %w", b, errdefs.ErrInvalidArgument)
	case b.Proto != proto(b.Proto):
		return fmt.Errorf("held port %s: protocol must be tcp, udp or sctp: %w", b, errdefs.ErrInvalidArgument)
	case b.Proxy && b.Proto == "sctp":
		return fmt.Errorf("held port %s: SCTP cannot be proxied: %w", b, errdefs.ErrInvalidArgument)
	case !b.Host.IsValid() || b.Host.Port() == 0:
		return fmt.Errorf("held port of %s has no host address: %w", b.Owner, errdefs.ErrInvalidArgument)
	case b.Proxy && (!b.Backend.IsValid() || b.Backend.Port() == 0):
		return fmt.Errorf("held port %s has no backend to proxy to: %w", b, errdefs.ErrInvalidArgument)
	}
	return nil
}
