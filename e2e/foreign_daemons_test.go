package e2e

import (
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestTwoDaemonsOneBridgeForeign: a daemon that turned forwarding on keeps the host
// from forwarding for others; a second one in the same host namespace, whose bridge
// is the host's own and in no group of ours, is none of those.
func TestTwoDaemonsOneBridgeForeign(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		for name, first := range map[string]bool{"first": true, "later": false} {
			t.Run("the one with the foreign bridge "+name, func(t *testing.T) {
				t.Parallel()
				testTwoDaemons(t, backend, first)
			})
		}
	})
}

func testTwoDaemons(t *testing.T, backend string, first bool) {
	s := newHosts(t)
	s.host.Run("ip", "link", "add", "bridge0", "type", "bridge")
	s.host.Run("ip", "addr", "add", "192.168.10.1/24", "dev", "bridge0")
	s.host.Run("ip", "link", "set", "bridge0", "up")
	other := &site{t: t, lab: s.lab, host: s.host, outside: s.outside}
	if first {
		other.startOn(backend, "-b", "bridge0")
	}
	s.startOn(backend)
	if !first {
		other.startOn(backend, "-b", "bridge0")
	}
	ours, theirs := s.idle("-p", "8080:80"), other.idle("-p", "8081:80")
	for _, b := range []box{ours, theirs} {
		b.serve("tcp", "0.0.0.0:80")
		b.serve("tcp", "0.0.0.0:81")
	}
	srv := s.outside.Listen("tcp", outside4+":80")
	inner := s.lab.Host("inner")
	s.lab.Link(s.host.Port("inside", "198.51.100.1/24"), inner.Port("eth0", "198.51.100.2/24"))
	inner.DefaultRoute("eth0", "198.51.100.1")
	s.outside.Run("ip", "route", "add", "198.51.100.0/24", "via", host4)
	s.outside.Run("ip", "route", "add", "192.168.10.0/24", "via", host4)
	works := func(after string) {
		t.Helper()
		for _, b := range []box{ours, theirs} {
			lab.Reachable(t, b.Host, "tcp", srv.Addr.String())
		}
		ours.sees(s.outside, "tcp", at(host4, "8080"), outside4)
		theirs.sees(s.outside, "tcp", at(host4, "8081"), outside4)
		lab.Reachable(t, ours.Host, "tcp", at(host4, "8081"))
		lab.Reachable(t, theirs.Host, "tcp", at(host4, "8080"))
		barred(t,
			[2]lab.Probe{from(s.outside, "tcp", at(theirs.addr4, "81")), from(s.host, "tcp", at(theirs.addr4, "81"))},
			[2]lab.Probe{from(ours.Host, "tcp", at(theirs.addr4, "81")), from(s.host, "tcp", at(theirs.addr4, "81"))},
			[2]lab.Probe{from(theirs.Host, "tcp", at(ours.addr4, "81")), from(s.host, "tcp", at(ours.addr4, "81"))},
			// The host is no router for anybody else.
			[2]lab.Probe{from(inner, "tcp", srv.Addr.String()), from(s.host, "tcp", srv.Addr.String())})
		if t.Failed() {
			t.Fatalf("so it is after: %s\n%s", after, s.rules())
		}
	}
	works("start")
	s.Restart()
	works("a restart of ours")
	other.Restart()
	works("a restart of theirs")
	s.consistent()
	other.consistent()
	for _, d := range []*site{s, other} {
		for line := range strings.Lines(d.LogTail(500)) {
			if strings.Contains(line, "chain inet fairlead") {
				t.Errorf("another daemon's table is taken for a stranger's: %s", line)
			}
		}
	}
	s.Kill()
	works("the end of ours by force")
	s.Start()
	other.Teardown()
	lab.Reachable(t, ours.Host, "tcp", srv.Addr.String())
	ours.sees(s.outside, "tcp", at(host4, "8080"), outside4)
	s.host.Run("ip", "link", "del", "bridge0")
	s.consistent()
	s.host.Expect("bridge0", "192.168.10", "link: inside", "198.51.100")
}
