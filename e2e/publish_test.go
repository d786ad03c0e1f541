package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestRanges: a range of ports is published one to one; a container port on a range
// takes the first that is free.
func TestRanges(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.idle("-p", "8000-8009:9000-9009", "-p", "5000-5002:5000-5002/udp")
	for i := range 10 {
		b.serve("tcp", fmt.Sprintf("0.0.0.0:%d", 9000+i))
	}
	for i := range 3 {
		b.serve("udp", fmt.Sprintf("0.0.0.0:%d", 5000+i))
	}
	for i := range 10 {
		b.sees(s.outside, "tcp", fmt.Sprintf("%s:%d", host4, 8000+i), outside4)
	}
	for i := range 3 {
		b.sees(s.outside, "udp", fmt.Sprintf("%s:%d", host4, 5000+i), outside4)
	}
	contains(t, "ps", s.Must("ps", "--format", "{{.Ports}}"), "0.0.0.0:8000->9000/tcp", "0.0.0.0:8009->9009/tcp", "0.0.0.0:5000-5002->5000-5002/udp")
	for i := range 3 {
		c := s.idle("-p", "7000-7002:80")
		if got := s.Must("port", c.id, "80"); !strings.HasPrefix(got, fmt.Sprintf("0.0.0.0:%d", 7000+i)) {
			t.Errorf("container %d on 7000-7002 has %s", i, got)
		}
	}
	_, stderr, code := s.CLI("run", "-d", "-p", "7000-7002:80", "demo", "sleep", "3600")
	if code != 125 || !strings.Contains(stderr, "7000-7002") {
		t.Errorf("a fourth on three ports: exit code %d, %s", code, stderr)
	}
	s.consistent()
}

// TestHostAddresses: a port published on one host address is reachable there and
// nowhere else, and the same port can be another container's on another address.
func TestHostAddresses(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Must("network", "create", "--ipv6", "dual")
	one := s.idle("--network", "dual", "-p", host4+":80:80", "-p", "["+host6+"]:80:80", "-p", host4+":80:80/udp")
	two := s.idle("--network", "dual", "-p", second4+":80:80", "-p", "["+second6+"]:80:80", "-p", second4+":80:80/udp")
	lo := s.idle("--network", "dual", "-p", "127.0.0.1:80:80", "-p", "[::1]:80:80", "-p", "127.0.0.1:80:80/udp")
	for _, b := range []box{one, two, lo} {
		b.serve("tcp", "0.0.0.0:80")
		b.serve("tcp", "[::]:80")
		b.serve("udp", "0.0.0.0:80")
	}
	for _, proto := range []string{"tcp", "udp"} {
		one.sees(s.outside, proto, at(host4, "80"), outside4)
		two.sees(s.outside, proto, at(second4, "80"), outside4)
	}
	one.sees(s.outside, "tcp", at(host6, "80"), outside6)
	two.sees(s.outside, "tcp", at(second6, "80"), outside6)
	for addr, want := range map[string]box{host4: one, host6: one, second4: two, second6: two, "127.0.0.1": lo, "::1": lo} {
		if r := lab.Seen(t, s.host, "tcp", at(addr, "80")); r.Host != want.Name() {
			t.Errorf("the host at %s: %s answered, want %s", addr, r.Host, want.Name())
		}
	}
	if r := lab.Seen(t, s.host, "udp", "127.0.0.1:80"); r.Host != lo.Name() {
		t.Errorf("the host at 127.0.0.1 by UDP: %s answered", r.Host)
	}
	contains(t, "ps", s.Must("ps", "--format", "{{.Ports}}"), host4+":80->80/tcp", "["+host6+"]:80->80/tcp", "127.0.0.1:80->80/tcp", "[::1]:80->80/tcp")
	// One that is on loopback alone.
	solo := s.idle("-p", "127.0.0.1:81:80")
	solo.serve("tcp", "0.0.0.0:80")
	var pairs [][2]lab.Probe
	for _, addr := range []string{host4, second4} {
		for _, h := range []*lab.Host{s.outside, s.host, one.Host} {
			pairs = append(pairs, [2]lab.Probe{from(h, "tcp", at(addr, "81")), from(s.host, "tcp", "127.0.0.1:81")})
		}
	}
	barred(t, pairs...)
	s.consistent()
}

