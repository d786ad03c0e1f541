package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/ruleset"
	"github.com/fairlead/fairlead/trace/netfilter"
)

// TraceTag begins the names of tables that a Tracer makes.
const TraceTag = "fairlead_trace_"

// Attributes of NFT_MSG_TRACE and their values (linux/netfilter/nf_tables.h).
const (
	traceTable     = 1
	traceChain     = 2
	traceHandle    = 3
	traceType      = 4
	traceVerdict   = 5
	traceID        = 6
	traceNetwork   = 8
	traceTransport = 9
	traceIIf       = 10
	traceOIf       = 12
	tracePolicy    = 16

	traceTypePolicy = 1
)

// priorityTrace is before all that is known: what defragments has -400.
const priorityTrace = -500

// TracedFlow is which packets a Tracer follows: those that have ID as their source or
// destination port, or with ICMP and ICMPv6 as the identifier of an echo, and the ICMP
// errors that quote them.
type TracedFlow struct {
	// Protocol is the number of the transport protocol (IANA, protocol numbers).
	Protocol uint8
	IPv6     bool
	ID       uint16
}

// Verdict is one decision of nf_tables on a traced packet.
type Verdict struct {
	// Time is when it was read, which is a little later than when it was taken.
	Time   time.Time
	Family ruleset.Family
	Table  string
	Chain  string
	// Handle is the rule's (`nft -a list ruleset`); 0 where Policy is set.
	Handle uint64
	// Policy says that the chain's end was reached and its policy decided.
	Policy bool
	// Verdict is accept, drop, continue, jump, goto, return, queue or stolen.
	Verdict string
	// To is the chain of a jump or goto.
	To string
	// Packet is the same for all verdicts on one packet in one hook.
	Packet uint32
	// In and Out are the indices of the interfaces, 0 where there is none yet.
	In, Out int
	// Network and Transport are the beginnings of those headers, of the first verdict of
	// each chain alone.
	Network, Transport []byte
}

// Tracer has the kernel tell of the verdicts on one flow's packets, by a table of its own
// in the namespace it was opened in. The kernel takes the table away with the Tracer's
// socket, however the process ends.
type Tracer struct {
	conn   *Conn
	table  string
	bridge bool
	events *os.File
	from   syscall.RawConn
}

// Trace opens a Tracer in the calling thread's network namespace. A kernel that does not
// take tables away with their owner (before Linux 5.12) gives errdefs.ErrUnavailable.
func Trace(ctx context.Context, flow TracedFlow) (*Tracer, error) {
	f, err := NewSocket()
	if err != nil {
		return nil, err
	}
	c, err := Open(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("trace nf_tables: %w", err), f.Close())
	}
	t := &Tracer{conn: c, bridge: c.features.Bridge}
	if err := t.begin(ctx, flow); err != nil {
		return nil, errors.Join(fmt.Errorf("trace nf_tables: %w", err), t.Close())
	}
	return t, nil
}

func (t *Tracer) begin(ctx context.Context, flow TracedFlow) error {
	if !t.conn.features.Owner {
		return fmt.Errorf("the kernel does not take a table away with its owner (Linux 5.12): %w", errdefs.ErrUnavailable)
	}
	port, err := t.conn.Port()
	if err != nil {
		return err
	}
	t.table = fmt.Sprintf("%s%d", TraceTag, port)
	// Before the table: nothing that it sets off is to be missed.
	if t.events, err = NewSocket(); err != nil {
		return err
	}
	raw, err := t.events.SyscallConn()
	if err != nil {
		return err
	}
	t.from = raw
	err = (&socket{raw: raw}).call(func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, unix.NFNLGRP_NFTRACE)
	})
	if err != nil {
		return err
	}
	return t.conn.own(ctx, flow.tables(t.table, t.bridge))
}

