// Package probe sends one packet and watches it at every hop of this host: by copies
// that interfaces give (kernel/capture), by the verdicts of nf_tables (kernel/nft) and by
// the kernel's own reasons for what it throws away (kernel/drops).
//
// All of that is there while a probe runs and not before or after: it is tied to sockets
// and files that the kernel closes with the process, however that ends.
//
// What must not live here: why a packet should come anywhere, and what is to be done
// where it does not (package trace).
package probe

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/trace"
)

// DefaultTimeout is how long an answer is waited for: longer than the kernel asks for a
// neighbour that is not there, which takes it three seconds.
const DefaultTimeout = 4 * time.Second

// settle is how long there is to hear of what happened before the answer, and of the
// rest once something was thrown away.
const settle = 200 * time.Millisecond

// Namespace is a network namespace in which the probe is watched.
type Namespace struct {
	// Name is the container's, or "host".
	Name string
	// Path is where it is pinned; "" is the caller's own.
	Path string
}

// Request is what is sent, and where it is watched.
type Request struct {
	// From is where it is sent, and Watch where else it is watched, in any order.
	From  Namespace
	Watch []Namespace
	// Proto is tcp (a connection, which is closed at once), udp (one datagram; to port 53 a
	// question for the root's name servers) or icmp (one echo request).
	Proto string
	// Source is the address that it is sent from; the zero Addr leaves it to the kernel.
	Source netip.Addr
	// Destination has port 0 with icmp.
	Destination netip.AddrPort
	// Addresses are others that the packet may have on its way by translation, for the
	// kernel's reasons for drops: those of From and the destination are known.
	Addresses []netip.Addr
	// Timeout is how long an answer is waited for; 0 is DefaultTimeout.
	Timeout time.Duration
}

// Result is what was seen.
type Result struct {
	// Sent is the packet as it left the sender. With icmp the source's port is the echo's
	// identifier.
	Sent trace.Flow `json:"sent"`
	// Seen is where it and what came back were seen, in order.
	Seen []Sight `json:"seen"`
	// Drops are the kernel's own reasons, Verdicts those of nf_tables, in order.
	Drops    []Drop    `json:"drops,omitempty"`
	Verdicts []Verdict `json:"verdicts,omitempty"`
	Answer   Answer    `json:"answer"`
	// Unwatched says what could not be watched, and why.
	Unwatched []string `json:"unwatched,omitempty"`
}

// Sight is a packet at an interface.
type Sight struct {
	// After is the time since the probe was first seen, or sent.
	After time.Duration `json:"after"`
	// Name and Namespace are the namespace's, as it was asked for.
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
	// Kind is what the interface is.
	Kind      trace.HopKind `json:"kind"`
	Interface string        `json:"interface"`
	Index     int           `json:"index"`
	// Outgoing says that the interface sent it.
	Outgoing bool `json:"outgoing"`
	// Back says that it goes against the probe.
	Back bool `json:"back"`
	// What is SYN, SYN-ACK, RST, datagram, echo request, echo reply or an ICMP error's name.
	What string     `json:"what"`
	Flow trace.Flow `json:"flow"`
	// TTL is the time to live, in IPv6 the hop limit.
	TTL uint8 `json:"ttl"`
	// ICMP is the error, where it is one.
	ICMP *ICMP `json:"icmp,omitempty"`
}

// Drop is a packet of the probe that the kernel threw away.
type Drop struct {
	After     time.Duration `json:"after"`
	Name      string        `json:"name,omitempty"`
	Namespace string        `json:"namespace,omitempty"`
	Interface string        `json:"interface,omitempty"`
	// Reason is the kernel's, without SKB_DROP_REASON_; "" before Linux 5.17.
	Reason string `json:"reason,omitempty"`
	// Function is the kernel's function.
	Function string     `json:"function,omitempty"`
	Back     bool       `json:"back"`
	What     string     `json:"what"`
	Flow     trace.Flow `json:"flow"`
}

