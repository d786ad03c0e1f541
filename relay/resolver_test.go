package relay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	wire "github.com/miekg/dns"

	"github.com/fairlead/fairlead/dns"
	"github.com/fairlead/fairlead/kernel/socket"
)

// resolverSockets binds both; a relay closes its copies.
func resolverSockets(t testing.TB) (udp, tcp *os.File, udpAt, tcpAt netip.AddrPort) {
	t.Helper()
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	udp, udpAt, err := socket.ListenOpen("udp", loopback)
	if err != nil {
		t.Fatal(err)
	}
	tcp, tcpAt, err = socket.ListenOpen("tcp", loopback)
	if err != nil {
		t.Fatal(err)
	}
	return udp, tcp, udpAt, tcpAt
}

func named(id string, addr string, names ...string) dns.Sandbox {
	return dns.Sandbox{ID: id, Outward: true, Endpoints: []dns.Endpoint{{
		NetworkID: "n", Network: "net", Names: names, Addrs: []netip.Addr{netip.MustParseAddr(addr)},
	}}}
}

// resolve gives a resolver to the relay and returns where it is asked.
func resolve(t testing.TB, c *Client, s dns.Sandbox) (udpAt, tcpAt netip.AddrPort) {
	t.Helper()
	udp, tcp, udpAt, tcpAt := resolverSockets(t)
	err := c.Resolve(t.Context(), Resolver{Sandbox: s, UDP: udp, TCP: tcp})
	if err := errors.Join(err, udp.Close(), tcp.Close()); err != nil {
		t.Fatal(err)
	}
	return udpAt, tcpAt
}

func tryQuery(proto string, to netip.AddrPort, name string) (string, error) {
	client := &wire.Client{Net: proto, Timeout: 6 * time.Second}
	m, _, err := client.Exchange(new(wire.Msg).SetQuestion(wire.Fqdn(name), wire.TypeA), to.String())
	if err != nil {
		return "", err
	}
	out := wire.RcodeToString[m.Rcode]
	for _, rr := range m.Answer {
		out += " " + strings.TrimPrefix(rr.String(), rr.Header().String())
	}
	return out, nil
}

