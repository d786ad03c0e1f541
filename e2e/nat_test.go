package e2e

import (
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// masqueraded adds up the counters of the rules that masquerade a family, in packets
// and bytes, as a person would read them.
func (s *site) masqueraded(backend string, v4 bool) (packets, bytes int) {
	s.t.Helper()
	var text string
	var rule *regexp.Regexp
	if backend == iptables {
		tool := "ip6tables"
		if v4 {
			tool = "iptables"
		}
		text = s.host.Run(tool, "-t", "nat", "-vnxL")
		rule = regexp.MustCompile(`(?m)^ *(\d+) +(\d+) MASQUERADE `)
	} else {
		set := "masquerade6"
		if v4 {
			set = "masquerade4"
		}
		text = s.host.Run("nft", "list", "table", "inet", "fairlead")
		rule = regexp.MustCompile(`@` + set + ` counter packets (\d+) bytes (\d+) masquerade`)
	}
	rules := rule.FindAllStringSubmatch(text, -1)
	if len(rules) == 0 {
		s.t.Fatalf("no masquerade rule with a counter in:\n%s", text)
	}
	for _, m := range rules {
		p, _ := strconv.Atoi(m[1])
		b, _ := strconv.Atoi(m[2])
		packets, bytes = packets+p, bytes+b
	}
	return packets, bytes
}

// TestA1: a container's TCP connection, datagram and ping to outside work; outside
// sees the host's address as source; the masquerade rule's counters grow and can be
// read with nft and iptables.
func TestA1(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newSiteOn(t, backend)
		s.Must("network", "create", "--ipv6", "dual")
		plain, dual := s.idle("--name", "plain"), s.idle("--name", "dual", "--network", "dual")
		for _, way := range []struct {
			box     box
			v4      bool
			outside string
			host    []string
		}{
			{plain, true, outside4, []string{host4, second4}},
			{dual, true, outside4, []string{host4, second4}},
			{dual, false, outside6, []string{host6, second6}},
		} {
			packets, bytes := s.masqueraded(backend, way.v4)
			for _, proto := range []string{"tcp", "udp"} {
				srv := s.outside.Listen(proto, at(way.outside, "0"))
				if r := lab.Seen(t, way.box.Host, proto, srv.Addr.String()); !slices.Contains(way.host, r.Peer.Addr().String()) {
					t.Errorf("outside sees %s by %s, want an address of the host", r.Peer, proto)
				}
			}
			s.Must("exec", way.box.id, "ping", "-c1", "-W5", way.outside)
			morePackets, moreBytes := s.masqueraded(backend, way.v4)
			if morePackets < packets+3 || moreBytes < bytes+150 {
				t.Errorf("masquerade counter: %d packets %d bytes, then %d packets %d bytes after a connection, a datagram and a ping",
					packets, bytes, morePackets, moreBytes)
			}
		}
		s.consistent()
	})
}

// TestA2: -P publishes each port that the image EXPOSEs on a different port of the
// host's ephemeral range, reachable from outside; `port` agrees.
func TestA2(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newSiteOn(t, backend)
		s.importImage("web", "EXPOSE 22 80 443", `CMD ["sleep","3600"]`)
		web := s.run("-P", "--name", "web", "web")
		var low, high int
		limits := strings.Fields(s.host.Run("cat", "/proc/sys/net/ipv4/ip_local_port_range"))
		low, _ = strconv.Atoi(limits[0])
		high, _ = strconv.Atoi(limits[1])
		ps := s.Must("ps", "--format", "{{.Ports}}")
		used := map[string]bool{}
		for _, port := range []string{"22", "80", "443"} {
			got := strings.Split(s.Must("port", "web", port), "\n")
			_, hostPort, _ := strings.Cut(got[0], ":")
			if n, _ := strconv.Atoi(hostPort); n < low || n > high || used[hostPort] {
				t.Errorf("port %s is published on %q: not its own, or outside the ephemeral range %d to %d", port, hostPort, low, high)
			}
			used[hostPort] = true
			contains(t, "ps", ps, "0.0.0.0:"+hostPort+"->"+port+"/tcp", "[::]:"+hostPort+"->"+port+"/tcp")
			web.serve("tcp", "0.0.0.0:"+port)
			web.sees(s.outside, "tcp", at(host4, hostPort), outside4)
			lab.Reachable(t, s.outside, "tcp", at(host6, hostPort))
		}
	})
}

