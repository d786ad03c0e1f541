package dns

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// The bounds of what is under way to others: for one sandbox, so that it leaves
// room for the rest, and for all.
const (
	maxForwards    = 128
	maxAllForwards = 2048
)

// Dialer reaches other servers.
type Dialer interface {
	// Dial connects to the server by udp or tcp, from inside the namespace at
	// the path, or where the process is for "". Nothing that it opened may be
	// open when the connection is closed.
	Dial(ctx context.Context, namespace, network string, server netip.AddrPort) (net.Conn, error)
}

// Upstreams are the servers of the host.
type Upstreams struct {
	// Servers are asked in this order.
	Servers []netip.AddrPort `json:"servers,omitempty"`
	// Routes are the domains that have servers of their own. The longest that
	// a name ends in decides.
	Routes []Route `json:"routes,omitempty"`
}

// Route sends a domain's names to servers of its own.
type Route struct {
	Domain  string           `json:"domain"`
	Servers []netip.AddrPort `json:"servers"`
}

// Resolver answers the queries of many sandboxes. Its methods may be called by
// several goroutines at once.
type Resolver struct {
	names *names
	cache *cache
	dial  Dialer
	log   *slog.Logger
	room  *semaphore.Weighted

	mu      sync.Mutex
	askers  map[string]*asker
	flights map[key]*flight
	host    *source
	routes  []route
	host0   Upstreams
	warned  time.Time // of forged answers

	large sync.Mutex // held while a large answer is read
}

// route is a Route ready for use.
type route struct {
	domain string // canonical
	source *source
}

// asker is a sandbox that asks.
type asker struct {
	id     string
	room   *semaphore.Weighted
	ctx    context.Context
	cancel context.CancelFunc
	// live counts what is under way for it, and what is from inside it.
	live sync.WaitGroup

	mu      sync.Mutex
	told    Sandbox
	servers *source // nil without servers of its own
	gone    bool
}

func (a *asker) ndots() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.told.Ndots == nil {
		return 0
	}
	return *a.told.Ndots
}

// source is servers that are asked in the same way. Answers of different ones are
// never mixed up.
type source struct {
	namespace string
	servers   []netip.AddrPort
	// asker is whose namespace it is; nil for the host's.
	asker *asker

	mu   sync.Mutex
	slow map[netip.AddrPort]time.Time
}

// New makes a resolver that knows no sandbox yet. The log is slog.Default() when
// nil.
func New(dial Dialer, log *slog.Logger) *Resolver {
	return &Resolver{
		names: newNames(), cache: newCache(), dial: dial, log: cmp.Or(log, slog.Default()),
		room: semaphore.NewWeighted(maxAllForwards), askers: make(map[string]*asker),
		flights: make(map[key]*flight), host: &source{},
	}
}

// Set tells of a sandbox, in place of what was told before.
func (r *Resolver) Set(s Sandbox) {
	r.mu.Lock()
	a := r.askers[s.ID]
	if a == nil {
		a = &asker{id: s.ID, room: semaphore.NewWeighted(maxForwards)}
		a.ctx, a.cancel = context.WithCancel(context.Background())
		r.askers[s.ID] = a
	}
	r.mu.Unlock()
	r.names.set(s.ID, s.Endpoints)

	var servers []netip.AddrPort
	for _, addr := range s.Servers {
		// Ourselves, asked by ourselves, would go round for ever.
		if addr.Unmap() != Address.Addr() && len(servers) < MaxServers {
			servers = append(servers, netip.AddrPortFrom(addr, 53))
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.told = s
	switch {
	case len(servers) == 0:
		a.servers = nil
	case a.servers == nil || !slices.Equal(a.servers.servers, servers) || a.servers.namespace != s.Namespace:
		a.servers = &source{namespace: s.Namespace, servers: servers, asker: a}
	}
}

// Remove forgets a sandbox, ends what is under way for it, and returns when
// nothing that was opened inside its namespace is open.
func (r *Resolver) Remove(id string) {
	r.mu.Lock()
	a := r.askers[id]
	delete(r.askers, id)
	r.mu.Unlock()
	if a == nil {
		return
	}
	r.names.remove(id)
	a.mu.Lock()
	a.gone = true
	a.mu.Unlock()
	a.cancel()
	a.live.Wait()
}

// enter counts something under way for the sandbox; false when it is gone.
func (a *asker) enter() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.gone {
		return false
	}
	a.live.Add(1)
	return true
}

// Sandboxes returns what has been told, by ID.
func (r *Resolver) Sandboxes() []Sandbox {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Sandbox, 0, len(r.askers))
	for _, a := range r.askers {
		a.mu.Lock()
		out = append(out, a.told)
		a.mu.Unlock()
	}
	slices.SortFunc(out, func(a, b Sandbox) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// SetUpstreams tells of the host's servers. Where they are other than before,
// what is in the cache of the former is not used any more.
func (r *Resolver) SetUpstreams(u Upstreams) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.host0.Servers, u.Servers) {
		r.host = &source{servers: u.Servers[:min(len(u.Servers), MaxServers)]}
	}
	if !slices.EqualFunc(r.host0.Routes, u.Routes, func(a, b Route) bool {
		return a.Domain == b.Domain && slices.Equal(a.Servers, b.Servers)
	}) {
		r.routes = nil
		for _, d := range u.Routes {
			r.routes = append(r.routes, route{canonical(strings.TrimPrefix(d.Domain, ".")), &source{servers: d.Servers[:min(len(d.Servers), MaxServers)]}})
		}
	}
	r.host0 = u
}

// Upstreams are the host's servers as last told.
func (r *Resolver) Upstreams() Upstreams {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.host0
}

// source is who is asked for the name, nil for nobody.
func (r *Resolver) source(a *asker, name string) *source {
	a.mu.Lock()
	own, outward := a.servers, a.told.Outward
	a.mu.Unlock()
	if own != nil {
		return own
	}
	if !outward {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	best, longest := r.host, -1
	for _, d := range r.routes {
		under := d.domain == "" || name == d.domain || strings.HasSuffix(name, "."+d.domain)
		if under && len(d.domain) > longest {
			best, longest = d.source, len(d.domain)
		}
	}
	if len(best.servers) == 0 {
		return nil
	}
	return best
}