// Verdict is a decision of nf_tables on a packet of the probe. iptables-nft has its rules
// there as well; those of iptables-legacy are not told of.
type Verdict struct {
	After     time.Duration `json:"after"`
	Name      string        `json:"name"`
	Namespace string        `json:"namespace,omitempty"`
	Family    string        `json:"family"`
	Table     string        `json:"table"`
	Chain     string        `json:"chain"`
	// Handle is the rule's (`nft -a list ruleset`), 0 where it is the chain's policy.
	Handle  uint64 `json:"handle,omitempty"`
	Verdict string `json:"verdict"`
	// To is the chain that is gone on in.
	To   string `json:"to,omitempty"`
	Back bool   `json:"back"`
	What string `json:"what,omitempty"`
	// In and Out are the interfaces, "" where there is none yet.
	In  string `json:"in,omitempty"`
	Out string `json:"out,omitempty"`
}

// Answers.
const (
	// AnswerYes is an echo reply, a datagram, or a connection.
	AnswerYes = "answered"
	// AnswerRefused is a reset: the address was reached, nobody listens.
	AnswerRefused = "refused"
	// AnswerError is an ICMP error, or one of the sender's own kernel.
	AnswerError = "error"
	// AnswerNone is that nothing came back in time.
	AnswerNone = "none"
)

// Answer is what came of it.
type Answer struct {
	Kind string `json:"kind"`
	// After is when, since the probe was first seen.
	After time.Duration `json:"after"`
	// From is who sent the answer, where a packet told.
	From netip.Addr `json:"from,omitzero"`
	// ICMP is the error, where it was one.
	ICMP *ICMP `json:"icmp,omitempty"`
	// Error is what the sender's kernel said to it.
	Error string `json:"error,omitempty"`
}

// ICMP is an error (IANA, ICMP and ICMPv6 parameters).
type ICMP struct {
	Type byte   `json:"type"`
	Code byte   `json:"code"`
	Name string `json:"name"`
}

// Run sends the probe and returns what was seen of it. Only one that cannot be sent at all,
// or not be watched anywhere, is an error; one that its own host does not send on, for want
// of a route say, is a Result.
func Run(ctx context.Context, r Request) (*Result, error) {
	r.Destination = netip.AddrPortFrom(r.Destination.Addr().Unmap(), r.Destination.Port())
	if err := r.check(); err != nil {
		return nil, err
	}
	s, err := r.prepare()
	if err != nil {
		return nil, fmt.Errorf("probe from %s: %w", r.From.Name, err)
	}
	defer s.close()
	w := newWatch(r, s.identity)
	defer w.close()
	if err := w.open(ctx); err != nil {
		return nil, fmt.Errorf("probe from %s: %w", r.From.Name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(r.Timeout, DefaultTimeout))
	defer cancel()
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	w.start(watching)
	begun := time.Now()
	var a Answer
	err = r.inside(func() error {
		a = s.send(ctx, w.dropped)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("probe from %s: %w", r.From.Name, err)
	}
	time.AfterFunc(settle, stop)
	return w.finish(begun, a, s.source), nil
}

func (r Request) check() error {
	a := r.Destination.Addr()
	switch {
	case !a.IsValid():
		return fmt.Errorf("a probe needs an address to go to: %w", errdefs.ErrInvalidArgument)
	case protocolNumber(r.Proto, a.Is6()) == 0:
		return fmt.Errorf("protocol %q of a probe: want tcp, udp or icmp: %w", r.Proto, errdefs.ErrInvalidArgument)
	case r.Proto != "icmp" && r.Destination.Port() == 0:
		return fmt.Errorf("a probe by %s needs a port: %w", r.Proto, errdefs.ErrInvalidArgument)
	case r.Source.IsValid() && r.Source.Unmap().Is4() != a.Is4():
		return fmt.Errorf("a probe from %s to %s, which is of another family: %w", r.Source, a, errdefs.ErrInvalidArgument)
	}
	return nil
}

// inside runs f where the probe is sent.
func (r Request) inside(f func() error) error { return r.From.inside(f) }

func (n Namespace) inside(f func() error) error {
	if n.Path == "" {
		return f()
	}
	ns, err := netns.Open(n.Path)
	if err != nil {
		return err
	}
	defer ns.Close()
	return netns.Do(ns, f)
}
