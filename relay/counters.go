package relay

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/internal/tally"
	"github.com/fairlead/fairlead/proxy"
)

// Counters are what the process has done since it was started. They begin anew with each
// process: after a crash, and with another build.
type Counters struct {
	// Held are the ports that are held, by protocol.
	Held map[string]int `json:"held"`
	// Carried is what the userland proxy carried, by protocol, also for ports that are
	// no longer held.
	Carried map[string]proxy.Carried `json:"carried"`
	// Ports are those of the held ports that anything came by, by protocol and address.
	Ports []PortCounters `json:"ports,omitempty"`
	// Queries are what resolvers answered.
	Queries []QueryCounters `json:"queries"`
	// Latencies are how long the answers took, from when the query was read, by source.
	Latencies map[Source]tally.Observed `json:"latencies"`
}

// PortCounters are what the userland proxy carried by one held port.
type PortCounters struct {
	Proto string         `json:"proto"`
	Host  netip.AddrPort `json:"host"`
	proxy.Carried
}

// Source is where an answer is from.
type Source string

// The sources: what the resolver was told of containers, its cache, other servers.
const (
	FromNames   Source = "names"
	FromCache   Source = "cache"
	FromServers Source = "servers"
)

var sources = [...]Source{FromNames, FromCache, FromServers}

// Outcomes are what answers say (RFC 1035, 4.1.1); those that are not named are "other".
var Outcomes = [...]string{"noerror", "nxdomain", "servfail", "refused", "other"}

// QueryCounters are how many answers of one source said one thing.
type QueryCounters struct {
	Source  Source `json:"source"`
	Outcome string `json:"outcome"`
	Count   uint64 `json:"count"`
}

// Counters asks the process what it has done. It serves on meanwhile.
func (c *Client) Counters(ctx context.Context) (Counters, error) {
	var out Counters
	_, err := c.rpc.Call(ctx, "counters", nil, nil, &out)
	return out, err
}

func (s *server) counters() Counters {
	var c Counters
	c.Held, c.Carried, c.Ports = s.table.counters()
	c.Queries, c.Latencies = s.resolvers.queries.read()
	return c
}

// The protocols that are proxied, as table.carried has them.
var proxied = [...]string{"tcp", "udp"}

// traffic is what counts the port's. mu is held.
func (t *table) traffic(p *port) *proxy.Traffic {
	if p.carried == nil {
		p.carried = &proxy.Traffic{Total: &t.carried[slices.Index(proxied[:], p.Proto)]}
	}
	return p.carried
}

func (t *table) counters() (held map[string]int, carried map[string]proxy.Carried, ports []PortCounters) {
	held = map[string]int{"tcp": 0, "udp": 0, "sctp": 0}
	carried = make(map[string]proxy.Carried, len(proxied))
	var busy []*port
	t.mu.Lock()
	for _, p := range t.ports {
		held[p.Proto]++
		if p.carried != nil {
			busy = append(busy, p)
		}
	}
	t.mu.Unlock()
	for _, p := range busy { // what is read here is never changed
		ports = append(ports, PortCounters{Proto: p.Proto, Host: p.Host, Carried: p.carried.Read()})
	}
	slices.SortFunc(ports, func(a, b PortCounters) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), a.Host.Compare(b.Host))
	})
	for i, name := range proxied {
		carried[name] = t.carried[i].Read()
	}
	return held, carried, ports
}

// queries counts what resolvers answered. The zero value is ready.
type queries struct {
	answers   [len(sources)][len(Outcomes)]atomic.Uint64
	latencies [len(sources)]tally.Durations
}

// count counts one answer, the code of which is in its fourth byte.
func (q *queries) count(source Source, answer []byte, took time.Duration) {
	if len(answer) < 4 {
		return
	}
	outcome := len(Outcomes) - 1
	switch answer[3] & 0xf {
	case 0:
		outcome = 0
	case 3:
		outcome = 1
	case 2:
		outcome = 2
	case 5:
		outcome = 3
	}
	i := slices.Index(sources[:], source)
	q.answers[i][outcome].Add(1)
	q.latencies[i].Observe(took)
}

// countDirect counts so many addresses of neighbours, each of which took so long.
func (q *queries) countDirect(n int, took time.Duration) {
	i := slices.Index(sources[:], FromNames)
	q.answers[i][0].Add(uint64(n))
	for range n {
		q.latencies[i].Observe(took)
	}
}

func (q *queries) read() ([]QueryCounters, map[Source]tally.Observed) {
	var counts []QueryCounters
	latencies := make(map[Source]tally.Observed, len(sources))
	for i, source := range sources {
		for j, outcome := range Outcomes {
			counts = append(counts, QueryCounters{source, outcome, q.answers[i][j].Load()})
		}
		latencies[source] = q.latencies[i].Read()
	}
	return counts, latencies
}
