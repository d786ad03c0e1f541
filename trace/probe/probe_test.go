package probe_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/trace"
	"github.com/fairlead/fairlead/trace/probe"
)

// site is a host with a bridge, a container behind it, and a machine outside: built by
// hand, with a translation both ways.
type site struct {
	t                     *testing.T
	host, inside, outside *lab.Host
}

const rules = `
table inet nat {
	chain pre { type nat hook prerouting priority dstnat; iifname "uplink" tcp dport 8080 dnat ip to 10.55.0.2:80; }
	chain post { type nat hook postrouting priority srcnat; iifname "br0" oifname "uplink" masquerade; }
}`

func newSite(t *testing.T) *site {
	t.Helper()
	l := lab.New(t)
	s := &site{t, l.Host("host"), l.Host("inside"), l.Host("outside")}
	l.Link(s.host.Port("uplink", "192.0.2.1/24", "2001:db8::1/64"), s.outside.Port("eth0", "192.0.2.2/24", "2001:db8::2/64"))
	l.Link(s.host.Port("veth0"), s.inside.Port("eth0", "10.55.0.2/24", "fd00:55::2/64"))
	for _, c := range []string{
		"ip link add br0 type bridge", "ip link set veth0 master br0", "ip link set br0 up",
		"ip addr add 10.55.0.1/24 dev br0", "ip addr add fd00:55::1/64 dev br0 nodad",
	} {
		s.host.Run("sh", "-c", c)
	}
	s.host.Router()
	s.inside.DefaultRoute("eth0", "10.55.0.1", "fd00:55::1")
	s.nft(rules)
	for _, proto := range []string{"tcp", "udp"} {
		s.outside.Listen(proto, "0.0.0.0:80")
		s.outside.Listen(proto, "[::]:80")
	}
	for _, a := range []string{"192.0.2.2", "2001:db8::2"} {
		lab.Reachable(t, s.inside, "icmp", a)
	}
	return s
}

func (s *site) nft(text string) {
	s.t.Helper()
	s.host.Run("sh", "-c", fmt.Sprintf("echo '%s' | nft -f -", text))
}

// probe sends one from the container, and watches it there and on the host.
func (s *site) probe(proto, to string) *trace.Observation {
	s.t.Helper()
	r := probe.Request{
		From: probe.Namespace{Name: "inside", Path: s.inside.Path()}, Watch: []probe.Namespace{{Name: "host", Path: s.host.Path(), Host: true}},
		Proto: proto, Destination: destination(s.t, proto, to), Timeout: 20 * time.Second,
	}
	result, err := probe.Run(s.t.Context(), r)
	if err != nil {
		s.t.Fatalf("%s to %s: %v", proto, to, err)
	}
	if len(result.Unwatched) > 0 {
		s.t.Errorf("%s to %s: not watched: %q", proto, to, result.Unwatched)
	}
	return result
}

func destination(t *testing.T, proto, to string) netip.AddrPort {
	t.Helper()
	if proto == "icmp" {
		return netip.AddrPortFrom(netip.MustParseAddr(to), 0)
	}
	return netip.MustParseAddrPort(to)
}

// way is where packets were seen, in order: interface and direction.
func way(r *trace.Observation) string {
	var out []string
	for _, s := range r.Seen {
		arrow := ">"
		if s.Back {
			arrow = "<"
		}
		out = append(out, arrow+s.Interface)
	}
	return strings.Join(out, " ")
}

// TestHops: every hop is seen in order, there and back, by ping, TCP and UDP, of both
// families, with addresses before and after translation.
func TestHops(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, c := range []struct{ proto, to string }{
		{"icmp", "192.0.2.2"},
		{"tcp", "192.0.2.2:80"},
		{"udp", "192.0.2.2:80"},
		{"icmp", "2001:db8::2"},
		{"tcp", "[2001:db8::2]:80"},
		{"udp", "[2001:db8::2]:80"},
	} {
		r := s.probe(c.proto, c.to)
		to := destination(t, c.proto, c.to)
		if got, want := way(r), ">eth0 >veth0 >br0 >uplink <uplink <br0 <veth0 <eth0"; got != want {
			t.Errorf("%s to %s: seen at %s, want %s\n%+v", c.proto, c.to, got, want, r)
			continue
		}
		inside, host := "10.55.0.2", "192.0.2.1"
		if to.Addr().Is6() {
			inside, host = "fd00:55::2", "2001:db8::1"
		}
		for i, want := range []string{inside, inside, inside, host, host, inside, inside, inside} {
			source, destination := r.Seen[i].Flow.Source, r.Seen[i].Flow.Destination
			if r.Seen[i].Back {
				source, destination = destination, source
			}
			if source.Addr().String() != want || destination != to || c.proto != "icmp" && source.Port() != r.Sent.Source.Port() {
				t.Errorf("%s to %s at %s: %s → %s, want from %s", c.proto, c.to, r.Seen[i].Interface, source, destination, want)
			}
			if i > 0 && r.Seen[i].After < r.Seen[i-1].After {
				t.Errorf("%s to %s: %s before what was before it", c.proto, c.to, r.Seen[i].Interface)
			}
		}
		if r.Answer.Kind != trace.AnswerYes || r.Answer.From != to.Addr() || r.Answer.After <= 0 || len(r.Drops) != 0 {
			t.Errorf("%s to %s: answer %+v, drops %+v", c.proto, c.to, r.Answer, r.Drops)
		}
		if !slices.ContainsFunc(r.Verdicts, func(v trace.TableVerdict) bool { return v.Table == "nat" && v.Chain == "post" }) {
			t.Errorf("%s to %s: no verdict of the table that translates: %+v", c.proto, c.to, r.Verdicts)
		}
		if ttl := r.Seen[2].TTL - r.Seen[3].TTL; ttl != 1 {
			t.Errorf("%s to %s: time to live %d and then %d", c.proto, c.to, r.Seen[2].TTL, r.Seen[3].TTL)
		}
	}
}
