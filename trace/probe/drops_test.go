package probe_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/trace"
	"github.com/fairlead/fairlead/trace/probe"
)

// TestStopped: who stopped a probe is named: the foreign rule by table, chain and handle,
// the kernel's own reason with its place, the ICMP error or reset that came back, the
// sender's own kernel.
func TestStopped(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, c := range []struct {
		name, do, undo string
		inside         bool // where it is done
		proto, to      string
		kind           string
		// reason and at are the kernel's; "" for no drop. icmp is what came back.
		reason, at, icmp string
	}{
		{name: "datagram, nobody listens", proto: "udp", to: "10.55.0.1:9", kind: trace.AnswerRefused, reason: "NO_SOCKET", at: "br0", icmp: "port unreachable"},
		{name: "datagram, nobody listens", proto: "udp", to: "[fd00:55::1]:9", kind: trace.AnswerRefused, reason: "NO_SOCKET", at: "br0", icmp: "port unreachable"},
		{name: "connection, nobody listens", proto: "tcp", to: "10.55.0.1:9", kind: trace.AnswerRefused, reason: "NO_SOCKET", at: "br0"},
		{
			name: "rp_filter", proto: "icmp", to: "10.55.0.1", kind: trace.AnswerNone, reason: "IP_RPFILTER", at: "br0",
			do: "sysctl -qw net.ipv4.conf.br0.rp_filter=1; ip route add 10.55.0.2 dev uplink", undo: "ip route del 10.55.0.2; sysctl -qw net.ipv4.conf.br0.rp_filter=0",
		},
		{
			name: "time to live", proto: "tcp", to: "192.0.2.2:80", kind: trace.AnswerError, reason: "IP_INHDR", at: "br0", icmp: "time to live exceeded",
			do: "sysctl -qw net.ipv4.ip_default_ttl=1", undo: "sysctl -qw net.ipv4.ip_default_ttl=64", inside: true,
		},
		{
			name: "time to live", proto: "icmp", to: "2001:db8::2", kind: trace.AnswerError, reason: "IP_INHDR", at: "br0", icmp: "hop limit exceeded",
			do: "ip -6 route replace default via fd00:55::1 hoplimit 1", undo: "ip -6 route replace default via fd00:55::1", inside: true,
		},
		{
			name: "rejected", proto: "tcp", to: "192.0.2.2:80", kind: trace.AnswerError, icmp: "administratively prohibited", reason: "NETFILTER_DROP", at: "br0",
			do: "nft 'table inet planted { chain c { type filter hook forward priority 5; reject with icmpx admin-prohibited; }; }'", undo: "nft delete table inet planted",
		},
		{name: "no route", proto: "tcp", to: "192.0.2.2:80", kind: trace.AnswerError, do: "ip route del default", undo: "ip route add default via 10.55.0.1", inside: true},
	} {
		where := s.host
		if c.inside {
			where = s.inside
		}
		if c.do != "" {
			where.Run("sh", "-ec", c.do)
		}
		r := s.probe(c.proto, c.to)
		if c.undo != "" {
			where.Run("sh", "-ec", c.undo)
		}
		what := fmt.Sprintf("%s: %s to %s", c.name, c.proto, c.to)
		if r.Answer.Kind != c.kind {
			t.Errorf("%s: answer %+v, want %s", what, r.Answer, c.kind)
		}
		if icmp := r.Answer.ICMP; (icmp != nil || c.icmp != "") && (icmp == nil || icmp.Name != c.icmp) {
			t.Errorf("%s: came back %+v, want %q", what, icmp, c.icmp)
		}
		found := slices.ContainsFunc(r.Drops, func(d trace.KernelDrop) bool {
			return d.Reason == c.reason && d.Interface == c.at && d.Name == "host" && d.Function != "" && !d.Back
		})
		if c.reason != "" && !found || c.reason == "" && len(r.Drops) > 0 {
			t.Errorf("%s: drops %+v, want %q at %q", what, r.Drops, c.reason, c.at)
		}
		if c.name == "no route" && len(r.Seen) > 0 {
			t.Errorf("%s: seen at %s", what, way(r))
		}
	}
}

