package ruleset

import "fmt"

// PortIs matches packets of a protocol by the port they come from or go to.
type PortIs struct {
	Protocol TransportProtocol // TransportTCP or TransportUDP
	Selector Selector          // THSPort or THDPort
	Port     uint16
}

// SetPort writes another port into a packet of a protocol, and mends its checksum: a
// translation that knows nothing of connections, so that the kernel need not track them.
type SetPort PortIs

func (PortIs) expr()  {}
func (SetPort) expr() {}

// String is the match as nft writes it.
func (p PortIs) String() string {
	return fmt.Sprintf("%s %s %d", p.Protocol, p.Selector.port(), p.Port)
}

// String is the statement as nft writes it.
func (p SetPort) String() string {
	return fmt.Sprintf("%s %s set %d", p.Protocol, p.Selector.port(), p.Port)
}

// port is the selector without the header that it is of.
func (s Selector) port() string {
	if s == THSPort {
		return "sport"
	}
	return "dport"
}
