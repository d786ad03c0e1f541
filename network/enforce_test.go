package network

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/network/spec"
)

func byIPTables(c *Config) { c.Firewall = FirewallIPTables }

// BenchmarkAttachByIPTables is BenchmarkAttach with the other back end.
func BenchmarkAttachByIPTables(b *testing.B) {
	for _, there := range []int{0, 100} {
		for _, publish := range []bool{false, true} {
			b.Run(fmt.Sprintf("there=%d,publish=%v", there, publish), func(b *testing.B) {
				h := newHost(b, byIPTables, func(c *Config) { c.Log = slog.New(slog.DiscardHandler) })
				for i := range there {
					h.attach(b, 100000+i, "bridge", tcp(0, 80), tcp(0, 81))
				}
				var ports []spec.PortRequest
				if publish {
					ports = append(ports, tcp(0, 80))
				}
				b.ResetTimer()
				for i := 0; b.Loop(); i++ {
					a := h.attach(b, i, "bridge", ports...)
					b.StopTimer()
					if err := h.Detach(b.Context(), a.Sandbox.ID); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
			})
		}
	}
}

// TestIPTablesKeepsPace: whatever comes and goes, in whichever order, the chains have
// what the whole policy makes, also after a restart.
func TestIPTablesKeepsPace(t *testing.T) {
	h := newHost(t, byIPTables)
	n, err := h.CreateNetwork(t.Context(), spec.NetworkRequest{Name: "six", IPv6: true})
	if err != nil {
		t.Fatal(err)
	}
	h.clean(t)
	a := h.attach(t, 1, "six", tcp(8080, 80), spec.PortRequest{Proto: spec.UDP, HostPort: 8080, Port: 80})
	b := h.attach(t, 2, "bridge", tcp(8081, 80))
	h.clean(t)
	if _, err := h.Connect(t.Context(), b.Sandbox.ID, spec.EndpointRequest{Network: "six"}); err != nil {
		t.Fatal(err)
	}
	h.clean(t)
	h.restart(t)
	h.clean(t)
	if err := h.Detach(t.Context(), a.Sandbox.ID); err != nil {
		t.Fatal(err)
	}
	h.clean(t)
	if err := h.Detach(t.Context(), b.Sandbox.ID); err != nil {
		t.Fatal(err)
	}
	if err := h.RemoveNetwork(t.Context(), n.ID); err != nil {
		t.Fatal(err)
	}
	h.clean(t)
}

// TestCheckTellsOfIPTables: what somebody took away, or put in, is told by check.
func TestCheckTellsOfIPTables(t *testing.T) {
	h := newHost(t, byIPTables)
	h.attach(t, 1, "bridge", tcp(8080, 80))
	h.clean(t)
	h.PauseHealing() // which would put it back before it is looked at
	defer h.ResumeHealing()
	for _, c := range []struct{ do, undo, says string }{
		{"iptables -t nat -D DOCKER 2", "iptables -t nat -A DOCKER ! -i fairlead0 -p tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80", "lacks -A DOCKER"},
		{"iptables -I DOCKER -j ACCEPT", "iptables -D DOCKER -j ACCEPT", "not wanted"},
		{"iptables -P FORWARD ACCEPT", "iptables -P FORWARD DROP", "has policy ACCEPT"},
	} {
		run := func(line string) {
			words := strings.Fields(line)
			command(t, words[0], words[1:]...)
		}
		run(c.do)
		lines, err := h.Check(t.Context())
		if err != nil || !strings.Contains(strings.Join(lines, "\n"), c.says) {
			t.Errorf("after %s check says %q, %v; want %q in it", c.do, lines, err, c.says)
		}
		run(c.undo)
		h.clean(t)
	}
}

// TestIPTablesRefusesWhatItCannotRead: rules of iptables would go into a table that its
// programs do not list, and be there twice after a restart, and for good.
func TestIPTablesRefusesWhatItCannotRead(t *testing.T) {
	command(t, "sh", "-c", "nft add table ip nat && nft add chain ip nat POSTROUTING '{ type nat hook postrouting priority srcnat; }'"+
		" && nft add rule ip nat POSTROUTING ip saddr 192.168.122.0/24 counter masquerade")
	before := command(t, "nft", "list", "ruleset")
	h := emptyHost(t, byIPTables)
	if err := h.tryStart(t); err == nil || !strings.Contains(err.Error(), "table ip nat") || !strings.Contains(err.Error(), "--firewall-backend=nftables") {
		t.Errorf("started: %v", err)
	}
	if after := command(t, "nft", "list", "ruleset"); after != before {
		t.Errorf("the ruleset was\n%sand is\n%s", before, after)
	}
	if err := h.store.Close(); err != nil {
		t.Error(err)
	}
	command(t, "nft", "delete", "table", "ip", "nat")
	h.start(t)
	h.attach(t, 1, "bridge", tcp(8080, 80))
	h.clean(t)
	h.teardown(t)
}
