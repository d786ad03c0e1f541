package dns

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	wire "github.com/miekg/dns"
)

const (
	// ttl of our own names, in seconds: short, for containers come and go.
	ttl = 5
	// headerSize is the least that a message is (RFC 1035, 4.1.1).
	headerSize = 12
	// maxUDP bounds an answer by UDP, whatever the client says it takes.
	maxUDP = 4096
	// leastRecord is the least that an address takes in an answer.
	leastRecord = 16
	// MaxQuery is the longest query that is read.
	MaxQuery = 4096
)

// Transport is how a query came.
type Transport bool

// The transports.
const (
	UDP Transport = false
	TCP Transport = true
)

// Query is a query that others must be asked for.
type Query struct {
	sandbox *asker
	msg     *wire.Msg
	by      Transport
	name    string // canonical
	cached  bool
}

// Cached says that Forward answered it from memory.
func (q *Query) Cached() bool { return q.cached }

// Answer answers what needs nobody else. It returns the answer, or a query for
// Forward, or neither for a packet that no answer is due to. The packet is the
// caller's again afterwards.
func (r *Resolver) Answer(sandbox string, packet []byte, by Transport) ([]byte, *Query) {
	r.mu.Lock()
	a := r.askers[sandbox]
	r.mu.Unlock()
	if a == nil || len(packet) < headerSize {
		return nil, nil
	}
	var msg wire.Msg
	err := msg.Unpack(packet)
	if msg.Response {
		return nil, nil
	}
	q := &Query{sandbox: a, msg: &msg, by: by}
	if err != nil {
		// Of what could not be read only the ID and the bits are good.
		q.msg = &wire.Msg{MsgHdr: msg.MsgHdr}
		return q.refuse(wire.RcodeFormatError), nil
	}
	if code := check(&msg); code != wire.RcodeSuccess {
		return q.refuse(code), nil
	}
	q.name = canonical(msg.Question[0].Name)
	if m := r.local(q); m != nil {
		return q.pack(m), nil
	}
	return nil, q
}

// check says what is wrong with a query, RcodeSuccess when nothing is.
func check(m *wire.Msg) int {
	switch {
	case m.Opcode != wire.OpcodeQuery:
		return wire.RcodeNotImplemented
	case len(m.Question) != 1:
		return wire.RcodeFormatError
	}
	if opt := m.IsEdns0(); opt != nil && opt.Version() != 0 {
		return wire.RcodeBadVers
	}
	q := m.Question[0]
	// Whole zones, and what is no type of a record (RFC 6895, 3.1).
	if q.Qclass != wire.ClassINET || q.Qtype == wire.TypeOPT || (q.Qtype >= 128 && q.Qtype < wire.TypeANY) {
		return wire.RcodeRefused
	}
	return wire.RcodeSuccess
}

// local answers for names that are ours; nil for others'.
func (r *Resolver) local(q *Query) *wire.Msg {
	question := q.msg.Question[0]
	id := q.sandbox.id
	switch {
	case q.name == localhost || strings.HasSuffix(q.name, "."+localhost):
		return loopback(question)
	case q.name == Domain:
		return new(wire.Msg)
	}
	name, own := strings.CutSuffix(q.name, "."+Domain)
	if a, ok := reverse(q.name); ok {
		name, ours := r.names.owner(id, a)
		if !ours {
			return nil
		}
		m := new(wire.Msg)
		if question.Qtype == wire.TypePTR || question.Qtype == wire.TypeANY {
			m.Answer = []wire.RR{&wire.PTR{Hdr: header(question, wire.TypePTR), Ptr: presentation(name) + "."}}
		}
		return m
	}
	addrs, known := r.names.addresses(id, name, question.Qtype != wire.TypeAAAA)
	if q.by == UDP && len(addrs) > maxUDP/leastRecord {
		addrs = addrs[:maxUDP/leastRecord] // the rest would be cut anyway
	}
	if known {
		m := new(wire.Msg)
		if question.Qtype == wire.TypeA || question.Qtype == wire.TypeAAAA || question.Qtype == wire.TypeANY {
			for _, a := range addrs {
				m.Answer = append(m.Answer, record(question, a))
			}
		}
		return m
	}
	if own {
		return &wire.Msg{MsgHdr: wire.MsgHdr{Rcode: wire.RcodeNameError}}
	}
	if n := q.sandbox.ndots(); n > 0 && !strings.Contains(q.name, ".") && (question.Qtype == wire.TypeA || question.Qtype == wire.TypeAAAA) {
		// The client comes again with its search list. Not an empty answer: some
		// (musl's) take that for the end of the search.
		return &wire.Msg{MsgHdr: wire.MsgHdr{Rcode: wire.RcodeNameError}}
	}
	return nil
}

