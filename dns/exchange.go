package dns

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	wire "github.com/miekg/dns"
)

type server = netip.AddrPort

// upstreamUDP is the longest answer by UDP that is asked for: what crosses any
// path in one piece (RFC 9715).
const upstreamUDP = 1232

var buffers = sync.Pool{New: func() any { b := make([]byte, maxUDP); return &b }}

// nearMisses is after how many packets that come to a query's port from its server's
// address, and are no answer to it, somebody is taken to be guessing.
const nearMisses = 3

var errGuessed = errors.New("packets came that are no answer to the question, as if somebody guessed")

// exchange asks one server, by UDP, and by TCP where the answer is cut short, or
// somebody forges one. Every query has an ID by chance and a socket of its own, whose
// port is the kernel's choice (RFC 5452, 9.2).
func (r *Resolver) exchange(ctx context.Context, k key, to server) (m *wire.Msg, err error) {
	defer func() { // what a server sends ends nobody's process
		if cause := recover(); cause != nil {
			r.log.Error("panic", "panic", cause, "server", to, "stack", string(debug.Stack()))
			m, err = nil, errors.New("its answer could not be read")
		}
	}()
	m, err = r.exchangeBy(ctx, "udp", k, to, true)
	if errors.Is(err, errGuessed) {
		r.guessed(to)
		return r.exchangeBy(ctx, "tcp", k, to, true)
	}
	if err == nil && (m.Rcode == wire.RcodeFormatError || m.Rcode == wire.RcodeNotImplemented) {
		// A server that knows no EDNS (RFC 6891, 7).
		m, err = r.exchangeBy(ctx, "udp", k, to, false)
	}
	if err == nil && m.Truncated {
		return r.exchangeBy(ctx, "tcp", k, to, true)
	}
	return m, err
}

func (r *Resolver) exchangeBy(ctx context.Context, network string, k key, to server, edns bool) (*wire.Msg, error) {
	query, packed, err := k.query(edns)
	if err != nil {
		return nil, err
	}
	conn, err := r.dial.Dial(ctx, k.source.namespace, network, to)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		stop()
		_ = conn.Close()
	}()
	if network == "tcp" {
		return r.overTCP(conn, query, packed)
	}
	if _, err := conn.Write(packed); err != nil {
		return nil, err
	}
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	for range nearMisses {
		n, err := conn.Read(*b)
		if err != nil {
			return nil, err
		}
		if m, ok := answers((*b)[:n], query); ok {
			return m, nil
		}
	}
	return nil, errGuessed
}

// guessed tells of a forger, not too often.
func (r *Resolver) guessed(server server) {
	now := time.Now()
	r.mu.Lock()
	quiet := now.Sub(r.warned) < quietFor
	if !quiet {
		r.warned = now
	}
	r.mu.Unlock()
	if !quiet {
		r.log.Warn("packets that pretend to be a DNS server's answers: asking it by TCP", "server", server)
	}
}

const quietFor = 10 * time.Second

// query is the question as others are asked.
func (k key) query(edns bool) (*wire.Msg, []byte, error) {
	var id [2]byte
	_, _ = rand.Read(id[:])
	m := &wire.Msg{
		MsgHdr:   wire.MsgHdr{Id: binary.BigEndian.Uint16(id[:]), RecursionDesired: true, CheckingDisabled: k.cd},
		Question: []wire.Question{{Name: wire.Fqdn(k.name), Qtype: k.qtype, Qclass: wire.ClassINET}},
	}
	if edns {
		m.SetEdns0(upstreamUDP, k.do)
	}
	packed, err := m.Pack()
	if err != nil {
		return nil, nil, fmt.Errorf("pack a query: %w", err)
	}
	return m, packed, nil
}

// answers reads a packet, if it is an answer to the query (RFC 5452, 9.1).
func answers(packet []byte, query *wire.Msg) (*wire.Msg, bool) {
	m := new(wire.Msg)
	err := m.Unpack(packet)
	if m.Id != query.Id || !m.Response || m.Opcode != wire.OpcodeQuery {
		return nil, false
	}
	if len(m.Question) == 0 && err == nil && failed(m) {
		m.Question = query.Question // some leave it out of a refusal
	}
	if len(m.Question) != 1 {
		return nil, false
	}
	got, want := m.Question[0], query.Question[0]
	if got.Qtype != want.Qtype || got.Qclass != want.Qclass || !strings.EqualFold(got.Name, want.Name) {
		return nil, false
	}
	if err != nil {
		if !m.Truncated {
			return nil, false
		}
		m.Answer, m.Ns, m.Extra = nil, nil, nil // cut within a record
	}
	return m, true
}

// overTCP asks by TCP, where messages come with their length (RFC 1035, 4.2.2).
func (r *Resolver) overTCP(conn net.Conn, query *wire.Msg, packed []byte) (*wire.Msg, error) {
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(packed)), uint16(len(packed)))
	if _, err := conn.Write(append(framed, packed...)); err != nil {
		return nil, err
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, err
	}
	packet := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, packet); err != nil {
		return nil, err
	}
	if len(packet) > maxUDP {
		r.large.Lock() // it takes milliseconds: many at once would keep others waiting
		defer r.large.Unlock()
	}
	m, ok := answers(packet, query)
	if !ok {
		return nil, errors.New("the answer by TCP is to another question")
	}
	m.Truncated = false
	return m, nil
}
