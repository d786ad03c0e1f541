package craft

import (
	"encoding/binary"

	"github.com/gopacket/gopacket/layers"
)

// Answer is what whoever serves a packet gives: SYN and ACK, a datagram back, an echo
// reply. A refusal (RST, an ICMP error) is no answer.
type Answer struct {
	// Proto, Port and Mark are the packet's, its Port being the one it came from. An
	// answer by UDP has no mark.
	Proto      string
	Port, Mark uint16
}

// Answer is the packet's. From which address it comes does not matter: the packet got
// to somebody.
func (p Packet) Answer() Answer {
	a := Answer{Proto: p.Proto, Port: p.Src.Port(), Mark: p.Mark}
	if p.Proto == "udp" {
		a.Mark = 0
	}
	return a
}

// AnswerIn reads an Ethernet frame; false where it carries no answer. It is for ears
// that hear a great deal, and so takes the few bytes that matter.
func AnswerIn(frame []byte) (Answer, bool) {
	const ethernet, least = 14, 8
	if len(frame) < ethernet {
		return Answer{}, false
	}
	p := frame[ethernet:]
	var protocol layers.IPProtocol
	switch layers.EthernetType(binary.BigEndian.Uint16(frame[12:])) {
	case layers.EthernetTypeIPv4:
		if len(p) < 20 || len(p) < int(p[0]&15)*4 {
			return Answer{}, false
		}
		protocol, p = layers.IPProtocol(p[9]), p[int(p[0]&15)*4:]
	case layers.EthernetTypeIPv6:
		if len(p) < 40 {
			return Answer{}, false
		}
		protocol, p = layers.IPProtocol(p[6]), p[40:]
	default:
		return Answer{}, false
	}
	if len(p) < least {
		return Answer{}, false
	}
	return transport(protocol, p)
}

// transport reads what is behind the IP header, of which there are eight bytes or more.
func transport(protocol layers.IPProtocol, p []byte) (Answer, bool) {
	word := func(at int) uint16 { return binary.BigEndian.Uint16(p[at:]) }
	const synACK = 0x12 // RFC 9293, section 3.1
	switch protocol {
	case layers.IPProtocolTCP:
		if len(p) < 20 || p[13]&synACK != synACK {
			return Answer{}, false
		}
		return Answer{Proto: "tcp", Port: word(2), Mark: word(8)}, true
	case layers.IPProtocolUDP:
		return Answer{Proto: "udp", Port: word(2)}, true
	case layers.IPProtocolICMPv4:
		return Answer{Proto: "icmp", Port: word(4), Mark: word(6)}, p[0] == layers.ICMPv4TypeEchoReply
	case layers.IPProtocolICMPv6:
		return Answer{Proto: "icmp", Port: word(4), Mark: word(6)}, p[0] == layers.ICMPv6TypeEchoReply
	default:
		return Answer{}, false
	}
}
