package trace

import (
	"net/netip"
	"time"
)

// Observation is what was seen of one probe: a packet that was sent to see where it comes
// (trace/probe).
type Observation struct {
	// Sent is the packet as it left the sender. With icmp the source's port is the echo's
	// identifier.
	Sent Flow `json:"sent"`
	// Seen is where it and what came back were seen, in order.
	Seen []Sight `json:"seen"`
	// Drops are the kernel's own reasons, Verdicts those of nf_tables, in order.
	Drops    []KernelDrop   `json:"drops,omitempty"`
	Verdicts []TableVerdict `json:"verdicts,omitempty"`
	Answer   Answer         `json:"answer"`
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
	Kind      HopKind `json:"kind"`
	Interface string  `json:"interface"`
	Index     int     `json:"index"`
	// Outgoing says that the interface sent it.
	Outgoing bool `json:"outgoing"`
	// Back says that it goes against the probe.
	Back bool `json:"back"`
	// What is SYN, SYN-ACK, RST, datagram, echo request, echo reply or an ICMP error's name.
	What string `json:"what"`
	Flow Flow   `json:"flow"`
	// TTL is the time to live, in IPv6 the hop limit.
	TTL uint8 `json:"ttl"`
	// ICMP is the error, where it is one.
	ICMP *ICMPError `json:"icmp,omitempty"`
}

// KernelDrop is a packet of the probe that the kernel threw away.
type KernelDrop struct {
	After     time.Duration `json:"after"`
	Name      string        `json:"name,omitempty"`
	Namespace string        `json:"namespace,omitempty"`
	Interface string        `json:"interface,omitempty"`
	// Reason is the kernel's, without SKB_DROP_REASON_; "" before Linux 5.17.
	Reason string `json:"reason,omitempty"`
	// Function is the kernel's function.
	Function string `json:"function,omitempty"`
	Back     bool   `json:"back"`
	What     string `json:"what"`
	Flow     Flow   `json:"flow"`
}

// TableVerdict is a decision of nf_tables on a packet of the probe. iptables-nft has its rules
// there as well; those of iptables-legacy are not told of.
type TableVerdict struct {
	After     time.Duration `json:"after"`
	Name      string        `json:"name"`
	Namespace string        `json:"namespace,omitempty"`
	Family    string        `json:"family"`
	Table     string        `json:"table"`
	Chain     string        `json:"chain"`
	// Handle is the rule's (`nft -a list ruleset`), 0 where it is the chain's policy.
	Handle uint64 `json:"handle,omitempty"`
	// Rule is the rule much as nft prints it, of one that drops alone.
	Rule    string `json:"rule,omitempty"`
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
	ICMP *ICMPError `json:"icmp,omitempty"`
	// Error is what the sender's kernel said to it.
	Error string `json:"error,omitempty"`
}

// ICMPError is an error (IANA, ICMP and ICMPv6 parameters).
type ICMPError struct {
	Type byte   `json:"type"`
	Code byte   `json:"code"`
	Name string `json:"name"`
}