// TestA3: -p 80:80 of an image that EXPOSEs 22, 80 and 443: ps shows all three and
// only 80 is published.
func TestA3(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newSiteOn(t, backend)
		s.importImage("web", "EXPOSE 22 80 443", `CMD ["sleep","3600"]`)
		web := s.run("-p", "80:80", "web")
		ps := s.Must("ps", "--format", "{{.Ports}}")
		if want := "22/tcp, 443/tcp, 0.0.0.0:80->80/tcp, [::]:80->80/tcp"; ps != want && ps != "22/tcp, 0.0.0.0:80->80/tcp, [::]:80->80/tcp, 443/tcp" {
			t.Errorf("ps shows %q, want %q", ps, want)
		}
		for _, port := range []string{"22", "80", "443"} {
			web.serve("tcp", "0.0.0.0:"+port)
		}
		web.sees(s.outside, "tcp", at(host4, "80"), outside4)
		for _, port := range []string{"22", "443"} {
			barred(t,
				[2]lab.Probe{from(s.outside, "tcp", at(host4, port)), from(s.outside, "tcp", at(host4, "80"))},
				[2]lab.Probe{from(s.outside, "tcp", at(host6, port)), from(s.outside, "tcp", at(host6, "80"))})
			lab.Reachable(t, s.host, "tcp", at(web.addr4, port)) // it is served, if not published
		}
		if got := s.inspect(web.id).NetworkSettings.Ports; len(got) != 3 || len(got["80/tcp"]) != 2 || len(got["22/tcp"]) != 0 {
			t.Errorf("inspect shows ports %+v", got)
		}
	})
}

// TestA4: who connects from outside to a published port is answered by the
// container, which sees outside's own address.
func TestA4(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newSiteOn(t, backend)
		s.Must("network", "create", "--ipv6", "dual")
		web := s.idle("-p", "80:80", "-p", "80:80/udp", "--network", "dual")
		for _, proto := range []string{"tcp", "udp"} {
			web.serve(proto, "0.0.0.0:80")
			web.serve(proto, "[::]:80")
			web.sees(s.outside, proto, at(host4, "80"), outside4)
			web.sees(s.outside, proto, at(second4, "80"), outside4)
			web.sees(s.outside, proto, at(host6, "80"), outside6)
			web.sees(s.outside, proto, at(second6, "80"), outside6)
		}
		s.consistent()
	})
}

// TestB2: container to container, container to host by the bridge's address,
// container to outside, and outside to a published port all work, on each of several
// networks and while a container is on two.
func TestB2(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newSiteOn(t, backend)
		s.Must("network", "create", "--ipv6", "--subnet", "10.30.0.0/24", "--subnet", "fd00:30::/64", "dual")
		s.Must("network", "create", "--ipv6", "--subnet", "10.40.0.0/24", "--subnet", "fd00:40::/64", "other")
		s.idle("--network", "dual", "--network", "other")
		s.everyWay("bridge", "172.17.0.1", "")
		s.everyWay("dual", "10.30.0.1", "fd00:30::1")
		s.everyWay("other", "10.40.0.1", "fd00:40::1")
		s.consistent()
	})
}

// everyWay checks the four ways of B2 on a network, between two new containers.
func (s *site) everyWay(network, gateway4, gateway6 string) {
	s.t.Helper()
	p := s.pair(network)
	defer s.Must("rm", "-f", p.a.id, p.b.id)
	p.everyWay(gateway4, gateway6)
}

// pair are two containers of a network, of which b publishes its port 80.
type pair struct {
	a, b box
	port string
}

func (s *site) pair(network string) pair {
	s.t.Helper()
	p := pair{a: s.idle("--network", network), b: s.idle("--network", network, "-p", "80")}
	p.port = s.inspect(p.b.id).NetworkSettings.Ports["80/tcp"][0].HostPort
	return p
}

