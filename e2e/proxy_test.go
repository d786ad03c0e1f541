package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestProxyIsOneProcess: all published ports of all containers are held and proxied
// by one process, and their queues are as long as the kernel allows.
func TestProxyIsOneProcess(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i := range 3 {
		s.idle("-p", fmt.Sprintf("%d-%d:7000-7099", 10000+100*i, 10099+100*i))
	}
	if pids := s.relays(); len(pids) != 1 {
		t.Errorf("processes %v hold ports", pids)
	}
	longest := s.host.Run("cat", "/proc/sys/net/core/somaxconn")
	listens := s.host.Run("ss", "-Hltnp")
	pid := fmt.Sprintf("pid=%d,", s.relays()[0])
	count := 0
	for line := range strings.Lines(listens) {
		if f := strings.Fields(line); strings.Contains(line, pid) && len(f) > 2 {
			count++
			if f[2] != longest {
				t.Errorf("a queue of %s, want %s: %s", f[2], longest, line)
			}
		}
	}
	if count != 600 {
		t.Errorf("%d sockets of the relay's listen, want 300 ports of two families\n%s", count, listens)
	}
}

// TestProxyEnds: by loopback as by any other way, the end of one direction and a
// reset come through as what they are, and a port that nobody serves refuses at once.
func TestProxyEnds(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.idle("-p", "8080:80")
	dial := func() *net.TCPConn {
		t.Helper()
		c, err := s.host.Dial("tcp", "127.0.0.1:8080", 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		t.Cleanup(func() { _ = c.Close() })
		return c.(*net.TCPConn)
	}
	begun := time.Now()
	c, err := s.host.Dial("tcp", "127.0.0.1:8080", 5*time.Second)
	if err == nil { // else the reset was there before the client looked
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = c.Read(make([]byte, 1))
		_ = c.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) || time.Since(begun) > time.Second {
		t.Errorf("where nobody listens: %v after %s", err, time.Since(begun))
	}
	var l *net.TCPListener
	if err := b.Do(func() (err error) { l, err = net.ListenTCP("tcp4", &net.TCPAddr{Port: 80}); return err }); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pair := func() (client, server *net.TCPConn) {
		t.Helper()
		client = dial()
		server, err := l.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		_ = server.SetDeadline(time.Now().Add(10 * time.Second))
		t.Cleanup(func() { _ = server.Close() })
		return client, server
	}
	for _, first := range []string{"client", "server"} {
		x, y := pair()
		if first == "server" {
			x, y = y, x
		}
		_, _ = io.WriteString(x, "question")
		_ = x.CloseWrite()
		if got, err := io.ReadAll(y); err != nil || string(got) != "question" {
			t.Errorf("the %s ended its direction: %q, %v", first, got, err)
		}
		_, _ = io.WriteString(y, "answer")
		_ = y.Close()
		if got, err := io.ReadAll(x); err != nil || string(got) != "answer" {
			t.Errorf("the %s ended its direction; back came %q, %v", first, got, err)
		}
		x, y = pair()
		if first == "server" {
			x, y = y, x
		}
		_ = x.SetLinger(0)
		_ = x.Close()
		if _, err := y.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the %s reset, the other side saw %v", first, err)
		}
	}
}

// TestProxyManyClients: many clients at once, each for a moment, are all served by
// loopback, whatever a container that takes nothing in does to its own.
func TestProxyManyClients(t *testing.T) {
	t.Parallel()
	for _, proxy := range []bool{true, false} {
		t.Run(fmt.Sprintf("proxy=%v", proxy), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, proxyFlag(proxy))
			b, stuck := s.idle("-p", "8080:80"), s.idle("-p", "8081:80")
			b.serve("tcp", "0.0.0.0:80")
			stuck.Run("nft", "add table inet mute; add chain inet mute in { type filter hook input priority 0; policy drop; }")
			const clients, each = 10, 50
			answers := make(chan error, clients*each)
			var wg sync.WaitGroup
			if proxy {
				for range 100 {
					if c, err := s.host.Dial("tcp", "127.0.0.1:8081", time.Second); err == nil {
						defer c.Close()
					}
				}
			}
			for range clients {
				wg.Go(func() {
					for range each {
						r, err := s.host.Ask("tcp", "127.0.0.1:8080", 10*time.Second)
						if err == nil && r.Host != b.Name() {
							err = fmt.Errorf("%s answered", r.Host)
						}
						answers <- err
					}
				})
			}
			wg.Wait()
			close(answers)
			for err := range answers {
				if err != nil {
					t.Fatal(err)
				}
			}
			s.consistent()
		})
	}
}

// TestProxyAcrossFamilies: what the container's family is not, the proxy carries:
// from outside and by loopback, TCP and UDP.
func TestProxyAcrossFamilies(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newSiteOn(t, backend)
		b := s.idle("-p", "8080:80", "-p", "8080:80/udp")
		for _, proto := range []string{"tcp", "udp"} {
			b.serve(proto, "0.0.0.0:80")
			for _, h := range []*lab.Host{s.outside, s.host} {
				if r := lab.Seen(t, h, proto, at(host6, "8080")); r.Host != b.Name() {
					t.Errorf("%s answered %s by %s", r.Host, h.Name(), proto)
				}
			}
			if r := lab.Seen(t, s.host, proto, "[::1]:8080"); r.Host != b.Name() {
				t.Errorf("%s answered by %s on [::1]", r.Host, proto)
			}
		}
		s.consistent()
	})
}
