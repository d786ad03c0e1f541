package relay

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"
)

// asking is a relay of build one in root that asks a server of the host's, which takes so long
// for each answer.
func asking(t *testing.T, server string, takes time.Duration) (c *Client, root string) {
	t.Helper()
	hostServer(t, server, "192.0.2.1", takes)
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver "+server+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	root = t.TempDir()
	c = ensure(t, root, "one")
	if err := c.FollowHost(t.Context(), HostFiles{ResolvConf: conf}); err != nil {
		t.Fatal(err)
	}
	return c, root
}

// Clients that ask again and again notice nothing of two replacements, nor does one
// whose question is under way.
func TestResolverHandover(t *testing.T) {
	t.Parallel()
	c, root := asking(t, "127.83.2.1", 800*time.Millisecond)
	udpAt, tcpAt := resolve(t, c, named("a", "10.0.0.1", "web"))
	otherAt, _ := resolve(t, c, named("b", "10.0.0.2", "db"))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	again := func(proto string, to netip.AddrPort, name, want string) {
		wg.Go(func() {
			n := 0
			for ; ; n++ {
				select {
				case <-stop:
					t.Logf("%d queries by %s for %s", n, proto, name)
					return
				default:
				}
				if got, err := tryQuery(proto, to, name); err != nil || got != want {
					t.Errorf("query %d by %s for %s: %q, %v", n, proto, name, got, err)
					return
				}
			}
		})
	}
	again("udp", udpAt, "db", "NOERROR 10.0.0.2")
	again("tcp", tcpAt, "web", "NOERROR 10.0.0.1")
	for i := range 4 {
		again("udp", otherAt, fmt.Sprintf("slow%d.example", i), "NOERROR 192.0.2.1")
	}
	first := c
	for _, build := range []string{"two", "three"} {
		time.Sleep(300 * time.Millisecond)
		next := ensure(t, root, build)
		if next.Build() != build {
			t.Errorf("build %s answers", next.Build())
		}
		<-c.Done()
		c = next
	}
	time.Sleep(200 * time.Millisecond)
	close(stop)
	wg.Wait()
	if list, err := c.Resolvers(t.Context()); err != nil || len(list) != 2 || list[0].UDP != udpAt {
		t.Errorf("after two replacements: %+v, %v", list, err)
	}
	if !exited(first.PID(), 15*time.Second) {
		t.Error("the first process does not end")
	}
	if err := errors.Join(c.Release(t.Context(), "a"), c.Release(t.Context(), "b")); err != nil {
		t.Fatal(err)
	}
	isFree(t, "udp", udpAt)
	isFree(t, "tcp", tcpAt)
}

// A release right after a replacement also ends what the predecessor still carries.
func TestReleaseReachesThePredecessor(t *testing.T) {
	t.Parallel()
	c, root := asking(t, "127.83.3.1", 3*time.Second)
	udpAt, tcpAt := resolve(t, c, named("a", "10.0.0.1", "web"))
	packed, err := new(wire.Msg).SetQuestion("slow.example.", wire.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, "udp", udpAt).Write(packed); err != nil {
		t.Fatal(err)
	}
	idle := dial(t, "tcp", tcpAt)
	if _, _, err := new(wire.Client).ExchangeWithConn(new(wire.Msg).SetQuestion("web.", wire.TypeA), &wire.Conn{Conn: idle}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	next := ensure(t, root, "two")
	start := time.Now()
	if err := next.Release(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("it took %s", took)
	}
	isFree(t, "udp", udpAt)
	isFree(t, "tcp", tcpAt)
}
