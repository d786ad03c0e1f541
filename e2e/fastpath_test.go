package e2e

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// fastLinks waits until so many containers' links take the fast path.
func (s *site) fastLinks(n int) {
	s.t.Helper()
	s.doctorSays(fmt.Sprintf("links of containers that take the fast path: %d", n))
}

// doctorSays waits until it does.
func (s *site) doctorSays(want string) {
	s.t.Helper()
	out, _, _ := s.CLI("doctor")
	for deadline := time.Now().Add(time.Minute); !strings.Contains(out, want); out, _, _ = s.CLI("doctor") {
		if time.Now().After(deadline) {
			s.t.Fatalf("not within a minute: %s\n%s", want, out)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestFastPath: with --fast-path containers reach whom they reach without, are kept from
// whom they are kept from, and show what they receive; a daemon that is killed leaves
// connections as they are, and the next one takes up the fast path again.
func TestFastPath(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	s.host.NoBridgeNetfilter()
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Args: []string{"--fast-path"}})
	s.importImage("demo")
	s.importImage("web", "EXPOSE 80 53/udp", `CMD ["sleep","3600"]`)
	s.Must("network", "create", "--ipv6", "red")
	s.Must("network", "create", "--ipv6", "blue")
	s.Must("network", "create", "--ipv6", "--internal", "vault")
	s.Must(append([]string{"network", "create", "--ipv6", "apart"}, iccOff...)...)
	a, b := s.idle("--network", "red"), s.idle("--network", "red", "-p", "8080:80", "-p", "8081:81")
	c, d := s.idle("--network", "blue"), s.idle("--network", "vault")
	e := s.idle("--network", "vault")
	web := s.run("--name", "web", "--network", "apart", "--expose", "8080", "web")
	db := s.idle("--network", "apart", "--link", "web:web")
	other := s.idle("--network", "apart")
	s.fastLinks(5)

	for _, proto := range []string{"tcp", "udp"} {
		for _, way := range [][2]box{{a, b}, {d, e}} {
			for any, addr := range map[string]string{"0.0.0.0": way[1].addr4.String(), "::": way[1].addr6.String()} {
				way[1].serve(proto, at(any, "80"))
				from := way[0].addr4
				if any == "::" {
					from = way[0].addr6
				}
				way[1].sees(way[0].Host, proto, at(addr, "80"), from)
			}
		}
	}
	s.carried(t, a, b)
	long := s.fromOutside(t, b)
	// Another network does not get in, by the address or by the published port as it is.
	barred(t, [2]lab.Probe{from(c.Host, "tcp", at(b.addr4, "80")), from(a.Host, "tcp", at(b.addr4, "80"))},
		[2]lab.Probe{from(c.Host, "udp", at(b.addr6, "80")), from(a.Host, "udp", at(b.addr6, "80"))},
		[2]lab.Probe{from(a.Host, "tcp", at(e.addr4, "80")), from(d.Host, "tcp", at(e.addr4, "80"))})
	for _, h := range []*lab.Host{a.Host, c.Host, s.outside} {
		if r := lab.Seen(t, h, "tcp", at(host4, "8080")); r.Host != b.Name() {
			t.Errorf("%s answered at the published port", r.Host)
		}
	}
	s.linkHolds(web, db, other)
	if lost := frames(t, a, b); len(lost) != 0 {
		t.Errorf("these frames were lost: %q", lost)
	}
	s.consistent()
	s.killedOnFastPath(t, a, b, long)
	_, _ = long.client.Close(), long.server.Close()
	s.doctorSays("connections with outside that take the fast path: 0")
}

// counters are the bytes that went out by the host's end of the container's link, and those
// that came in at its own.
func (s *site) counters(b box) (host, own uint64) {
	s.t.Helper()
	read := func(h *lab.Host, link string) (rx, tx uint64) {
		_, rest, _ := strings.Cut(h.Run("cat", "/proc/net/dev"), link+":")
		var skip uint64
		if _, err := fmt.Sscan(rest, &rx, &skip, &skip, &skip, &skip, &skip, &skip, &skip, &tx); err != nil {
			s.t.Fatalf("counters of %s: %v", link, err)
		}
		return rx, tx
	}
	_, host = read(s.host, s.hostLink(b))
	own, _ = read(b.Host, "eth0")
	return host, own
}

// hostLink is the host's end of the container's first link, by its index.
func (s *site) hostLink(b box) string {
	s.t.Helper()
	_, index, _ := strings.Cut(b.Run("ip", "-o", "link", "show", "dev", "eth0"), "eth0@if")
	index, _, _ = strings.Cut(index, ":")
	for line := range strings.Lines(s.host.Run("ip", "-o", "link")) {
		if name, found := strings.CutPrefix(line, index+": "); found {
			name, _, _ = strings.Cut(name, "@")
			return name
		}
	}
	s.t.Fatalf("no link %s on the host", index)
	return ""
}

// carrier is a connection from a to b that carries what it is told to.
type carrier struct{ client, server net.Conn }

func (s *site) carrier(t *testing.T, a, b box) carrier {
	t.Helper()
	return carrierTo(t, b, at(b.addr4, "0"), func(listening string) (net.Conn, error) { return a.Dial("tcp", listening, 10*time.Second) })
}

// carrierTo is a connection to a container that listens somewhere.
func carrierTo(t *testing.T, b box, listen string, dial func(listening string) (net.Conn, error)) carrier {
	t.Helper()
	var l net.Listener
	if err := b.Do(func() (err error) { l, err = net.Listen("tcp", listen); return err }); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var out carrier
	var err error
	if out.client, err = dial(l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if out.server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = out.client.Close(), out.server.Close() })
	return out
}

