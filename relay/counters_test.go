package relay

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/proxy"
)

// await reads the counters until they are as wanted.
func await(t *testing.T, c *Client, what string, wanted func(Counters) bool) Counters {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		got, err := c.Counters(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if wanted(got) {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %+v", what, got)
		}
	}
}

func (c Counters) port(proto string, host netip.AddrPort) proxy.Carried {
	for _, p := range c.Ports {
		if p.Proto == proto && p.Host == host {
			return p.Carried
		}
	}
	return proxy.Carried{}
}

// TestProxyCounters: connections and bytes are counted by port and in all, while they are
// open, once they are closed, and when the port is held no longer.
func TestProxyCounters(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	tcp, other := hold(t, c, "a", "tcp", "127.0.0.1", echoTCP(t)), hold(t, c, "b", "tcp", "::1", echoTCP(t))
	udp := hold(t, c, "b", "udp", "127.0.0.1", echoUDP(t))
	nobody := hold(t, c, "c", "tcp", "127.0.0.1", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t, "tcp", "127.0.0.1")))

	conn := dial(t, "tcp", tcp).(*net.TCPConn)
	say(t, conn, strings.Repeat("x", 100_000))
	open := await(t, c, "bytes of an open connection are seen", func(got Counters) bool {
		p := got.port("tcp", tcp)
		return p.In == 100_000 && p.Out >= 100_000
	})
	if p := open.port("tcp", tcp); p.Begun != 1 || p.Open() != 1 || open.Carried["tcp"].In != 100_000 {
		t.Errorf("while it is open: %+v of %+v", p, open.Carried)
	}
	if open.Held["tcp"] != 3 || open.Held["udp"] != 1 || len(open.Ports) != 1 {
		t.Errorf("held %v, and carried by %+v", open.Held, open.Ports)
	}
	say(t, dial(t, "tcp", other), "hello")
	ask(t, dial(t, "udp", udp))
	_ = refusal(nobody)
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err != nil {
		t.Fatal(err)
	}
	await(t, c, "a connection that is closed, and a datagram", func(got Counters) bool {
		p, u, failed := got.port("tcp", tcp), got.port("udp", udp), got.port("tcp", nobody)
		return p.Open() == 0 && p.In == 100_000 && p.Out >= 100_003 && p.Out < 100_010 &&
			u.Begun == 1 && u.In == 1 && u.Out > 10 && u.Open() == 1 &&
			failed.Begun == 1 && failed.Failed == 1 && failed.Open() == 0 &&
			got.Carried["tcp"].Begun == 3 && got.Carried["udp"].Begun == 1 && got.Carried["tcp"].Failed == 1
	})
	for _, owner := range []string{"a", "b", "c"} {
		if err := c.Release(t.Context(), owner); err != nil {
			t.Fatal(err)
		}
	}
	end := await(t, c, "all has ended", func(got Counters) bool { return got.Carried["tcp"].Open()+got.Carried["udp"].Open() == 0 })
	if end.Carried["tcp"].In != 100_005 || end.Carried["tcp"].Begun != 3 || len(end.Ports) != 0 || end.Held["tcp"] != 0 {
		t.Errorf("in the end %+v", end)
	}
}

// TestQueryCounters: each answer is counted by where it is from and what it says.
func TestQueryCounters(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	udp, tcp := resolve(t, c, named("a", "10.0.0.1", "web"))
	count := func(source Source, outcome string) (n uint64) {
		got, err := c.Counters(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range got.Queries {
			if q.Source == source && q.Outcome == outcome {
				n = q.Count
			}
		}
		return n
	}
	answered(t, "udp", udp, "web", "NOERROR 10.0.0.1")
	answered(t, "tcp", tcp, "web.net", "NOERROR 10.0.0.1")
	answered(t, "udp", udp, "web.fairlead.internal", "NOERROR 10.0.0.1")
	answered(t, "udp", udp, "nobody.fairlead.internal", "NXDOMAIN")
	answered(t, "udp", udp, "far.example", "SERVFAIL") // no server is known
	for _, want := range []struct {
		source  Source
		outcome string
		n       uint64
	}{{FromNames, "noerror", 3}, {FromNames, "nxdomain", 1}, {FromServers, "servfail", 1}, {FromCache, "noerror", 0}} {
		if got := count(want.source, want.outcome); got != want.n {
			t.Errorf("%d answers of %s said %s, want %d", got, want.source, want.outcome, want.n)
		}
	}
	got, err := c.Counters(t.Context())
	if err != nil || got.Latencies[FromNames].Count() != 4 || got.Latencies[FromServers].Count() != 1 {
		t.Errorf("latencies %+v, %v", got.Latencies, err)
	}
}