// TestForeignRule: a rule of another program that drops is named by its table, chain and
// handle, of both families, in one direction and the other, on the bridge as well; so is
// a policy.
func TestForeignRule(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, c := range []struct{ family, hook, policy, rule, proto, to, last string }{
		{"inet", "forward", "accept", "tcp dport 80 counter drop", "tcp", "192.0.2.2:80", ">br0"},
		{"ip6", "forward", "accept", "udp dport 80 drop", "udp", "[2001:db8::2]:80", ">br0"},
		{"inet", "forward", "accept", "tcp sport 80 drop", "tcp", "[2001:db8::2]:80", "<uplink"},
		{"inet", "forward", "drop", "", "icmp", "192.0.2.2", ">br0"},
		{"bridge", "input", "accept", "ip protocol icmp drop", "icmp", "192.0.2.2", ">veth0"},
	} {
		s.nft(fmt.Sprintf("table %s planted { chain wall { type filter hook %s priority 5; policy %s; counter; %s; }; }", c.family, c.hook, c.policy, c.rule))
		handle := ""
		for line := range strings.Lines(s.host.Run("nft", "-a", "list", "table", c.family, "planted")) {
			if strings.Contains(line, " drop # handle") {
				handle = line[strings.Index(line, "# handle ")+len("# handle "):]
			}
		}
		r := s.probe(c.proto, c.to)
		s.host.Run("nft", "delete", "table", c.family, "planted")
		var drop trace.TableVerdict
		for _, v := range r.Verdicts {
			if v.Verdict == "drop" {
				drop = v
			}
		}
		want := trace.TableVerdict{
			After: drop.After, Name: "host", Namespace: s.host.Path(), Family: c.family, Table: "planted", Chain: "wall",
			Verdict: "drop", Back: strings.HasPrefix(c.last, "<"), What: drop.What, In: c.last[1:], Out: drop.Out,
		}
		if handle != "" {
			_, _ = fmt.Sscan(handle, &want.Handle)
		}
		if c.rule != "" {
			if drop.Rule != c.rule && drop.Rule != "meta protocol ip "+c.rule {
				t.Errorf("%+v: the rule is told as %s", c, drop.Rule)
			}
		}
		want.Rule = drop.Rule
		if drop != want {
			t.Errorf("%+v: dropped by %+v, want %+v", c, drop, want)
		}
		if seen := way(r); !strings.HasSuffix(seen, c.last) || r.Answer.Kind != trace.AnswerNone {
			t.Errorf("%+v: seen at %s, answer %+v", c, seen, r.Answer)
		}
		if !slices.ContainsFunc(r.Drops, func(d trace.KernelDrop) bool { return d.Reason == "NETFILTER_DROP" && d.Back == want.Back }) {
			t.Errorf("%+v: the kernel's reasons are %+v", c, r.Drops)
		}
	}
	if tables := s.host.Run("nft", "list", "tables"); strings.Contains(tables, "trace") {
		t.Errorf("left behind: %s", tables)
	}
}

// TestPublished: a connection from another machine is seen at every hop to a container
// whose port is published, and back, with the translated address.
func TestPublished(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.inside.Listen("tcp", "0.0.0.0:80")
	r, err := probe.Run(t.Context(), probe.Request{
		From: probe.Namespace{Name: "outside", Path: s.outside.Path()}, Proto: "tcp", Destination: destination(t, "tcp", "192.0.2.1:8080"),
		Watch: []probe.Namespace{{Name: "host", Path: s.host.Path(), Host: true}, {Name: "inside", Path: s.inside.Path()}}, Timeout: 20 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := way(r), ">eth0 >uplink >br0 >veth0 >eth0 <eth0 <veth0 <br0 <uplink <eth0"; got != want || r.Answer.Kind != trace.AnswerYes {
		t.Fatalf("seen at %s, want %s; answer %+v", got, want, r.Answer)
	}
	for i, want := range []string{"192.0.2.1:8080", "192.0.2.1:8080", "10.55.0.2:80", "10.55.0.2:80", "10.55.0.2:80"} {
		if r.Seen[i].Flow.Destination.String() != want || r.Seen[9-i].Flow.Source.String() != want {
			t.Errorf("at %s to %s, back at %s from %s; want %s", r.Seen[i].Interface, r.Seen[i].Flow.Destination, r.Seen[9-i].Interface, r.Seen[9-i].Flow.Source, want)
		}
	}
	lab.Reachable(t, s.outside, "tcp", "192.0.2.1:8080")
}
