package nft_test

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/ruleset"
)

// turned is a table by which port 53 of an address is another's, both ways.
func turned(protocol ruleset.TransportProtocol, port uint16) ruleset.Table {
	address := netip.MustParsePrefix("127.0.0.11/32")
	rule := func(selector, at ruleset.Selector, from, to uint16) []ruleset.Rule {
		return []ruleset.Rule{ruleset.NewRule("", ruleset.Address{Selector: at, Prefix: address},
			ruleset.PortIs{Protocol: protocol, Selector: selector, Port: from}, ruleset.SetPort{Protocol: protocol, Selector: selector, Port: to})}
	}
	return ruleset.Table{Family: ruleset.IPv4, Name: "turned", Chains: []ruleset.Chain{
		{Name: "there", Type: ruleset.Filter, Hook: ruleset.Output, Priority: 300, Policy: ruleset.PolicyAccept, Rules: rule(ruleset.THDPort, ruleset.IPDAddr, 53, port)},
		{Name: "back", Type: ruleset.Filter, Hook: ruleset.Output, Priority: ruleset.PriorityRaw, Policy: ruleset.PolicyAccept, Rules: rule(ruleset.THSPort, ruleset.IPSAddr, port, 53)},
	}}
}

func TestPortsAreTheirText(t *testing.T) {
	t.Parallel()
	isItsText(t, turned(ruleset.TransportTCP, 4100))
	isItsText(t, turned(ruleset.TransportUDP, 4100))
	h := newHost(t)
	broken := turned(ruleset.TransportICMPv6, 4100)
	if err := h.conn.Apply(t.Context(), []ruleset.Change{ruleset.ReplaceTable{Table: broken}}); err == nil || !strings.Contains(err.Error(), "is no port") {
		t.Errorf("ports of ICMPv6: %v", err)
	}
}

// A port that is turned is answered from the one that was asked, by both protocols, and nothing is
// tracked for it.
func TestTurnedPort(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.run(t, "ip", "link", "set", "lo", "up")
	for protocol, network := range map[ruleset.TransportProtocol]string{ruleset.TransportUDP: "udp", ruleset.TransportTCP: "tcp"} {
		var c net.Conn
		h.do(t, func() {
			h.apply(t, ruleset.ReplaceTable{Table: turned(protocol, echo(t, network))})
			var err error
			if c, err = net.DialTimeout(network, "127.0.0.11:53", 5*time.Second); err != nil {
				t.Error(err)
			}
		})
		if t.Failed() {
			t.FailNow()
		}
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		back := make([]byte, 8)
		if _, err := c.Write([]byte("word")); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(back); string(back[:n]) != "word" || err != nil {
			t.Errorf("%s: %q, %v", network, back[:n], err)
		}
		_ = c.Close()
	}
	h.do(t, func() {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.InetFamily(unix.AF_INET))
		if err != nil || len(flows) != 0 {
			t.Errorf("%d flows are tracked, %v", len(flows), err)
		}
	})
}

// echo answers each word with itself on a port of 127.0.0.11, and returns the port.
func echo(t *testing.T, network string) uint16 {
	t.Helper()
	if network == "udp" {
		c, err := net.ListenPacket(network, "127.0.0.11:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		go func() {
			b := make([]byte, 8)
			if n, from, err := c.ReadFrom(b); err == nil {
				_, _ = c.WriteTo(b[:n], from)
			}
		}()
		return c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	}
	l, err := net.Listen(network, "127.0.0.11:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}