// own makes tables that go with the socket.
func (c *Conn) own(ctx context.Context, tables []ruleset.Table) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.newBatch(nil)
	for _, t := range tables {
		b.newTable(t, tableFlagOwner)
		for _, ch := range t.Chains {
			b.newChain(t, ch)
		}
		if err := b.contents(t); err != nil {
			return err
		}
	}
	failures, err := c.exchange(b, true)
	if err != nil {
		return err
	}
	if len(failures) == 0 {
		return nil
	}
	f := failures[0]
	if f.part < 0 {
		return f.errno
	}
	return fmt.Errorf("%s: %w %s", b.parts[f.part].about, f.errno, f.detail)
}

// tables mark the flow's packets where they come in and where the host sends them.
func (f TracedFlow) tables(name string, bridge bool) []ruleset.Table {
	families := []ruleset.Family{ruleset.Inet}
	if bridge {
		families = append(families, ruleset.Bridge)
	}
	var out []ruleset.Table
	for _, family := range families {
		t := ruleset.Table{Family: family, Name: name, Owner: true, Comment: "Fairlead follows one packet; gone when it has"}
		for _, hook := range []ruleset.Hook{ruleset.Prerouting, ruleset.Output} {
			t.Chains = append(t.Chains, ruleset.Chain{
				Name: string(hook), Type: ruleset.Filter, Hook: hook, Priority: priorityTrace, Policy: ruleset.PolicyAccept, Rules: f.rules(),
			})
		}
		out = append(out, t)
	}
	return out
}

// rules match the flow both ways, and errors that quote its packets.
func (f TracedFlow) rules() []ruleset.Rule {
	icmp, header := ruleset.TransportProtocol(unix.IPPROTO_ICMP), uint8(20)
	if f.IPv6 {
		icmp, header = unix.IPPROTO_ICMPV6, 40
	}
	carried := ruleset.Transport{Protocol: ruleset.TransportProtocol(f.Protocol)}
	rule := func(of ruleset.Transport, offset uint8) ruleset.Rule {
		return ruleset.NewRule("", of, ruleset.Bytes{Offset: offset, Value: f.ID}, ruleset.Traced{})
	}
	var out []ruleset.Rule
	quoted := uint8(0)
	if carried.Protocol == icmp {
		quoted = 4 // the identifier
		out = append(out, rule(carried, quoted))
	} else {
		out = append(out, rule(carried, 0), rule(carried, 2))
	}
	// An error has eight bytes of its own, then the packet it is about.
	return append(out, rule(ruleset.Transport{Protocol: icmp}, 8+header+quoted))
}

// mostRest is how many messages are read at most once ctx has ended: others may trace too.
const mostRest = 1000

// Next tells of verdicts, but those of the Tracer's own table. It ends with ctx, once what
// had come by then is told, and with os.ErrClosed after Close. Next is for one goroutine.
func (t *Tracer) Next(ctx context.Context, each func(Verdict)) error {
	stop := context.AfterFunc(ctx, func() { _ = t.events.SetReadDeadline(time.Now()) })
	defer stop()
	buf := make([]byte, 64<<10)
	for rest := 0; rest < mostRest; {
		var n int
		var err, closed error
		receive := func(fd uintptr) bool {
			n, _, err = unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
			return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
		}
		ended := ctx.Err() != nil
		if ended {
			rest++
			closed = t.from.Control(func(fd uintptr) { receive(fd) })
		} else {
			closed = t.from.Read(receive)
		}
		switch {
		case ended && errors.Is(err, unix.EAGAIN):
			return ctx.Err()
		case errors.Is(closed, os.ErrDeadlineExceeded):
			continue // ctx has ended
		case closed != nil:
			return fmt.Errorf("trace of nf_tables: %w", closed)
		case errors.Is(err, unix.ENOBUFS): // some were lost; the rest tells
			continue
		case err != nil:
			return fmt.Errorf("trace of nf_tables: %w", err)
		}
		now := time.Now()
		for _, m := range messages(buf[:n]) {
			if m.typ != unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_TRACE || len(m.body) < 4 {
				continue
			}
			// Of a base chain's end both the end and the policy are told.
			if v := parseTrace(m.body[0], m.body[4:]); v.Table != t.table && (v.Handle != 0 || v.Policy) {
				v.Time = now
				each(v)
			}
		}
	}
	return ctx.Err()
}

