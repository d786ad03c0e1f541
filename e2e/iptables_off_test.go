package e2e

import (
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// rules are every rule, chain and policy of a host, of whichever program; "" where
// there is none.
func rules(h *lab.Host) string {
	text := h.Run("nft", "--stateless", "list", "ruleset")
	for _, family := range []string{"ip", "ip6"} {
		if h.Try("cat", "/proc/net/"+family+"_tables_names").Stdout != "" {
			text += h.Run(family + "tables-legacy-save")
		}
	}
	return text
}

// TestD1: with --iptables=false no rule of ours is anywhere, and a published port
// still answers, on loopback, from the host and from outside, by the userland proxy,
// in both families and by both protocols. So it is after a restart.
func TestD1(t *testing.T) {
	t.Parallel()
	s := newSite(t, "--iptables=false")
	s.Must("network", "create", "--ipv6", "--subnet", "10.30.0.0/24", "--subnet", "fd00:30::/64", "dual")
	s.Must("network", "create", "--internal", "inner")
	b := s.idle("--network", "dual", "-p", "8080:80", "-p", "8080:80/udp", "-p", host4+":8081:80")
	for _, proto := range []string{"tcp", "udp"} {
		b.serve(proto, "0.0.0.0:80")
		b.serve(proto, "[::]:80")
	}
	answers := func() {
		t.Helper()
		for _, proto := range []string{"tcp", "udp"} {
			b.sees(s.outside, proto, at(host4, "8080"), "10.30.0.1") // the proxy, not outside
			b.sees(s.outside, proto, at(host6, "8080"), "fd00:30::1")
			for _, addr := range []string{host4, second4, "127.0.0.1"} {
				b.sees(s.host, proto, at(addr, "8080"), "10.30.0.1")
			}
			for _, addr := range []string{host6, "::1"} {
				b.sees(s.host, proto, at(addr, "8080"), "fd00:30::1")
			}
			b.sees(b.Host, proto, at(host4, "8080"), "10.30.0.1")
		}
		b.sees(s.outside, "tcp", at(host4, "8081"), "10.30.0.1")
		lab.Unreachable(t, s.outside, "tcp", at(second4, "8081"), from(s.outside, "tcp", at(host4, "8081")))
		if have := rules(s.host); have != "" {
			t.Errorf("there are rules:\n%s", have)
		}
		s.consistent()
	}
	answers()
	contains(t, "info", s.Must("info"), "Firewall Backend: none")
	contains(t, "the log", s.LogTail(50), "the firewall is off", "masquerade", "network=inner")
	s.Restart()
	answers()
	s.Must("rm", "-f", b.id)
	if _, err := s.host.Dial("tcp", at(host4, "8080"), 0); err == nil {
		t.Error("the port still answers when the container is gone")
	}
}

// TestD2: with --iptables=false a ping from the container to outside fails, since
// nobody outside knows the way back; with a source NAT typed by hand it works.
func TestD2(t *testing.T) {
	t.Parallel()
	s := newSite(t, "--iptables=false")
	s.host.Expect("table ip nat") // what is typed by hand stays
	b := s.idle()
	lab.Unreachable(t, b.Host, "icmp", outside4, from(s.host, "icmp", outside4))
	s.host.Run("iptables", "-t", "nat", "-A", "POSTROUTING", "-s", "172.17.0.0/16", "!", "-o", "fairlead0", "-j", "SNAT", "--to-source", host4)
	lab.Reachable(t, b.Host, "icmp", outside4)
	s.Must("exec", b.id, "ping", "-c1", "-W5", outside4)
	before := rules(s.host)
	s.Restart()
	if after := rules(s.host); after != before {
		t.Errorf("rules typed by hand before and after a restart:\n%s\n%s", before, after)
	}
	lab.Reachable(t, b.Host, "icmp", outside4)
}

// TestIP6TablesOff: with --ip6tables=false there is no rule for IPv6: packets pass as
// if we were not there, and published ports are served by the userland proxy. IPv4
// is as ever.
func TestIP6TablesOff(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newSiteOn(t, backend, "--ip6tables=false")
		s.outside.Run("ip", "-6", "route", "add", "fd00:30::/64", "via", host6)
		s.Must("network", "create", "--ipv6", "--subnet", "10.30.0.0/24", "--subnet", "fd00:30::/64", "dual")
		b := s.idle("--network", "dual", "-p", "8080:80")
		b.serve("tcp", "0.0.0.0:80")
		b.serve("tcp", "[::]:80")
		b.sees(s.outside, "tcp", at(host4, "8080"), outside4)
		b.sees(s.outside, "tcp", at(host6, "8080"), "fd00:30::1")
		b.sees(s.outside, "tcp", at(b.addr6, "80"), outside6)
		s.outside.Run("ip", "route", "add", "10.30.0.0/24", "via", host4)
		lab.Unreachable(t, s.outside, "tcp", at(b.addr4, "80"), from(s.outside, "tcp", at(b.addr6, "80")))
		// Whom a container sends as is looked at below IP.
		table := ""
		for line := range strings.Lines(rules(s.host)) {
			if strings.HasPrefix(line, "table ") {
				table = line
			}
			if strings.Contains(line, "fd00:30:") && !strings.HasPrefix(table, "table bridge ") {
				t.Errorf("a rule for IPv6: %s", line)
			}
		}
		s.consistent()
	})
}

// TestIPForwardNoDrop: with --ip-forward-no-drop the host goes on to forward for
// others when the daemon turned forwarding on.
func TestIPForwardNoDrop(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newHosts(t)
		s.host.Sysctl("net.ipv4.ip_forward", "0")
		inner := s.lab.Host("inner")
		s.lab.Link(s.host.Port("inside", "198.51.100.1/24"), inner.Port("eth0", "198.51.100.2/24"))
		inner.DefaultRoute("eth0", "198.51.100.1")
		s.outside.Run("ip", "route", "add", "198.51.100.0/24", "via", host4)
		srv := s.outside.Listen("tcp", outside4+":0")
		s.startOn(backend, "--ip-forward-no-drop")
		lab.Reachable(t, inner, "tcp", srv.Addr.String())
		s.consistent()
	})
}
