package e2e

import (
	"slices"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"github.com/fairlead/fairlead/internal/lab"
)

// asksAgainAndAgain asks by both protocols until the returned function is called; an
// answer that is not the one wanted, or none, fails the test.
func (b box) asksAgainAndAgain(names map[string]string) (stop func()) {
	b.s.t.Helper()
	ended := make(chan struct{})
	var wg sync.WaitGroup
	for _, proto := range []string{"udp", "tcp"} {
		for name, want := range names {
			wg.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-ended:
						b.s.t.Logf("%d queries by %s for %s", n, proto, name)
						return
					case <-time.After(5 * time.Millisecond):
					}
					if got, err := query(b.Host, proto, resolver, name, wire.TypeA); err != nil || got != want {
						b.s.t.Errorf("query %d by %s for %s: %q, %v", n, proto, name, got, err)
						return
					}
				}
			})
		}
	}
	return sync.OnceFunc(func() {
		close(ended)
		wg.Wait()
	})
}

// askingSite has container db on a network with web, which has an address there.
func askingSite(t *testing.T) (s *site, db box, web4 string) {
	t.Helper()
	s, _, _ = namesSite(t)
	s.Must("network", "create", "front")
	web := s.idle("--name", "web", "--network", "front")
	db = s.idle("--name", "db", "--network", "front")
	web4, _ = web.on("front")
	return s, db, web4
}

// TestDNSOutlivesAnUpgrade: no query is lost when daemon and relay are replaced by
// those of another build.
func TestDNSOutlivesAnUpgrade(t *testing.T) {
	t.Parallel()
	s, db, web4 := askingSite(t)
	other := lab.OtherBinary(t)
	before := s.relays()
	stop := db.asksAgainAndAgain(map[string]string{"web": "NOERROR " + web4, "y.example.org": "NOERROR 203.0.113.1"})
	for _, binary := range []string{other, lab.Binary(t)} {
		s.Stop()
		s.Binary = binary
		s.Start()
	}
	stop()
	if now := s.relays(); slices.Equal(now, before) {
		t.Errorf("the relay was not replaced: %v", now)
	}
	s.Must("rm", "-f", "web")
	db.resolves("web", wire.TypeA, "NXDOMAIN")
	s.consistent()
}

// TestDNSOutlivesTheDaemon: names are answered while the daemon is killed and comes
// back, and again right after the relay was.
func TestDNSOutlivesTheDaemon(t *testing.T) {
	t.Parallel()
	s, db, web4 := askingSite(t)
	stop := db.asksAgainAndAgain(map[string]string{"web": "NOERROR " + web4, "y.example.org": "NOERROR 203.0.113.1"})
	time.Sleep(100 * time.Millisecond)
	s.Kill()
	time.Sleep(300 * time.Millisecond)
	s.Start()
	third := s.idle("--name", "third", "--network", "front")
	third4, _ := third.on("front")
	stop()
	db.resolves("third", wire.TypeA, "NOERROR "+third4)

	s.shoot("relay", s.relays())
	began := time.Now()
	for {
		if got, err := query(db.Host, "tcp", resolver, "third", wire.TypeA); err == nil && got == "NOERROR "+third4 {
			break
		}
		if time.Since(began) > 5*time.Second {
			t.Fatalf("five seconds after the relay was killed names are not answered\n%s", s.LogTail(20))
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("names were answered again %s after the relay was killed", time.Since(began))
	eventually(t, "another container has names again", func() bool {
		got, err := query(third.Host, "udp", resolver, "web", wire.TypeA)
		return err == nil && got == "NOERROR "+web4
	})
	s.consistent()
	// What was opened anew does not keep a container either.
	s.Must("rm", "-f", "third")
	db.resolves("third", wire.TypeA, "NXDOMAIN")
	s.consistent()
}

// TestDNSRelayKilledAmidWork: who comes right after the relay was killed waits for the
// next one, and fails for nothing.
func TestDNSRelayKilledAmidWork(t *testing.T) {
	t.Parallel()
	s, _, _ := namesSite(t)
	s.Must("network", "create", "front")
	db := s.idle("--name", "db", "--network", "front")
	for range 3 {
		s.shoot("relay", s.relays())
		web := s.idle("--name", "web", "--network", "front")
		web4, _ := web.on("front")
		eventually(t, "names are answered again", func() bool {
			got, err := query(db.Host, "udp", resolver, "web", wire.TypeA)
			return err == nil && got == "NOERROR "+web4
		})
		s.shoot("relay", s.relays())
		s.Must("rm", "-f", "web")
		s.consistent()
	}
}
