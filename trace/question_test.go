package trace

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/trace/picture"
)

func TestParseQuestion(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		to   string
		want Question
	}{
		{"web", Question{To: "web", Proto: "icmp"}},
		{"web:80", Question{To: "web", Port: 80, Proto: "tcp"}},
		{"web:53/UDP", Question{To: "web", Port: 53, Proto: "udp"}},
		{"192.0.2.7:9/sctp", Question{To: "192.0.2.7", Port: 9, Proto: "sctp"}},
		{"2001:db8::1", Question{To: "2001:db8::1", Proto: "icmp", IPv6: true}},
		{"[2001:db8::1]:443", Question{To: "2001:db8::1", Port: 443, Proto: "tcp", IPv6: true}},
		{"[2001:db8::1]", Question{To: "2001:db8::1", Proto: "icmp", IPv6: true}},
		{"::ffff:192.0.2.1", Question{To: "::ffff:192.0.2.1", Proto: "icmp"}},
	} {
		c.want.From = "db"
		got, err := ParseQuestion("db", c.to, false)
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", c.to, got, err, c.want)
		}
		if again, err := ParseQuestion("db", strings.TrimPrefix(got.String(), "db → "), got.IPv6); err != nil || again != got {
			t.Errorf("%s: %s is read as %+v, %v", c.to, got, again, err)
		}
	}
	for _, to := range []string{"", ":80", "web:0", "web:65536", "web:http", "web:80/ftp", "web/tcp", "web:80/icmp", "[2001:db8::1", "[2001:db8::1]80", "fe80::1%eth0"} {
		if q, err := ParseQuestion("db", to, false); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%q: %+v, %v; want that it is refused", to, q, err)
		}
	}
}

// TestLookup: as the kernel looks a route up.
func TestLookup(t *testing.T) {
	t.Parallel()
	to := netip.MustParsePrefix
	route := func(table int, dst string, link, metric int) picture.Route {
		return picture.Route{Table: table, Kind: picture.Unicast, Dst: to(dst), Link: link, Metric: metric}
	}
	for _, c := range []struct {
		name   string
		routes []picture.Route
		rules  []picture.Rule
		q      wayQuery
		link   int // 0 for none
		kind   picture.RouteKind
	}{
		{"none", nil, nil, wayQuery{to: addr("192.0.2.1")}, 0, 0},
		{"the longest prefix", []picture.Route{route(tableMain, "192.0.2.0/24", 1, 0), route(tableMain, "192.0.2.0/25", 2, 9)}, nil, wayQuery{to: addr("192.0.2.1")}, 2, picture.Unicast},
		{"the lowest metric", []picture.Route{route(tableMain, "192.0.2.0/24", 1, 9), route(tableMain, "192.0.2.0/24", 2, 1)}, nil, wayQuery{to: addr("192.0.2.1")}, 2, picture.Unicast},
		{"another family", []picture.Route{route(tableMain, "::/0", 1, 0)}, nil, wayQuery{to: addr("192.0.2.1")}, 0, 0},
		{"a dead one", []picture.Route{{Table: tableMain, Kind: picture.Unicast, Dst: to("0.0.0.0/0"), Link: 1, Dead: true}}, nil, wayQuery{to: addr("192.0.2.1")}, 0, 0},
		{
			"by a rule",
			[]picture.Route{route(tableMain, "0.0.0.0/0", 1, 0), route(99, "0.0.0.0/0", 2, 0)},
			[]picture.Rule{{Priority: 5, From: to("10.0.0.0/8"), Table: 99, Kind: picture.Unicast, Suppress: -1}},
			wayQuery{to: addr("192.0.2.1"), from: addr("10.1.1.1")},
			2, picture.Unicast,
		},
		{
			"not by a rule of others",
			[]picture.Route{route(tableMain, "0.0.0.0/0", 1, 0), route(99, "0.0.0.0/0", 2, 0)},
			[]picture.Rule{{Priority: 5, From: to("10.0.0.0/8"), Table: 99, Kind: picture.Unicast, Suppress: -1}},
			wayQuery{to: addr("192.0.2.1"), from: addr("192.0.2.9")},
			1, picture.Unicast,
		},
		{
			"by an inverted rule",
			[]picture.Route{route(tableMain, "0.0.0.0/0", 1, 0), route(99, "0.0.0.0/0", 2, 0)},
			[]picture.Rule{{Priority: 5, From: to("10.0.0.0/8"), Table: 99, Kind: picture.Unicast, Suppress: -1, Invert: true}},
			wayQuery{to: addr("192.0.2.1"), from: addr("192.0.2.9")},
			2, picture.Unicast,
		},
		{
			"by mark",
			[]picture.Route{route(tableMain, "0.0.0.0/0", 1, 0), route(99, "0.0.0.0/0", 2, 0)},
			[]picture.Rule{{Priority: 5, Mark: 0x10, Mask: 0xf0, Table: 99, Kind: picture.Unicast, Suppress: -1}},
			wayQuery{to: addr("192.0.2.1"), mark: 0x13},
			2, picture.Unicast,
		},
		{
			"a rule that passes over default routes",
			[]picture.Route{route(tableMain, "192.0.2.0/24", 1, 0), route(99, "0.0.0.0/0", 2, 0)},
			[]picture.Rule{{Priority: 5, Table: 99, Kind: picture.Unicast, Suppress: 0}},
			wayQuery{to: addr("192.0.2.1")},
			1, picture.Unicast,
		},
		{
			"a route that throws it back",
			[]picture.Route{route(tableMain, "192.0.2.0/24", 1, 0), {Table: 99, Kind: picture.Throw, Dst: to("192.0.2.0/24")}},
			[]picture.Rule{{Priority: 5, Table: 99, Kind: picture.Unicast, Suppress: -1}},
			wayQuery{to: addr("192.0.2.1")},
			1, picture.Unicast,
		},
		{"a rule that prohibits", []picture.Route{route(tableMain, "0.0.0.0/0", 1, 0)}, []picture.Rule{{Priority: 5, Kind: picture.Prohibit}}, wayQuery{to: addr("192.0.2.1")}, 0, picture.Prohibit},
	} {
		n := &picture.Namespace{Links: []picture.Link{{Index: 1, Name: "a"}, {Index: 2, Name: "b"}}, Routes: c.routes, Rules: append(everybodysRules(), c.rules...)}
		if w := lookup(n, c.q); w.link.Index != c.link || w.route.Kind != c.kind || w.found != (c.kind != 0) {
			t.Errorf("%s: %+v; want link %d, %s", c.name, w, c.link, c.kind)
		}
	}
}

