package trace

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/network/spec"
)

// Question is what is asked: whether From reaches To.
type Question struct {
	// From and To are containers, networks, host, outside, addresses or names.
	From, To string
	// Port is the one asked for at To; 0 asks for an echo (ping).
	Port  uint16
	Proto string
	IPv6  bool
}

// ParseQuestion reads FROM and TO[:PORT[/PROTO]].
func ParseQuestion(from, to string, ipv6 bool) (Question, error) {
	q := Question{From: from, IPv6: ipv6}
	rest, proto, hasProto := strings.Cut(to, "/")
	host, port := rest, ""
	if strings.HasPrefix(rest, "[") {
		inside, after, ok := strings.Cut(rest[1:], "]")
		if !ok || after != "" && !strings.HasPrefix(after, ":") {
			return q, fmt.Errorf("%q is no TO[:PORT[/PROTO]]: a bracket is not closed: %w", to, errdefs.ErrInvalidArgument)
		}
		host, port = inside, strings.TrimPrefix(after, ":")
	} else if strings.Count(rest, ":") == 1 {
		host, port, _ = strings.Cut(rest, ":")
	}
	q.To, q.Proto = host, "icmp"
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return q, fmt.Errorf("%q is no port (1 to 65535) in %q: %w", port, to, errdefs.ErrInvalidArgument)
		}
		q.Port, q.Proto = uint16(n), "tcp"
	}
	if hasProto {
		q.Proto = strings.ToLower(proto)
	}
	switch {
	case from == "" || host == "":
		return q, fmt.Errorf("say from where and to where, as in: fairlead why web 192.0.2.7:443: %w", errdefs.ErrInvalidArgument)
	case q.Proto != "tcp" && q.Proto != "udp" && q.Proto != "sctp" && q.Proto != "icmp":
		return q, fmt.Errorf("unknown protocol %q: tcp, udp, sctp or icmp: %w", proto, errdefs.ErrInvalidArgument)
	case q.Port == 0 && q.Proto != "icmp":
		return q, fmt.Errorf("%s needs a port, as in %s:80/%s: %w", q.Proto, host, q.Proto, errdefs.ErrInvalidArgument)
	case q.Port != 0 && q.Proto == "icmp":
		return q, fmt.Errorf("icmp has no ports: %w", errdefs.ErrInvalidArgument)
	}
	for _, end := range []string{from, host} {
		a, err := netip.ParseAddr(end)
		if err == nil && a.Zone() != "" {
			return q, fmt.Errorf("%s is an address of one link alone, and no route leads to it: ask for another address of that machine: %w", end, errdefs.ErrInvalidArgument)
		}
		if err == nil && a.Unmap().Is6() {
			q.IPv6 = true
		}
	}
	return q, nil
}

// String is the question as it was asked.
func (q Question) String() string {
	to := q.To
	if q.Port != 0 {
		if strings.Contains(to, ":") {
			to = "[" + to + "]"
		}
		to = fmt.Sprintf("%s:%d/%s", to, q.Port, q.Proto)
	}
	return q.From + " → " + to
}

// Cause is one reason for which the packet does not come through.
type Cause struct {
	// Code tells causes apart for programs: no-default-route, forwarding-off, ….
	Code string `json:"code"`
	// What is wrong, in a sentence.
	What string `json:"what"`
	// Where it is: the container or the host, with the link, route, table, chain and
	// rule.
	Where string `json:"where,omitempty"`
	// Who did it, or whose it is: Fairlead, ufw, firewalld, Docker, the host's
	// administrator, the program in the container.
	Who string `json:"who,omitempty"`
	// Mend are commands that put it right, each by itself, the best first. What is to be
	// known of one is behind it, as a comment of the shell.
	Mend []string `json:"mend,omitempty"`
}

// Explanation is the answer to a question.
type Explanation struct {
	Question string `json:"question"`
	// Reachable says that by all that is known the packet comes there, and its answer
	// back.
	Reachable bool `json:"reachable"`
	// Flow is the first packet as it is sent.
	Flow Flow `json:"flow"`
	// There and Back are the ways of the packet and of its answer.
	There Path `json:"there"`
	Back  Path `json:"back"`
	// Stopped is the hop it does not get beyond, nil where it comes through.
	Stopped *Hop    `json:"stopped,omitempty"`
	Causes  []Cause `json:"causes"`
	// Doubts are what could not be judged, and may be in the way.
	Doubts []string `json:"doubts,omitempty"`
	// Probe is what was seen of a packet that was sent to see, nil where none was.
	Probe *Observation `json:"probe,omitempty"`
	// Healed is what was put back lately of what is on the way.
	Healed []spec.Mend `json:"healed,omitempty"`
	// Paused says that what differs is not put back now.
	Paused bool `json:"paused"`

	// hooks are the chains at interfaces, by namespace.
	hooks map[string][]string
}
