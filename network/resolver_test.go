package network

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"github.com/fairlead/fairlead/dns"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/relay"
)

func TestNamesAreAnsweredInTheSandbox(t *testing.T) {
	h, _ := resolverHost(t)
	before := openSockets(t)
	web := attachNamed(t, h, 1, spec.DNS{}, spec.EndpointRequest{Network: "front", Names: []string{"web", "www"}})
	db := attachNamed(t, h, 2, spec.DNS{},
		spec.EndpointRequest{Network: "front", Names: []string{"db", "www"}, Links: []spec.Link{{Sandbox: web.Sandbox.ID, Alias: "shop"}}},
		spec.EndpointRequest{Network: "back", Names: []string{"db"}})
	lone := attachNamed(t, h, 3, spec.DNS{}, spec.EndpointRequest{Network: "back", Names: []string{"lone"}})
	plain := attachNamed(t, h, 4, spec.DNS{}, spec.EndpointRequest{Network: "bridge", Names: []string{"plain"}})
	h.clean(t)
	web4, web6 := web.Endpoints[0].Addr4.Addr().String(), web.Endpoints[0].Addr6.Addr().String()
	dbBack := db.Endpoints[1].Addr4.Addr()
	for _, proto := range []string{"udp", "tcp"} {
		for _, c := range []struct {
			from  spec.Attachment
			name  string
			qtype uint16
			want  string
		}{
			{db, "web", wire.TypeA, web4 + " NOERROR"},
			{db, "WEB.front", wire.TypeAAAA, web6 + " NOERROR"},
			{db, "shop", wire.TypeA, web4 + " NOERROR"},
			{web, "shop", wire.TypeA, "SERVFAIL"},
			{web, "db.back", wire.TypeA, "SERVFAIL"},
			{lone, "db", wire.TypeA, dbBack.String() + " NOERROR"},
			{lone, "db", wire.TypeAAAA, "NOERROR"},
			{lone, "web", wire.TypeA, "SERVFAIL"},
			{lone, reverseOf(t, dbBack), wire.TypePTR, "db.back. NOERROR"},
		} {
			if got := said(lookup(t, c.from, proto, c.name, c.qtype)); got != c.want {
				t.Errorf("%s asks %s for %s: %q, want %q", c.from.Sandbox.Name, proto, c.name, got, c.want)
			}
		}
	}
	if _, err := tryLookup(plain, "tcp", dns.Address.String(), "web", wire.TypeA); err == nil {
		t.Error("a sandbox on the default network alone has a resolver")
	}
	// Names follow what is connected, renamed and gone.
	if _, err := h.Connect(t.Context(), lone.Sandbox.ID, spec.EndpointRequest{Network: "front", Names: []string{"lone"}}); err != nil {
		t.Fatal(err)
	}
	if got := said(lookup(t, lone, "udp", "web", wire.TypeA)); got != web4+" NOERROR" {
		t.Errorf("connected, web is %q", got)
	}
	if err := h.SetNames(t.Context(), web.Sandbox.ID, "site", map[string][]string{web.Endpoints[0].NetworkID: {"site"}}); err != nil {
		t.Fatal(err)
	}
	if got := said(lookup(t, lone, "udp", "site", wire.TypeA)); got != web4+" NOERROR" {
		t.Errorf("renamed, site is %q", got)
	}
	if got := said(lookup(t, lone, "udp", "web", wire.TypeA)); got == web4+" NOERROR" {
		t.Error("the former name is still answered")
	}
	// The first own network brings the resolver, the last takes it along.
	if _, err := h.Connect(t.Context(), plain.Sandbox.ID, spec.EndpointRequest{Network: "front", Names: []string{"plain"}}); err != nil {
		t.Fatal(err)
	}
	if got := said(lookup(t, plain, "tcp", "site", wire.TypeA)); got != web4+" NOERROR" {
		t.Errorf("connected, site is %q", got)
	}
	if _, err := h.Disconnect(t.Context(), plain.Sandbox.ID, "front"); err != nil {
		t.Fatal(err)
	}
	if _, err := tryLookup(plain, "tcp", dns.Address.String(), "site", wire.TypeA); err == nil {
		t.Error("the resolver stayed")
	}
	h.clean(t)
	for _, a := range []spec.Attachment{web, db, lone, plain} {
		if err := h.Detach(t.Context(), a.Sandbox.ID); err != nil {
			t.Fatal(err)
		}
	}
	h.flows.Close() // whose sockets are in the host's namespace
	if now := openSockets(t); now > before {
		t.Errorf("%d sockets are open, %d were before: they keep sandboxes alive", now, before)
	}
}

