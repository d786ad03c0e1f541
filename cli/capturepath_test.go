package cli

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/trace"
)

// TestPathPicture: hops are printed in order, drops among them, with what was translated
// and the rule that dropped.
func TestPathPicture(t *testing.T) {
	t.Parallel()
	flow := func(from, to string) trace.Flow {
		return trace.Flow{Proto: "tcp", Source: netip.MustParseAddrPort(from), Destination: netip.MustParseAddrPort(to)}
	}
	first, second := flow("172.17.0.2:40000", "192.0.2.2:80"), flow("192.0.2.1:40000", "192.0.2.2:80")
	seen := trace.Observation{
		Sent: first,
		Seen: []trace.Sight{
			{Name: "red", Interface: "eth0", What: "SYN", Flow: first, TTL: 64},
			{After: 50 * time.Microsecond, Name: "host", Interface: "uplink", What: "SYN", Flow: second, TTL: 63},
		},
		Drops:    []trace.KernelDrop{{After: 30 * time.Microsecond, Name: "host", Interface: "uplink", Reason: "NETFILTER_DROP", Function: "nf_hook_slow", What: "SYN", Flow: first}},
		Verdicts: []trace.TableVerdict{{Name: "host", Family: "inet", Table: "foreign", Chain: "forward", Handle: 7, Rule: "tcp dport 80 drop", Verdict: "drop"}},
		Answer:   trace.Answer{Kind: trace.AnswerNone},
	}
	var out strings.Builder
	if err := printPath(&out, "red", seen); err != nil {
		t.Fatal(err)
	}
	want := `TCP connection from red: 172.17.0.2:40000 → 192.0.2.2:80/tcp

      0 µs  red   eth0    → SYN  172.17.0.2:40000 → 192.0.2.2:80/tcp  ttl 64
     30 µs  host  uplink  ✗ SYN  172.17.0.2:40000 → 192.0.2.2:80/tcp  dropped: NETFILTER_DROP in nf_hook_slow
     50 µs  host  uplink  → SYN  192.0.2.1:40000 → 192.0.2.2:80/tcp   ttl 63                                   source translated

Dropped on host by table inet foreign, chain forward, rule with handle 7: tcp dport 80 drop.

Not answered: last seen on host at uplink.
`
	if got := out.String(); got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
	seen.Answer = trace.Answer{Kind: trace.AnswerYes, From: netip.MustParseAddr("192.0.2.2"), After: 90 * time.Microsecond}
	if got := outcome(seen); got != "Answered by 192.0.2.2 after 90 µs." {
		t.Errorf("answered is %q", got)
	}
}
