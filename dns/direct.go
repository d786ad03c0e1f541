package dns

import (
	"encoding/binary"
	"net/netip"

	wire "github.com/miekg/dns"
)

// The usual query, one name of a neighbour and no more than its address, is answered
// straight from the packet to the packet: reading it into a message and writing one
// takes ten times as long. Whatever is unusual about a query is Answer's affair.

const (
	// maxID is the longest ID of a sandbox that is answered here.
	maxID = 64
	// maxName is the longest name there is, as it is sent (RFC 1035, 2.3.4).
	maxName = 255
	// DirectSize is the longest answer that AppendAnswer appends: what every client
	// takes.
	DirectSize = wire.MinMsgSize
	// maxDirect is how many addresses an answer has at most here: more may not fit in
	// DirectSize.
	maxDirect = 8
	// maxKnown bounds what is remembered of names that were asked for.
	maxKnown = 4096
	// pointer leads to the name in the question, which comes first after the header.
	pointer = 0xc000 | headerSize
	// optSize is the OPT record, which says what a client takes (RFC 6891, 6.1.2).
	optSize = 11
)

// direct is a query that AppendAnswer answers.
type direct struct {
	// key is by whom and for what it is asked, by which its answer is remembered; its
	// length is size. An array, for it to be on the stack.
	key  [maxID + 2 + maxName]byte
	size int

	question []byte // as it came, without type and class
	qtype    uint16
	opt, do  bool
}

// AppendAnswer appends the answer to a query by UDP for addresses of a sandbox's
// neighbour. It returns dst as it was where the query is any other, or not plain: Answer
// has the answer to those.
func (r *Resolver) AppendAnswer(dst []byte, sandbox string, packet []byte) []byte {
	var q direct
	if !q.read(packet, sandbox) {
		return dst
	}
	addrs, ok := r.names.remembered(q.key[:q.size])
	if !ok {
		name := string(q.key[len(sandbox)+2 : q.size])
		if Reserved(name) {
			return dst
		}
		if addrs, ok = r.names.remember(string(q.key[:q.size]), sandbox, name, q.qtype == wire.TypeA); !ok {
			return dst
		}
	}
	size := len(q.question) + 4 + headerSize
	for _, a := range addrs {
		size += 12 + a.BitLen()/8
	}
	if q.opt {
		size += optSize
	}
	if len(addrs) > maxDirect || size > DirectSize {
		return dst
	}
	turn := 0
	if len(addrs) > 0 {
		turn = int(r.names.turn.Add(1) % uint32(len(addrs)))
	}
	return q.append(dst, packet, addrs, turn)
}

// read reads the query; false for one that is not plain.
func (q *direct) read(packet []byte, sandbox string) bool {
	if len(packet) < headerSize || len(sandbox) > maxID {
		return false
	}
	// A query (QR and Opcode are 0), with one question, and no more than an OPT.
	be := binary.BigEndian
	extra := be.Uint16(packet[10:])
	if packet[2]&0xf8 != 0 || be.Uint16(packet[4:]) != 1 || be.Uint32(packet[6:]) != 0 || extra > 1 {
		return false
	}
	q.size = copy(q.key[:], sandbox) + 2
	rest, ok := q.readName(packet[headerSize:])
	if !ok || len(rest) < 4 {
		return false
	}
	q.qtype = be.Uint16(rest)
	if (q.qtype != wire.TypeA && q.qtype != wire.TypeAAAA) || be.Uint16(rest[2:]) != wire.ClassINET {
		return false
	}
	q.key[len(sandbox)+1] = byte(q.qtype)
	rest = rest[4:]
	if extra == 0 {
		return len(rest) == 0
	}
	// Its name is the root's, its version 0, and it has no options.
	if len(rest) != optSize || rest[0] != 0 || be.Uint16(rest[1:]) != wire.TypeOPT || rest[6] != 0 || be.Uint16(rest[9:]) != 0 {
		return false
	}
	q.opt, q.do = true, rest[7]&0x80 != 0
	return true
}

// readName reads a name of letters, digits, hyphens and underscores, and adds it to the
// key in the form names are compared in.
func (q *direct) readName(packet []byte) (rest []byte, ok bool) {
	at := 0
	for at < len(packet) && packet[at] != 0 {
		length := int(packet[at])
		if length > 63 || at+1+length >= len(packet) || at+1+length > maxName-1 {
			return nil, false
		}
		if at > 0 {
			q.key[q.size] = '.'
			q.size++
		}
		for _, c := range packet[at+1 : at+1+length] {
			switch {
			case 'A' <= c && c <= 'Z':
				c += 'a' - 'A'
			case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			default:
				return nil, false
			}
			q.key[q.size] = c
			q.size++
		}
		at += 1 + length
	}
	if at == 0 || at >= len(packet) {
		return nil, false
	}
	q.question = packet[:at+1]
	return packet[at+1:], true
}

// append writes the answer, beginning with the turn-th address.
func (q *direct) append(dst, packet []byte, addrs []netip.Addr, turn int) []byte {
	be := binary.BigEndian
	dst = append(dst, packet[0], packet[1])
	// QR, and RD as asked; RA, and CD as asked; NOERROR.
	dst = append(dst, 0x80|packet[2]&0x01, 0x80|packet[3]&0x10)
	dst = be.AppendUint16(dst, 1)
	dst = be.AppendUint16(dst, uint16(len(addrs)))
	dst = be.AppendUint16(dst, 0)
	dst = append(dst, packet[10], packet[11]) // an OPT for an OPT
	dst = append(dst, q.question...)
	dst = be.AppendUint16(dst, q.qtype)
	dst = be.AppendUint16(dst, wire.ClassINET)
	for i := range addrs {
		a := addrs[(turn+i)%len(addrs)]
		dst = be.AppendUint16(dst, pointer)
		dst = be.AppendUint16(dst, q.qtype)
		dst = be.AppendUint16(dst, wire.ClassINET)
		dst = be.AppendUint32(dst, ttl)
		dst = be.AppendUint16(dst, uint16(a.BitLen()/8))
		if a.Is4() {
			b := a.As4()
			dst = append(dst, b[:]...)
		} else {
			b := a.As16()
			dst = append(dst, b[:]...)
		}
	}
	if q.opt {
		flags := uint32(0)
		if q.do {
			flags = 0x8000
		}
		dst = append(dst, 0)
		dst = be.AppendUint16(dst, wire.TypeOPT)
		dst = be.AppendUint16(dst, maxUDP)
		dst = be.AppendUint32(dst, flags)
		dst = be.AppendUint16(dst, 0)
	}
	return dst
}

// remembered returns the addresses by a key that remember has.
func (n *names) remembered(key []byte) (addrs []netip.Addr, ok bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	addrs, ok = n.known[string(key)]
	return addrs, ok
}

// remember looks a name up for the sandbox and keeps what it is called by until any
// sandbox changes. A name that nobody has is not kept: there is no end of those.
func (n *names) remember(key, sandbox, name string, v4 bool) (addrs []netip.Addr, known bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if addrs, known = n.find(sandbox, name, v4); !known {
		return nil, false
	}
	if len(n.known) >= maxKnown {
		clear(n.known)
	}
	n.known[key] = addrs
	return addrs, true
}