// everyWay checks the four ways of B2 between the two.
func (p pair) everyWay(gateway4, gateway6 string) {
	a, b, s, port := p.a, p.b, p.b.s, p.port
	s.t.Helper()
	for _, way := range []struct{ any, to, gateway, host, outside string }{
		{"0.0.0.0", b.addr4.String(), gateway4, host4, outside4},
		{"::", b.addr6.String(), gateway6, host6, outside6},
	} {
		if way.gateway == "" {
			continue
		}
		srv := b.Listen("tcp", at(way.any, "80"))
		peer := a.addr4
		if way.any == "::" {
			peer = a.addr6
		}
		b.sees(a.Host, "tcp", at(way.to, "80"), peer)
		b.sees(s.host, "tcp", at(way.to, "80"), way.gateway)
		b.sees(s.outside, "tcp", at(way.host, port), way.outside)
		srv.Close()
		for where, h := range map[string]*lab.Host{way.gateway: s.host, way.host: s.host, way.outside: s.outside} {
			srv := h.Listen("tcp", at(where, "0"))
			if r := lab.Seen(s.t, a.Host, "tcp", srv.Addr.String()); r.Host != h.Name() {
				s.t.Errorf("%s answered at %s", r.Host, srv.Addr)
			}
			lab.Reachable(s.t, a.Host, "icmp", where)
			srv.Close()
		}
	}
}

// TestB4: a process on the host reaches a published port by the host's own address
// and by 127.0.0.1, [::1] too.
func TestB4(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newSiteOn(t, backend)
		s.Must("network", "create", "--ipv6", "dual")
		for _, network := range []string{"bridge", "dual"} {
			b := s.idle("--network", network, "-p", "8080:80", "-p", "5353:53/udp")
			var servers []*lab.Server
			for _, any := range []string{"0.0.0.0", "::"} {
				servers = append(servers, b.Listen("tcp", at(any, "80")), b.Listen("udp", at(any, "53")))
			}
			for _, addr := range []string{host4, second4, "127.0.0.1", "127.1.2.3", host6, second6, "::1"} {
				for proto, port := range map[string]string{"tcp": "8080", "udp": "5353"} {
					if r := lab.Seen(t, s.host, proto, at(addr, port)); r.Host != b.Name() {
						t.Errorf("network %s: %s answered at %s", network, r.Host, addr)
					}
				}
			}
			for _, srv := range servers {
				srv.Close()
			}
			s.Must("rm", "-f", b.id)
			if _, err := s.host.Dial("tcp", "127.0.0.1:8080", 0); err == nil {
				t.Error("127.0.0.1:8080 still answers when the container is gone")
			}
		}
		s.consistent()
	})
}

// TestB6: where ip_forward was 0 it is 1 after the start, which the log says; and
// 0 again after teardown.
func TestB6(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	s.host.Sysctl("net.ipv4.ip_forward", "0")
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{})
	forward := func() string { return s.host.Run("cat", "/proc/sys/net/ipv4/ip_forward") }
	if forward() != "1" {
		t.Errorf("ip_forward is %s after the start", forward())
	}
	contains(t, "the log", s.LogTail(50), "net.ipv4.ip_forward")
	s.Teardown()
	if forward() != "0" {
		t.Errorf("ip_forward is %s after teardown", forward())
	}
}

// TestForwardGuard: a host that forwarded nothing does not become a router for
// others because a daemon turned forwarding on.
func TestForwardGuard(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	s.host.Sysctl("net.ipv4.ip_forward", "0")
	inner := s.lab.Host("inner")
	s.lab.Link(s.host.Port("inside", "198.51.100.1/24"), inner.Port("eth0", "198.51.100.2/24"))
	inner.DefaultRoute("eth0", "198.51.100.1")
	s.outside.Run("ip", "route", "add", "198.51.100.0/24", "via", host4)
	srv := s.outside.Listen("tcp", outside4+":0")
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{})
	s.importImage("demo")
	b := s.idle()
	lab.Unreachable(t, inner, "tcp", srv.Addr.String(), lab.Probe{From: b.Host, Proto: "tcp", Addr: srv.Addr.String()})
	// The way itself is there: with the guard gone it is open.
	s.Teardown()
	s.host.Sysctl("net.ipv4.ip_forward", "1")
	s.host.Expect("sysctl: net.ipv4.")
	lab.Reachable(t, inner, "tcp", srv.Addr.String())
}