// localhost and what is under it is the container itself, whatever another calls
// itself (RFC 6761, 6.3).
const localhost = "localhost"

func loopback(q wire.Question) *wire.Msg {
	m := new(wire.Msg)
	switch q.Qtype {
	case wire.TypeA, wire.TypeANY:
		m.Answer = []wire.RR{record(q, netip.AddrFrom4([4]byte{127, 0, 0, 1}))}
	case wire.TypeAAAA:
		m.Answer = []wire.RR{record(q, netip.IPv6Loopback())}
	}
	return m
}

// presentation escapes what would not be read back as it stands (RFC 1035, 5.1).
func presentation(name string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, ";", `\;`, " ", `\032`, "@", `\@`, "(", `\(`, ")", `\)`, "$", `\$`).Replace(name)
}

func header(q wire.Question, rrtype uint16) wire.RR_Header {
	return wire.RR_Header{Name: q.Name, Rrtype: rrtype, Class: wire.ClassINET, Ttl: ttl}
}

func record(q wire.Question, a netip.Addr) wire.RR {
	if a.Is4() {
		return &wire.A{Hdr: header(q, wire.TypeA), A: a.AsSlice()}
	}
	return &wire.AAAA{Hdr: header(q, wire.TypeAAAA), AAAA: a.AsSlice()}
}

// reverse reads the address of a name under in-addr.arpa (RFC 1035, 3.5) or
// ip6.arpa (RFC 3596, 2.5).
func reverse(name string) (netip.Addr, bool) {
	if digits, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		parts := strings.Split(digits, ".")
		slices.Reverse(parts)
		a, err := netip.ParseAddr(strings.Join(parts, "."))
		return a, err == nil && a.Is4()
	}
	digits, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(digits) != 63 {
		return netip.Addr{}, false
	}
	var b [16]byte
	for i := range 32 {
		d, err := strconv.ParseUint(digits[2*i:2*i+1], 16, 8)
		if err != nil || (i < 31 && digits[2*i+1] != '.') {
			return netip.Addr{}, false
		}
		b[15-i/2] |= byte(d) << (4 * (i % 2))
	}
	return netip.AddrFrom16(b), true
}

// refuse answers with a code and nothing else.
func (q *Query) refuse(code int) []byte {
	return q.pack(&wire.Msg{MsgHdr: wire.MsgHdr{Rcode: code}})
}

// Fail answers that nobody could be asked.
func (q *Query) Fail() []byte { return q.refuse(wire.RcodeServerFailure) }

// pack makes m the answer to q: as long as its transport and client take.
func (q *Query) pack(m *wire.Msg) []byte {
	m.Id, m.Response, m.Opcode = q.msg.Id, true, q.msg.Opcode
	m.RecursionDesired, m.RecursionAvailable, m.CheckingDisabled = q.msg.RecursionDesired, true, q.msg.CheckingDisabled
	m.Question, m.Compress = q.msg.Question, true
	size := wire.MinMsgSize
	if opt := q.msg.IsEdns0(); opt != nil {
		size = min(max(int(opt.UDPSize()), wire.MinMsgSize), maxUDP)
		m.SetEdns0(maxUDP, opt.Do())
	} else if m.Rcode > 0xf {
		m.Rcode = wire.RcodeServerFailure // the rest of a code is in the OPT
	}
	if q.by == TCP {
		size = wire.MaxMsgSize
	}
	m.Truncate(size)
	out, err := m.Pack()
	if err == nil {
		return out
	}
	// What another server sent cannot be packed again.
	out = make([]byte, headerSize)
	binary.BigEndian.PutUint16(out, q.msg.Id)
	binary.BigEndian.PutUint16(out[2:], 0x8080|wire.RcodeServerFailure)
	return out
}