// fromOutside is a connection from another machine to the port 8081 that the container
// publishes, which has come to take the fast path: the receiver counts what came, and
// nearly nothing of it went by the host's end of its link.
func (s *site) fromOutside(t *testing.T, b box) carrier {
	c := carrierTo(t, b, at(b.addr4, "81"), func(string) (net.Conn, error) {
		return s.outside.Dial("tcp", at(host4, "8081"), 10*time.Second)
	})
	for range 8 { // the container's port sees a frame for many that come
		c.carry(t)
	}
	s.doctorSays("connections with outside that take the fast path: 1")
	hostBefore, ownBefore := s.counters(b)
	c.carry(t)
	host, own := s.counters(b)
	if own-ownBefore < 1<<20 || host-hostBefore > 1<<17 {
		t.Errorf("of a megabyte from outside the container counted %d bytes, and %d went over the bridge", own-ownBefore, host-hostBefore)
	}
	if peer, _, _ := net.SplitHostPort(c.server.RemoteAddr().String()); peer != outside4 {
		t.Errorf("the container sees %s, want %s", peer, outside4)
	}
	return c
}

// carry sends a megabyte.
func (c carrier) carry(t *testing.T) {
	t.Helper()
	const size = 1 << 20
	_ = c.client.SetDeadline(time.Now().Add(30 * time.Second))
	_ = c.server.SetDeadline(time.Now().Add(30 * time.Second))
	go func() { _, _ = c.client.Write(make([]byte, size)) }()
	if _, err := io.ReadFull(c.server, make([]byte, size)); err != nil {
		t.Fatalf("a megabyte: %v", err)
	}
}

// carried: the receiver counts what came, the bridge's port did not send it, and stats shows
// it.
func (s *site) carried(t *testing.T, a, b box) {
	c := s.carrier(t, a, b)
	hostBefore, ownBefore := s.counters(b)
	c.carry(t)
	host, own := s.counters(b)
	if own-ownBefore < 1<<20 || host-hostBefore > 1<<19 {
		t.Errorf("of a megabyte the container counted %d bytes, and %d went over the bridge", own-ownBefore, host-hostBefore)
	}
	if out := s.Must("stats", "--no-stream", "--format", "{{.NetIO}}", b.id); !strings.Contains(out, "MB /") {
		t.Errorf("stats: %s", out)
	}
}

// killedOnFastPath: connections outlive the daemon, go over the bridge when it has not been
// heard of for some seconds, and pass it by again when there is another. So does the one
// from outside.
func (s *site) killedOnFastPath(t *testing.T, a, b box, long carrier) {
	c := s.carrier(t, a, b)
	s.Kill()
	s.Wait()
	c.carry(t)
	long.carry(t)
	over := func() bool {
		before, _ := s.counters(b)
		c.carry(t)
		after, _ := s.counters(b)
		return after-before > 1<<20
	}
	for deadline := time.Now().Add(30 * time.Second); !over(); {
		if time.Now().After(deadline) {
			t.Fatal("nothing goes over the bridge though there is no daemon")
		}
	}
	long.carry(t)
	s.Start()
	s.fastLinks(5)
	c.carry(t)
	long.carry(t)
	if over() {
		t.Error("all goes over the bridge though there is a daemon again")
	}
	s.consistent()
}