// TestWriteText: the way is drawn, with the mark where it stops.
func TestWriteText(t *testing.T) {
	t.Parallel()
	e, err := Explain(pictured(), question(t, "db web:81"))
	if err != nil {
		t.Fatal(err)
	}
	const want = `db → web:81/tcp: NOT reachable

there
  ├ container  db    eth0   10.30.0.3:50000 → 10.30.0.2:81/tcp
  │     route: 10.30.0.0/24 dev eth0
  ├ peer       db    veth2
  ├ bridge     back  br0
  ├ peer       web   veth1
  ✗ container  web   eth0

Cause: nothing listens on port 81/tcp in container web  [nothing-listening]
  where: container web, 10.30.0.2:81
  who:   the program that should
  mend:  nsenter --net=/netns/web ss -ltnup  # what does listen: the program has to be started, or told the port
         fairlead logs web
`
	var b strings.Builder
	if err := e.WriteText(&b); err != nil || b.String() != want {
		t.Errorf("%v:\n%s\nwant:\n%s", err, b.String(), want)
	}
}

// TestProved: a probe that is answered confirms; one that is not is the cause where
// reasoning found none, by the rule, or the kernel's reason, that was seen.
func TestProved(t *testing.T) {
	t.Parallel()
	open := Explanation{Reachable: true}
	shut := Explanation{Causes: []Cause{{Code: "forwarding-off"}}}
	none := Answer{Kind: AnswerNone}
	for _, c := range []struct {
		name      string
		e         Explanation
		o         Observation
		reachable bool
		code      string
		doubts    int
	}{
		{"answered", open, Observation{Answer: Answer{Kind: AnswerYes}}, true, "", 0},
		{"silence", open, Observation{Answer: none}, false, "no-answer", 0},
		{"refused", open, Observation{Answer: Answer{Kind: AnswerRefused}}, false, "refused", 0},
		{"an ICMP error", open, Observation{Answer: Answer{Kind: AnswerError, ICMP: &ICMPError{Name: "host unreachable"}}}, false, "icmp-error", 0},
		{"a rule", open, Observation{Answer: none, Verdicts: []TableVerdict{{Verdict: "drop", Family: "inet", Table: "t", Chain: "c", Handle: 3}}}, false, "dropped", 0},
		{"the kernel", open, Observation{Answer: none, Drops: []KernelDrop{{Reason: "NO_SOCKET"}}}, false, "kernel-drop", 0},
		{"a cause, and silence", shut, Observation{Answer: none}, false, "forwarding-off", 0},
		{"a cause, and an answer", shut, Observation{Answer: Answer{Kind: AnswerYes}}, false, "forwarding-off", 1},
	} {
		e := c.e.Proved(&c.o)
		code := ""
		if len(e.Causes) > 0 {
			code = e.Causes[0].Code
		}
		if e.Reachable != c.reachable || code != c.code || len(e.Doubts) != c.doubts || e.Probe != &c.o {
			t.Errorf("%s: %+v; want %t %s", c.name, e, c.reachable, c.code)
		}
	}
}
