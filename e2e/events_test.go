package e2e

import (
	"bufio"
	"context"
	"strings"
	"testing"
	"time"
)

// listener is Docker's client that prints what happens.
type listener struct {
	s     *site
	lines chan string
}

// events starts Docker's client; it listens when this returns.
func (s *site) events(args ...string) *listener {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	args = append([]string{"--config", s.lab.Dir("docker"), "-H", "unix://" + s.Socket, "events"}, args...)
	cmd := s.host.Command(ctx, dockerClient, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	l := &listener{s, make(chan string, 1000)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for r := bufio.NewScanner(out); r.Scan(); {
			l.lines <- r.Text()
		}
	}()
	s.t.Cleanup(func() {
		cancel()
		<-ended
		_ = cmd.Wait() // it was killed
	})
	eventually(s.t, "docker events listens", func() bool {
		return s.mustDocker("info", "-f", "{{.NEventsListener}}") != "0"
	})
	return l
}

// hears fails the test unless what is heard next begins with these lines, in order.
func (l *listener) hears(want ...string) {
	l.s.t.Helper()
	for _, w := range want {
		select {
		case got := <-l.lines:
			if !strings.HasPrefix(got, w) {
				l.s.t.Errorf("heard %q, want %q", got, w)
			}
		case <-time.After(20 * time.Second):
			l.s.t.Fatalf("nothing is heard, want %q", w)
		}
	}
}

// TestEvents: Docker's client is told what happens to networks, and who joins them,
// as it happens, and afterwards what has happened.
func TestEvents(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	began := time.Now().Add(-time.Minute).Format(time.RFC3339)
	l := s.events("--filter", "type=network", "--format", "{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.type}} {{.Actor.Attributes.container}}")
	s.mustDocker("network", "create", "back")
	id := s.mustDocker("run", "-d", "--name", "web", "demo", "sleep", "3600")
	s.mustDocker("network", "connect", "back", "web")
	s.mustDocker("network", "disconnect", "back", "web")
	s.mustDocker("network", "connect", "back", "web")
	s.mustDocker("rm", "-f", "web")
	l.hears("create back bridge", "connect bridge bridge "+id, "connect back bridge "+id, "disconnect back bridge "+id, "connect back bridge "+id)
	l.hears("disconnect b", "disconnect b") // of its two networks, in either order
	hosted := s.mustDocker("run", "-d", "--network", "host", "demo", "true")
	l.hears("connect host host "+hosted, "disconnect host host "+hosted)
	s.mustDocker("network", "rm", "back")
	s.mustDocker("network", "create", "unused")
	s.mustDocker("network", "prune", "-f")
	l.hears("destroy back bridge", "create unused bridge", "destroy unused bridge", "prune ")
	past := s.mustDocker("events", "--since", began, "--until", time.Now().Format(time.RFC3339Nano), "--filter", "network=back", "--filter", "event=create", "--filter", "event=destroy")
	if lines := strings.Split(past, "\n"); len(lines) != 2 || !strings.Contains(lines[0], " network create ") || !strings.Contains(lines[1], "name=back, type=bridge") {
		t.Errorf("docker events of the past:\n%s", past)
	}
	if r := s.docker(nil, "events", "--filter", "colour=red", "--until", "0s"); r.Code == 0 || !strings.Contains(r.Stderr, "invalid filter 'colour'") {
		t.Errorf("an unknown filter: %+v", r)
	}
}