// openSockets counts those of this process, whose relay is in it.
func openSockets(tb testing.TB) int {
	tb.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		tb.Fatal(err)
	}
	n := 0
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

func reverseOf(tb testing.TB, a netip.Addr) string {
	tb.Helper()
	name, err := wire.ReverseAddr(a.String())
	if err != nil {
		tb.Fatal(err)
	}
	return name
}

// A container serves port 53 on every address, its own and others ask it there, and
// 127.0.0.11 is still ours.
func TestPort53StaysTheContainers(t *testing.T) {
	h, _ := resolverHost(t)
	a := attachNamed(t, h, 1, spec.DNS{}, spec.EndpointRequest{Network: "front", Names: []string{"ns"}})
	b := attachNamed(t, h, 2, spec.DNS{Servers: []netip.Addr{a.Endpoints[0].Addr4.Addr()}}, spec.EndpointRequest{Network: "front", Names: []string{"b"}})
	serveInside(t, a, "203.0.113.7")
	if got := said(lookup(t, a, "udp", "ns", wire.TypeA)); got != a.Endpoints[0].Addr4.Addr().String()+" NOERROR" {
		t.Errorf("127.0.0.11 in the server's own sandbox: %q", got)
	}
	for _, proto := range []string{"udp", "tcp"} {
		server := netip.AddrPortFrom(a.Endpoints[0].Addr4.Addr(), 53).String()
		m, err := tryLookup(b, proto, server, "x.example", wire.TypeA)
		if err != nil || said(m) != "203.0.113.7 NOERROR" {
			t.Errorf("the container's own server by %s: %v, %v", proto, m, err)
		}
		// And as the server of --dns, asked from inside the sandbox.
		if got := said(lookup(t, b, proto, "x.example", wire.TypeA)); got != "203.0.113.7 NOERROR" {
			t.Errorf("--dns by %s: %q", proto, got)
		}
	}
	// A query under way from inside does not keep the sandbox.
	silent := attachNamed(t, h, 3, spec.DNS{Servers: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}, spec.EndpointRequest{Network: "front", Names: []string{"c"}})
	go func() { _, _ = tryLookup(silent, "udp", dns.Address.String(), "y.example", wire.TypeA) }()
	time.Sleep(200 * time.Millisecond)
	start := time.Now()
	if err := h.Detach(t.Context(), silent.Sandbox.ID); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("detached amid a query in %s", took)
	}
}

// serveInside is a server in the sandbox that has one answer to everything.
func serveInside(tb testing.TB, a spec.Attachment, addr string) {
	tb.Helper()
	ns, err := netns.Open(a.Sandbox.Path)
	if err != nil {
		tb.Fatal(err)
	}
	defer ns.Close()
	var pc net.PacketConn
	var l net.Listener
	err = netns.Do(ns, func() (err error) {
		if pc, err = net.ListenPacket("udp4", "0.0.0.0:53"); err != nil {
			return err
		}
		l, err = net.Listen("tcp4", "0.0.0.0:53")
		return err
	})
	if err != nil {
		tb.Fatal("the container cannot have port 53:", err)
	}
	answer := wire.HandlerFunc(func(w wire.ResponseWriter, q *wire.Msg) {
		m := new(wire.Msg).SetReply(q)
		m.Answer = append(m.Answer, &wire.A{
			Hdr: wire.RR_Header{Name: q.Question[0].Name, Rrtype: wire.TypeA, Class: wire.ClassINET, Ttl: 60},
			A:   netip.MustParseAddr(addr).AsSlice(),
		})
		_ = w.WriteMsg(m)
	})
	for _, s := range []*wire.Server{{PacketConn: pc, Handler: answer}, {Listener: l, Handler: answer}} {
		go func() { _ = s.ActivateAndServe() }()
		tb.Cleanup(func() { _ = s.Shutdown() })
	}
}

