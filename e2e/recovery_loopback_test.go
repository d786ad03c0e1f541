package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/crashpoint"
	"github.com/fairlead/fairlead/internal/lab"
)

// TestLoopbackAfterCrashes: a daemon that is killed while it publishes or takes back
// leaves nothing that loopback leads to, once it is started again.
func TestLoopbackAfterCrashes(t *testing.T) {
	t.Parallel()
	s := withoutProxy(t)
	for i, point := range []string{"attach.redirect", "attach.publish", "detach.begin", "detach.redirect"} {
		name := fmt.Sprintf("c%d", i)
		run := []string{"run", "-d", "--name", name, "--network", "dual", "-p", "8080:80", "-p", "8080:80/udp", "demo", "sleep", "3600"}
		if strings.HasPrefix(point, "detach") {
			s.Must(run...)
		}
		s.Stop()
		s.Start(crashpoint.Env + "=" + point)
		if strings.HasPrefix(point, "detach") {
			s.CLI("rm", "-f", name)
		} else {
			s.CLI(run...)
		}
		if code := s.Wait(); code != 137 {
			t.Fatalf("%s: the daemon ended with %d", point, code)
		}
		s.Start()
		s.CLI("rm", "-f", name)
		s.consistent()
		for _, way := range loopbacks("8080") {
			if _, err := s.host.Ask(way[0], way[1], 200*time.Millisecond); err == nil {
				t.Errorf("%s: %s is answered", point, way[1])
			}
		}
	}
	b := s.idle("--network", "dual", "-p", "8080:80")
	b.both("80")
	if r := lab.Seen(t, s.host, "tcp", "[::1]:8080"); r.Host != b.Name() {
		t.Errorf("%s answered", r.Host)
	}
}

// TestLoopbackOutlivesTheRelay: the hooks outlive the relay, and a new one keeps them.
func TestLoopbackOutlivesTheRelay(t *testing.T) {
	t.Parallel()
	s := withoutProxy(t)
	b := s.idle("-p", "8080:80")
	b.both("80")
	for range 2 {
		s.shoot("relay", s.relays())
		if r := lab.Seen(t, s.host, "tcp", "127.0.0.1:8080"); r.Host != b.Name() {
			t.Errorf("%s answered", r.Host)
		}
		eventually(t, "the new relay holds the ports", func() bool {
			stdout, _, code := s.CLI("debug", "check")
			return code == 0 && stdout == ""
		})
	}
	s.Kill()
	if r := lab.Seen(t, s.host, "tcp", "127.0.0.1:8080"); r.Host != b.Name() {
		t.Errorf("without a daemon %s answered", r.Host)
	}
	s.Start()
	s.consistent()
}
