package spec

import (
	"fmt"
	"net/netip"
)

// Proto is a transport protocol that can be published.
type Proto string

// The protocols that can be published.
const (
	TCP  Proto = "tcp"
	UDP  Proto = "udp"
	SCTP Proto = "sctp"
)

// PortRequest asks to publish one container port.
type PortRequest struct {
	Proto Proto `json:"proto"`
	// Port is the container's, 1 to 65535.
	Port uint16 `json:"port"`
	// HostIP is the host address to listen on; the zero Addr means the
	// network's default, else every address of both families.
	HostIP netip.Addr `json:"host_ip,omitzero"`
	// HostPort is the first host port that will do, and HostPortEnd the last;
	// 0 and 0 take a free one from the host's ephemeral range.
	HostPort    uint16 `json:"host_port,omitempty"`
	HostPortEnd uint16 `json:"host_port_end,omitempty"`
}

// PortBinding is one published port: connections to Host reach Container.
type PortBinding struct {
	Proto Proto `json:"proto"`
	// Host is where the host listens; 0.0.0.0 and :: are separate bindings. Port 0
	// says that the host does not: see Routed.
	Host netip.AddrPort `json:"host"`
	// Container is the endpoint's address and port. Its family differs from
	// Host's where an IPv6 host address serves an IPv4-only container: that
	// binding is the userland proxy's alone.
	Container netip.AddrPort `json:"container"`
}

// Routed says that the network translates nothing in the binding's family
// (GatewayRouted): the container's own address and port are reached directly, and
// the host holds no port. Host is then the family's unspecified address, port 0.
func (b PortBinding) Routed() bool { return b.Host.Port() == 0 }

// Translatable says whether the kernel can translate the binding: both ends are
// of one family, and the host has a port.
func (b PortBinding) Translatable() bool {
	return !b.Routed() && b.Host.Addr().Is4() == b.Container.Addr().Is4()
}

// String is docker's form, 0.0.0.0:8080->80/tcp.
func (b PortBinding) String() string {
	return fmt.Sprintf("%s->%d/%s", b.Host, b.Container.Port(), b.Proto)
}