func answered(t testing.TB, proto string, to netip.AddrPort, name, want string) {
	t.Helper()
	if got, err := tryQuery(proto, to, name); err != nil || got != want {
		t.Errorf("%s by %s: %q, %v; want %q", name, proto, got, err, want)
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	aUDP, aTCP := resolve(t, c, named("a", "10.0.0.1", "web"))
	bUDP, _ := resolve(t, c, named("b", "10.0.0.2", "db"))
	answered(t, "udp", aUDP, "db", "NOERROR 10.0.0.2")
	answered(t, "tcp", aTCP, "web.net", "NOERROR 10.0.0.1")
	answered(t, "udp", bUDP, "unknown", "SERVFAIL")

	if err := c.Resolve(t.Context(), Resolver{Sandbox: named("b", "10.0.0.3", "store")}); err != nil {
		t.Fatal(err)
	}
	answered(t, "tcp", aTCP, "store", "NOERROR 10.0.0.3")
	answered(t, "udp", aUDP, "db", "SERVFAIL")
	if err := c.Resolve(t.Context(), Resolver{Sandbox: named("c", "10.0.0.4", "c")}); !errdefs.IsNotFound(err) {
		t.Errorf("one that is not served was told: %v", err)
	}
	list, err := c.Resolvers(t.Context())
	if err != nil || len(list) != 2 || list[0].ID != "a" || list[0].UDP != aUDP || list[1].Endpoints[0].Names[0] != "store" {
		t.Errorf("listed %+v, %v", list, err)
	}
	// Several queries by one connection.
	conn := dial(t, "tcp", aTCP)
	for range 3 {
		m, _, err := new(wire.Client).ExchangeWithConn(new(wire.Msg).SetQuestion("web.", wire.TypeA), &wire.Conn{Conn: conn})
		if err != nil || len(m.Answer) != 1 {
			t.Fatalf("by one connection: %v, %v", m, err)
		}
	}
	// Other sockets in the place of the first.
	newUDP, newTCP := resolve(t, c, named("a", "10.0.0.1", "web"))
	answered(t, "udp", newUDP, "store", "NOERROR 10.0.0.3")
	isFree(t, "udp", aUDP)
	isFree(t, "tcp", aTCP)
	if err := c.Unresolve(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	isFree(t, "udp", bUDP)
	answered(t, "udp", newUDP, "store", "SERVFAIL")
	// Release ends it with all else.
	open := dial(t, "tcp", newTCP)
	say := make(chan error, 1)
	go func() { _, err := open.Read(make([]byte, 1)); say <- err }()
	if err := errors.Join(c.Release(t.Context(), "a"), c.Unresolve(t.Context(), "nobody")); err != nil {
		t.Fatal(err)
	}
	if err := <-say; err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("an open connection ended by %v", err)
	}
	isFree(t, "udp", newUDP)
	isFree(t, "tcp", newTCP)
}

func TestResolveRefusesWhatCannotBeServed(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	udp, tcp, _, _ := resolverSockets(t)
	defer udp.Close()
	defer tcp.Close()
	s := named("a", "10.0.0.1", "a")
	for name, r := range map[string]Resolver{
		"one socket":    {Sandbox: s, UDP: udp},
		"no ID":         {UDP: udp, TCP: tcp},
		"sockets mixed": {Sandbox: s, UDP: tcp, TCP: udp},
		"no sockets":    {Sandbox: s, UDP: netlinkSocket(t), TCP: tcp},
	} {
		if err := c.Resolve(t.Context(), r); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list, err := c.Resolvers(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("left behind: %+v, %v", list, err)
	}
}

// One that asks without end, and reads no answer, leaves room for others.
func TestAFloodLeavesRoom(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	greedy, _ := resolve(t, c, named("a", "10.0.0.1", "web"))
	other, _ := resolve(t, c, named("b", "10.0.0.2", "db"))
	packed, err := new(wire.Msg).SetQuestion("db.", wire.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		conn := dial(t, "udp", greedy)
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = conn.Write(packed)
				}
			}
		})
	}
	worst := time.Duration(0)
	for range 200 {
		start := time.Now()
		answered(t, "udp", other, "web", "NOERROR 10.0.0.1")
		worst = max(worst, time.Since(start))
	}
	close(stop)
	wg.Wait()
	t.Logf("the slowest of 200 took %s", worst)
}

// A thousand sandboxes that ask nothing cost little.
func TestAThousandResolvers(t *testing.T) {
	c := ensure(t, t.TempDir(), "command")
	before, _ := rss(t, c.PID())
	var batch []Resolver
	flush := func() {
		if err := c.Resolve(context.Background(), batch...); err != nil {
			t.Fatal(err)
		}
		for _, r := range batch {
			_ = r.UDP.Close()
			_ = r.TCP.Close()
		}
		batch = nil
	}
	start := time.Now()
	for i := range 1000 {
		udp, tcp, _, _ := resolverSockets(t)
		s := named(fmt.Sprintf("%064x", i), fmt.Sprintf("10.0.%d.%d", i/250, i%250+1), fmt.Sprintf("container-%d", i), fmt.Sprintf("%012x", i), "alias")
		if batch = append(batch, Resolver{Sandbox: s, UDP: udp, TCP: tcp}); len(batch) == 100 {
			flush()
		}
	}
	took := time.Since(start)
	after, _ := rss(t, c.PID())
	t.Logf("1,000 resolvers in %s, %d KiB more", took, after-before)
	if raceEnabled {
		return
	}
	if after-before > 8<<10 {
		t.Errorf("1,000 resolvers take %d KiB", after-before)
	}
}

// BenchmarkResolver is queries a second by UDP over the loopback, from several
// clients at once.
func BenchmarkResolver(b *testing.B) {
	c := ensure(b, b.TempDir(), "command")
	at, _ := resolve(b, c, named("a", "10.0.0.1", "web"))
	packed, err := new(wire.Msg).SetQuestion("web.", wire.TypeA).Pack()
	if err != nil {
		b.Fatal(err)
	}
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		conn := dial(b, "udp", at)
		answer := make([]byte, 512)
		for pb.Next() {
			if _, err := conn.Write(packed); err != nil {
				b.Error(err)
				return
			}
			if _, err := conn.Read(answer); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "queries/s")
}