// TestIPv6Address: a port published on an IPv6 address of the host reaches a
// container with IPv4 alone.
func TestIPv6Address(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.idle("-p", "["+host6+"]:80:80", "-p", "["+host6+"]:80:80/udp")
	for _, proto := range []string{"tcp", "udp"} {
		b.serve(proto, "0.0.0.0:80")
		for _, h := range []*lab.Host{s.outside, s.host} {
			if r := lab.Seen(t, h, proto, at(host6, "80")); r.Host != b.Name() {
				t.Errorf("%s answered", r.Host)
			}
		}
	}
	lab.Unreachable(t, s.outside, "tcp", at(host4, "80"), lab.Probe{From: s.outside, Proto: "tcp", Addr: at(host6, "80")})
	s.consistent()
}

// TestUDPAnswers: over UDP the answer comes from the address that was asked, and a
// flow that was there before the container is not stuck to what was there then.
func TestUDPAnswers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for range 2 {
		b := s.idle("-p", "5353:53/udp")
		srv := b.Listen("udp", "0.0.0.0:53")
		for _, addr := range []string{host4, second4} {
			b.sees(s.outside, "udp", at(addr, "5353"), outside4)
		}
		// The same client port each time: the second container must get it.
		if got, want := askFrom(t, s.outside, outside4+":4444", host4+":5353"), b.Name()+" "+outside4+":4444\n"; got != want {
			t.Errorf("the answer to port 4444: %q, want %q", got, want)
		}
		srv.Close()
		s.Must("rm", "-f", b.id)
	}
	s.consistent()
}

// askFrom sends a datagram from a port of the client's choice, and returns the
// answer.
func askFrom(t *testing.T, h *lab.Host, local, remote string) (answer string) {
	t.Helper()
	err := h.Do(func() error {
		c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(local)), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(remote)))
		if err != nil {
			return err
		}
		defer c.Close()
		buf := make([]byte, 256)
		n := 0
		for try := 0; try < 5 && n == 0; try++ {
			if _, err = c.Write([]byte("?")); err == nil {
				_ = c.SetReadDeadline(time.Now().Add(time.Second))
				n, err = c.Read(buf)
			}
		}
		answer = string(buf[:n])
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return answer
}

// TestPortsAreHeld: while a container publishes a port no program of the host gets
// it, and after it does.
func TestPortsAreHeld(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.idle("-p", "8080:80", "-p", "8080:80/udp")
	err := s.host.Do(func() error {
		_, err := net.Listen("tcp4", ":8080") //nolint:noctx // it is refused at once
		_, err2 := net.ListenPacket("udp4", ":8080")
		return errors.Join(err, err2)
	})
	if err == nil || strings.Count(err.Error(), "address already in use") != 2 {
		t.Errorf("a program of the host's binds the port: %v", err)
	}
	s.Must("rm", "-f", b.id)
	s.host.Listen("tcp", "0.0.0.0:8080").Close()
	s.host.Listen("udp", "0.0.0.0:8080").Close()
}

// TestConnectionsEnd: when a container is removed its connections end, through the
// proxy too, and the port is free at once for the next.
func TestConnectionsEnd(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for range 3 {
		b := s.idle("-p", "8080:80")
		srv := b.Listen("tcp", "0.0.0.0:80")
		lab.Reachable(t, s.host, "tcp", "127.0.0.1:8080")
		c, err := s.host.Dial("tcp", "127.0.0.1:8080", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		srv.Close()
		s.Must("rm", "-f", b.id)
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		buf := make([]byte, 256)
		for err == nil {
			_, err = c.Read(buf)
		}
		if strings.Contains(err.Error(), "timeout") {
			t.Error("a connection through the proxy outlives the container")
		}
		_ = c.Close()
	}
	s.consistent()
}

// TestPublishAll: -P takes ports that nobody uses, and keeps off those a program of
// the host has.
func TestPublishAll(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	s.host.Sysctl("net.ipv4.ip_local_port_range", "40000 40009")
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{})
	s.importImage("demo")
	s.host.Listen("tcp", "0.0.0.0:40003")
	used := map[string]bool{"40003": true}
	for range 9 {
		b := s.idle("-p", "80")
		first, _, _ := strings.Cut(s.Must("port", b.id, "80"), "\n")
		ap := netip.MustParseAddrPort(first)
		port := itoa(int(ap.Port()))
		if used[port] || ap.Port() < 40000 || ap.Port() > 40009 {
			t.Errorf("port %s is in use, or outside the range", port)
		}
		used[port] = true
	}
	_, stderr, code := s.CLI("run", "--rm", "-p", "80", "demo", "true")
	if code != 125 || !strings.Contains(stderr, "ephemeral range") {
		t.Errorf("with the range full: exit code %d, %s", code, stderr)
	}
	s.consistent()
}
