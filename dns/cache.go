package dns

import (
	"sync"
	"time"

	wire "github.com/miekg/dns"
)

// The bounds of the cache: how many answers, of how many bytes in all and each,
// and for how long.
const (
	cacheEntries  = 4096
	cacheBytes    = 2 << 20
	cacheEntry    = 4096
	longestTTL    = time.Hour
	longestNegTTL = 5 * time.Minute
)

// key is what is equal of equal questions: what is asked, and who is.
type key struct {
	source *source
	name   string
	qtype  uint16
	do, cd bool
}

// cache keeps answers of others for as long as they allow.
type cache struct {
	mu      sync.Mutex
	entries map[key]entry
	bytes   int
}

type entry struct {
	packed  []byte
	expires time.Time
}

func newCache() *cache { return &cache{entries: make(map[key]entry)} }

// get returns a copy of an answer, its TTLs counted down.
func (c *cache) get(k key) *wire.Msg {
	c.mu.Lock()
	e, ok := c.entries[k]
	now := time.Now()
	if ok && !now.Before(e.expires) {
		c.drop(k, e)
		ok = false
	}
	c.mu.Unlock()
	if !ok {
		return nil
	}
	m := new(wire.Msg)
	if err := m.Unpack(e.packed); err != nil {
		return nil // it was packed by ourselves
	}
	// No record's time ends before the answer's does: see lifetime.
	left := uint32(e.expires.Sub(now) / time.Second)
	for _, section := range [][]wire.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			h := rr.Header()
			if h.Rrtype != wire.TypeOPT {
				h.Ttl = min(h.Ttl, left)
			}
		}
	}
	return m
}

// put keeps the answer if it may be kept.
func (c *cache) put(k key, m *wire.Msg) {
	life := lifetime(m)
	if life <= 0 {
		return
	}
	packed, err := m.Pack()
	if err != nil || len(packed) > cacheEntry {
		return
	}
	e := entry{packed: packed, expires: time.Now().Add(life)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.entries[k]; ok {
		c.drop(k, old)
	}
	// Whoever comes first: the runtime starts anywhere.
	for victim, old := range c.entries {
		if len(c.entries) < cacheEntries && c.bytes+len(packed) <= cacheBytes {
			break
		}
		c.drop(victim, old)
	}
	c.entries[k] = e
	c.bytes += len(packed)
}

func (c *cache) drop(k key, e entry) {
	delete(c.entries, k)
	c.bytes -= len(e.packed)
}

// lifetime is how long the answer may be kept: the least TTL of what it says, or
// what the zone's SOA says of names and types that are not there (RFC 2308, 5).
func lifetime(m *wire.Msg) time.Duration {
	if m.Truncated || (m.Rcode != wire.RcodeSuccess && m.Rcode != wire.RcodeNameError) {
		return 0
	}
	least := uint32(longestTTL / time.Second)
	for _, section := range [][]wire.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			if rr.Header().Rrtype != wire.TypeOPT {
				least = min(least, rr.Header().Ttl)
			}
		}
	}
	if m.Rcode == wire.RcodeNameError || !answered(m) {
		least = min(least, negative(m))
	}
	return time.Duration(least) * time.Second
}

// answered says that there is a record of the type that was asked for.
func answered(m *wire.Msg) bool {
	q := m.Question[0]
	for _, rr := range m.Answer {
		if q.Qtype == wire.TypeANY || rr.Header().Rrtype == q.Qtype {
			return true
		}
	}
	return false
}

// negative is how many seconds a negative answer may be kept: 0 without an SOA.
func negative(m *wire.Msg) uint32 {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*wire.SOA); ok {
			return min(soa.Hdr.Ttl, soa.Minttl, uint32(longestNegTTL/time.Second))
		}
	}
	return 0
}
