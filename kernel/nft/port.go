package nft

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/ruleset"
)

// checksums are where the headers have theirs, in bytes (RFC 9293, RFC 768).
var checksums = map[ruleset.TransportProtocol]uint32{ruleset.TransportTCP: 16, ruleset.TransportUDP: 6}

// port writes what matches a port.
func (e *exprWriter) port(x ruleset.PortIs) error {
	place, err := e.portOf(x)
	if err != nil {
		return err
	}
	e.payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, place, 2, regFirst)
	e.compare(unix.NFT_CMP_EQ, big16(x.Port))
	return nil
}

// setPort writes what changes a port. A packet whose checksum the device would make, as that
// of loopback does, has none to mend (nft_payload_set_eval, Linux 4.6).
func (e *exprWriter) setPort(x ruleset.PortIs) error {
	place, err := e.portOf(x)
	if err != nil {
		return err
	}
	e.expr("immediate", func(w *writer) {
		w.u32(unix.NFTA_IMMEDIATE_DREG, regFirst)
		data := w.nest(unix.NFTA_IMMEDIATE_DATA)
		w.bytes(unix.NFTA_DATA_VALUE, big16(x.Port))
		w.close(data)
	})
	e.expr("payload", func(w *writer) {
		w.u32(unix.NFTA_PAYLOAD_SREG, regFirst)
		w.u32(unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_TRANSPORT_HEADER)
		w.u32(unix.NFTA_PAYLOAD_OFFSET, place)
		w.u32(unix.NFTA_PAYLOAD_LEN, 2)
		w.u32(unix.NFTA_PAYLOAD_CSUM_TYPE, unix.NFT_PAYLOAD_CSUM_INET)
		w.u32(unix.NFTA_PAYLOAD_CSUM_OFFSET, checksums[x.Protocol])
	})
	return nil
}

// portOf sees that the packet is of the protocol, and says where its port is.
func (e *exprWriter) portOf(x ruleset.PortIs) (offset uint32, err error) {
	if checksums[x.Protocol] == 0 || x.Selector != ruleset.THSPort && x.Selector != ruleset.THDPort {
		return 0, fmt.Errorf("%s of %s is no port", x.Selector, x.Protocol)
	}
	if e.over != x.Protocol {
		e.over = x.Protocol
		e.transport(byte(x.Protocol))
	}
	return payloads[x.Selector].offset, nil
}