// A relay that was killed is told everything again; one that lived on while the
// daemon changed is only told what changed.
func TestResolversAreMended(t *testing.T) {
	h, r := resolverHost(t)
	web := attachNamed(t, h, 1, spec.DNS{}, spec.EndpointRequest{Network: "front", Names: []string{"web"}})
	db := attachNamed(t, h, 2, spec.DNS{}, spec.EndpointRequest{Network: "front", Names: []string{"db"}})
	want := web.Endpoints[0].Addr4.Addr().String() + " NOERROR"
	served := func() []relay.Served {
		t.Helper()
		out, err := r.Resolvers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	before := served()
	if len(before) != 2 {
		t.Fatalf("%d resolvers, want 2", len(before))
	}
	h.restart(t)
	if after := served(); after[0].UDP != before[0].UDP || after[1].TCP != before[1].TCP {
		t.Error("a daemon's restart moved the sockets")
	}
	if got := said(lookup(t, db, "udp", "web", wire.TypeA)); got != want {
		t.Errorf("after a restart: %q", got)
	}
	r.stop()
	*r = *startRelay(t, h.cfg.ExecRoot)
	if err := h.RelayRestarted(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, proto := range []string{"udp", "tcp"} {
		if got := said(lookup(t, db, proto, "web", wire.TypeA)); got != want {
			t.Errorf("after the relay's restart, by %s: %q", proto, got)
		}
	}
	h.clean(t)
	// One that nobody wants is ended.
	if err := r.Resolve(t.Context(), relay.Resolver{Sandbox: dns.Sandbox{ID: web.Sandbox.ID}}); err != nil {
		t.Fatal(err)
	}
	if err := h.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := said(lookup(t, db, "udp", "web", wire.TypeA)); got != want {
		t.Errorf("after it was told wrong things and mended: %q", got)
	}
}

// What a resolver adds to an attachment.
func BenchmarkAttachWithResolver(b *testing.B) {
	h, _ := resolverHost(b)
	if _, err := h.CreateNetwork(b.Context(), spec.NetworkRequest{Name: "single"}); err != nil {
		b.Fatal(err)
	}
	for _, network := range []string{"bridge", "single"} {
		b.Run(network, func(b *testing.B) {
			var attach, detach time.Duration
			for i := 0; b.Loop(); i++ {
				start := time.Now()
				a, err := h.Attach(b.Context(), attachRequest(100+i, network))
				if err != nil {
					b.Fatal(err)
				}
				middle := time.Now()
				if err := h.Detach(b.Context(), a.Sandbox.ID); err != nil {
					b.Fatal(err)
				}
				attach += middle.Sub(start)
				detach += time.Since(middle)
			}
			b.ReportMetric(float64(attach.Microseconds())/1000/float64(b.N), "attach-ms")
			b.ReportMetric(float64(detach.Microseconds())/1000/float64(b.N), "detach-ms")
		})
	}
}

// The C library asks for both families at once, by one new socket: neither question
// may be lost on the way through the sandbox's NAT.
func TestBothFamiliesAtOnce(t *testing.T) {
	h, _ := resolverHost(t)
	a := attachNamed(t, h, 1, spec.DNS{}, spec.EndpointRequest{Network: "front", Names: []string{"web"}})
	ns, err := netns.Open(a.Sandbox.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	var questions [2][]byte
	for i, qtype := range []uint16{wire.TypeA, wire.TypeAAAA} {
		if questions[i], err = new(wire.Msg).SetQuestion("web.", qtype).Pack(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 200 {
		var conn net.Conn
		if err := netns.Do(ns, func() (err error) { conn, err = net.Dial("udp", dns.Address.String()); return err }); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
		sent := make(chan error, 2)
		for _, q := range questions {
			go func() { _, err := conn.Write(q); sent <- err }()
		}
		err := errors.Join(<-sent, <-sent)
		for range questions {
			if err == nil {
				_, err = conn.Read(make([]byte, 512))
			}
		}
		_ = conn.Close()
		if err != nil {
			t.Fatalf("socket %d: %v", i, err)
		}
	}
}