// Rule is the rule of a verdict much as nft prints it; "" for a policy, and where the rule
// is gone.
func (t *Tracer) Rule(family ruleset.Family, table, chain string, handle uint64) string {
	t.conn.mu.Lock()
	defer t.conn.mu.Unlock()
	rules, err := t.conn.tableRules(family, table)
	if err != nil {
		return ""
	}
	for _, r := range rules[chain] {
		if r.handle != handle {
			continue
		}
		out := netfilter.Rule{Handle: r.handle, Comment: r.comment}
		for _, e := range r.exprs {
			out.Exprs = append(out.Exprs, netfilter.Expr{Name: e.name, Data: e.data})
		}
		return out.String()
	}
	return ""
}

// Close takes the table away.
func (t *Tracer) Close() error {
	var errs []error
	if t.events != nil {
		errs = append(errs, t.events.Close())
	}
	return errors.Join(append(errs, t.conn.Close())...)
}

func parseTrace(family uint8, attrs []byte) Verdict {
	v := Verdict{Family: familyName(family)}
	attributes(attrs, func(typ uint16, val []byte) {
		switch typ {
		case traceTable:
			v.Table = cString(val)
		case traceChain:
			v.Chain = cString(val)
		case traceHandle:
			if len(val) == 8 {
				v.Handle = binary.BigEndian.Uint64(val)
			}
		case traceType:
			v.Policy = number(val) == traceTypePolicy
		case traceVerdict:
			attributes(val, func(typ uint16, val []byte) {
				switch typ {
				case unix.NFTA_VERDICT_CODE:
					v.Verdict = verdictName(int32(number(val)))
				case unix.NFTA_VERDICT_CHAIN:
					v.To = cString(val)
				}
			})
		case tracePolicy:
			v.Verdict = verdictName(int32(number(val)))
		case traceID:
			v.Packet = number(val)
		case traceNetwork:
			v.Network = append([]byte(nil), val...)
		case traceTransport:
			v.Transport = append([]byte(nil), val...)
		case traceIIf:
			v.In = int(number(val))
		case traceOIf:
			v.Out = int(number(val))
		}
	})
	return v
}

// verdictName is as nft writes it. What a queue is told is in the upper half of the code
// (linux/netfilter.h).
func verdictName(code int32) string {
	switch code {
	case nfDrop:
		return "drop"
	case nfAccept:
		return "accept"
	case 2:
		return "stolen"
	case unix.NFT_CONTINUE:
		return "continue"
	case unix.NFT_BREAK:
		return "break"
	case unix.NFT_JUMP:
		return "jump"
	case unix.NFT_GOTO:
		return "goto"
	case unix.NFT_RETURN:
		return "return"
	}
	switch code & 0xff {
	case nfDrop: // with an error for the sender (NF_DROP_ERR)
		return "drop"
	case 3:
		return "queue"
	}
	return fmt.Sprintf("%d", code)
}

// traced sets the packet's mark that it is traced.
func (e *exprWriter) traced() {
	e.expr("immediate", func(w *writer) {
		w.u32(unix.NFTA_IMMEDIATE_DREG, regFirst)
		data := w.nest(unix.NFTA_IMMEDIATE_DATA)
		w.bytes(unix.NFTA_DATA_VALUE, []byte{1})
		w.close(data)
	})
	e.expr("meta", func(w *writer) {
		w.u32(unix.NFTA_META_KEY, unix.NFT_META_NFTRACE)
		w.u32(unix.NFTA_META_SREG, regFirst)
	})
}
