package e2e

import (
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestForeignHands: what others do to links, addresses, rules and sysctls of ours
// shows in `debug check`, and a restart mends it; containers run on.
func TestForeignHands(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Must("network", "create", "--ipv6", "dual")
	plain := s.idle("--name", "plain", "-p", "7000:7000")
	plain.serve("tcp", "0.0.0.0:7000")
	dual := s.idle("--name", "dual", "--network", "dual", "-p", "7001:7000")
	dual.serve("tcp", "0.0.0.0:7000")
	dual.serve("tcp", "[::]:7000")
	pids := []int{s.inspect("plain").State.Pid, s.inspect("dual").State.Pid}
	veth := func(b box) string {
		index := strings.TrimSpace(s.Must("exec", b.id, "cat", "/sys/class/net/eth0/iflink"))
		line := s.host.Run("sh", "-c", "ip -o link | grep '^"+index+": '")
		name, _, _ := strings.Cut(strings.Fields(line)[1], "@")
		return name
	}
	bridge := "br-" + s.inspect("dual").NetworkSettings.Networks["dual"].NetworkID[:12]
	reached := func(what string) {
		t.Helper()
		for _, probe := range []lab.Probe{
			{From: s.outside, Proto: "tcp", Addr: at(host4, "7000")},
			{From: s.host, Proto: "tcp", Addr: at("127.0.0.1", "7000")},
			{From: s.outside, Proto: "tcp", Addr: at(host4, "7001")},
			{From: s.outside, Proto: "tcp", Addr: at(host6, "7001")},
			{From: s.host, Proto: "tcp", Addr: at("::1", "7001")},
			{From: plain.Host, Proto: "tcp", Addr: at(host4, "7001")},
		} {
			lab.Reachable(t, probe.From, probe.Proto, probe.Addr)
		}
		lab.Reachable(t, plain.Host, "icmp", outside4)
		lab.Reachable(t, dual.Host, "icmp", outside4)
		s.consistent()
		if t.Failed() {
			t.Fatalf("so it is after: %s", what)
		}
	}
	reached("nothing")
	for _, c := range []struct {
		what string
		// away stops the daemon first, down its helpers as well.
		away, down bool
		do         []string
		says       string
	}{
		{what: "a bridge deleted", do: []string{"ip", "link", "del", "fairlead0"}, says: "bridge fairlead0 is missing"},
		{what: "another bridge deleted", away: true, do: []string{"ip", "link", "del", bridge}},
		{what: "a bridge put down", do: []string{"ip", "link", "set", "fairlead0", "down"}, says: "bridge fairlead0 is down"},
		{what: "a bridge's addresses removed", do: []string{"ip", "addr", "flush", "dev", bridge}, says: "lacks address"},
		{what: "a bridge's group changed", do: []string{"ip", "link", "set", "fairlead0", "group", "0"}, says: "device group"},
		{what: "a veth deleted", do: []string{"ip", "link", "del", veth(plain)}, says: "is missing"},
		{what: "a veth with both families deleted", away: true, do: []string{"ip", "link", "del", veth(dual)}},
		{what: "a veth taken off its bridge", do: []string{"ip", "link", "set", veth(plain), "nomaster"}, says: "is no port of bridge"},
		{what: "a veth put down", do: []string{"ip", "link", "set", veth(dual), "down"}, says: "is down"},
		{what: "forwarding turned off", do: []string{"sysctl", "-w", "net.ipv4.ip_forward=0"}, says: "net.ipv4.ip_forward"},
		{what: "IPv6's forwarding turned off", do: []string{"sysctl", "-w", "net.ipv6.conf.all.forwarding=0"}, says: "net.ipv6.conf.all.forwarding"},
		{what: "all rules flushed, the relay and the daemon being dead", down: true, do: []string{"nft", "flush", "ruleset"}},
		{what: "the table deleted, the relay and the daemon being dead", down: true, do: []string{"nft", "delete", "table", "inet", "fairlead"}},
		{what: "an element removed, the relay and the daemon being dead", down: true, do: []string{"nft", "delete element inet fairlead publish4any { tcp . 7000 }"}},
		{what: "a rule added, the relay and the daemon being dead", down: true, do: []string{"nft", "insert rule inet fairlead filter_forward drop"}},
	} {
		if c.away || c.down {
			s.Kill()
		}
		if c.down {
			relays := s.relays()
			s.shoot("relay", relays)
			eventually(t, "its end, and with it the owner's", func() bool { return closed(relays[0]) })
		}
		if c.says != "" {
			s.Must("heal", "pause") // else it is put back before anybody looks
		}
		s.host.Run(c.do[0], c.do[1:]...)
		if c.says != "" {
			said, _, code := s.CLI("debug", "check")
			if code != 1 || !strings.Contains(said, c.says) {
				t.Errorf("%s: debug check: exit status %d, %q; want one that says %q", c.what, code, said, c.says)
			}
			s.Stop()
		}
		s.Start()
		reached(c.what)
	}
	if now := []int{s.inspect("plain").State.Pid, s.inspect("dual").State.Pid}; now[0] != pids[0] || now[1] != pids[1] {
		t.Errorf("the processes were %v and are %v", pids, now)
	}
}

// TestForeignFlush: while the table has an owner nobody else deletes it, and a flush
// of all rules passes it by: with the daemon, and without, as long as the relay
// lives.
func TestForeignFlush(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	web := s.idle("-p", "7000:7000")
	web.serve("tcp", "0.0.0.0:7000")
	s.host.Run("nft", "add table ip foreign")
	for _, away := range []bool{false, true} {
		if away {
			s.Kill()
		}
		s.host.Run("nft", "flush", "ruleset")
		if r := s.host.Try("nft", "delete", "table", "inet", "fairlead"); r.Code == 0 {
			t.Error("others delete the table")
		}
		lab.Reachable(t, s.outside, "tcp", at(host4, "7000"))
	}
	s.Start()
	s.consistent()
	if tables := s.host.Run("nft", "list", "tables"); strings.Contains(tables, "foreign") {
		t.Errorf("the flush did nothing: %s", tables)
	}
}