// TestC1: on two hosts the containers have the same addresses; each reaches the other
// by the other host's published port alone.
func TestC1(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newSiteOn(t, backend)
		other := *s
		other.host, other.outside = s.outside, s.host
		other.startOn(backend)
		a, b := s.idle("-p", "8080:80"), other.idle("-p", "8080:80")
		if a.addr4 != b.addr4 || a.addr4.String() != "172.17.0.2" {
			t.Errorf("the containers' addresses are %s and %s", a.addr4, b.addr4)
		}
		a.serve("tcp", "0.0.0.0:80")
		b.serve("tcp", "0.0.0.0:80")
		b.sees(a.Host, "tcp", at(outside4, "8080"), host4)
		a.sees(b.Host, "tcp", at(host4, "8080"), outside4)
		a.sees(a.Host, "tcp", at("172.17.0.2", "80"), "172.17.0.2") // its own, not the other
		lab.Unreachable(t, a.Host, "tcp", at(outside4, "80"), lab.Probe{From: a.Host, Proto: "tcp", Addr: at(outside4, "8080")})
		// With IPv6 the same.
		for _, h := range []*site{s, &other} {
			h.Must("network", "create", "--ipv6", "--subnet", "fd00:30::/64", "dual")
		}
		a, b = s.idle("--network", "dual", "-p", "8081:80"), other.idle("--network", "dual", "-p", "8081:80")
		if a.addr6 != b.addr6 {
			t.Errorf("the containers' addresses are %s and %s", a.addr6, b.addr6)
		}
		a.serve("tcp", "[::]:80")
		b.serve("tcp", "[::]:80")
		if r := lab.Seen(t, a.Host, "tcp", at(outside6, "8081")); r.Host != b.Name() || !slices.Contains([]string{host6, second6}, r.Peer.Addr().String()) {
			t.Errorf("%s answered and saw %s", r.Host, r.Peer)
		}
		a.sees(b.Host, "tcp", at(host6, "8081"), outside6)
		lab.Unreachable(t, a.Host, "tcp", at(outside6, "80"), lab.Probe{From: a.Host, Proto: "tcp", Addr: at(outside6, "8081")})
		s.consistent()
		other.consistent()
	})
}

// TestMainJob is what the first page promises: a container with a published port,
// its page fetched from everywhere, by programs a person would use.
func TestMainJob(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Must("run", "-d", "--name", "hello", "-p", "8080:80", "demo", "httpd", "-f", "-h", "/www")
	fetch := func(from *lab.Host, address string) {
		t.Helper()
		eventually(t, from.Name()+" gets the page at "+address, func() bool {
			return from.Try("busybox", "wget", "-q", "-O-", "http://"+address+"/").Stdout == page
		})
	}
	fetch(s.outside, host4+":8080")
	fetch(s.host, host4+":8080")
	fetch(s.host, "127.0.0.1:8080")
	fetch(s.host, "[::1]:8080")
	fetch(s.outside, "["+host6+"]:8080")
	if got := s.Must("run", "--rm", "demo", "wget", "-q", "-O-", "http://"+host4+":8080/"); got+"\n" != page {
		t.Errorf("a container gets %q", got)
	}
	if got := s.Must("exec", "hello", "wget", "-q", "-O-", "http://"+host4+":8080/"); got+"\n" != page {
		t.Errorf("the container itself gets %q", got)
	}
	s.consistent()
	before := s.inspect("hello").NetworkSettings.Networks["bridge"].IPAddress
	if netip.MustParseAddr(before).String() != "172.17.0.2" {
		t.Errorf("address %s", before)
	}
	if _, err := os.Stat(s.inspect("hello").NetworkSettings.SandboxKey); err != nil {
		t.Errorf("sandbox key: %v", err)
	}
	s.Must("rm", "-f", "hello")
	s.consistent()
}
