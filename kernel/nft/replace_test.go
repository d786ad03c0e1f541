package nft_test

import (
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/ruleset"
)

// closed is a table that lets nothing in by lo.
func closed() ruleset.Table {
	return ruleset.Table{
		Family: ruleset.Inet, Name: "closed", Owner: true, Persist: true,
		Sets: []ruleset.Set{{
			Name: "shut", Key: []ruleset.DataType{ruleset.IfName},
			Elements: []ruleset.Element{{Key: []ruleset.Value{ruleset.Interface("lo")}}},
		}},
		Chains: []ruleset.Chain{{
			Name: "in", Type: ruleset.Filter, Hook: ruleset.Input, Policy: ruleset.PolicyAccept,
			Rules: []ruleset.Rule{ruleset.NewRule("shut", ruleset.Lookup{Key: []ruleset.Selector{ruleset.IIfName}, Set: "shut"}, ruleset.Drop)},
		}},
	}
}

// TestReplaceLetsNothingPass: while a table is put in its own place again and again, no
// packet finds it open, however many there are.
func TestReplaceLetsNothingPass(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.run(t, "ip", "link", "set", "lo", "up")
	var sockets [2]*net.UDPConn
	h.do(t, func() {
		for i := range sockets {
			var err error
			if sockets[i], err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	server, client := sockets[0], sockets[1]
	t.Cleanup(func() { client.Close(); server.Close() })
	to := server.LocalAddr().(*net.UDPAddr).AddrPort()
	// The control: it would be heard.
	if _, err := client.WriteToUDPAddrPort([]byte("?"), to); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 10)
	if _, err := server.Read(buf); err != nil {
		t.Fatal(err)
	}
	h.apply(t, ruleset.ReplaceTable{Table: closed()})
	var sent, heard atomic.Int64
	var ending atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !ending.Load() {
			if _, err := client.WriteToUDPAddrPort([]byte("!"), to); err == nil {
				sent.Add(1)
			}
		}
	})
	wg.Go(func() {
		for {
			if _, err := server.Read(buf); err != nil {
				return
			}
			heard.Add(1)
		}
	})
	replaced := 0
	for until := time.Now().Add(2 * time.Second); time.Now().Before(until); replaced++ {
		h.apply(t, ruleset.ReplaceTable{Table: closed()})
	}
	ending.Store(true)
	_ = server.SetReadDeadline(time.Now())
	wg.Wait()
	t.Logf("%d packets while the table was replaced %d times", sent.Load(), replaced)
	if heard.Load() > 0 {
		t.Errorf("%d of %d packets found the table open while it was replaced %d times", heard.Load(), sent.Load(), replaced)
	}
}

// TestReplaceIsWhole: whatever stood under its name, afterwards there is the table that
// was asked for; and where it has the chains and sets that are wanted, it stays.
func TestReplaceIsWhole(t *testing.T) {
	t.Parallel()
	full := func() ruleset.Table {
		p := policy()
		p.Owner = true
		return firewall.Table(p)
	}
	changed := func(change func(*ruleset.Table)) ruleset.Table {
		table := full()
		change(&table)
		return table
	}
	for name, c := range map[string]struct {
		before ruleset.Table
		stays  bool
	}{
		"the same":         {full(), true},
		"without elements": {changed(func(t *ruleset.Table) { t.Sets[0].Elements = nil }), true},
		"another rule":     {changed(func(t *ruleset.Table) { t.Chains[0].Rules = t.Chains[0].Rules[1:] }), true},
		"a chain more": {changed(func(t *ruleset.Table) {
			t.Chains = append(t.Chains, ruleset.Chain{Name: "more", Rules: []ruleset.Rule{ruleset.NewRule("", ruleset.Drop)}})
		}), false},
		"a set more":       {changed(func(t *ruleset.Table) { t.Sets = append(t.Sets, ruleset.Set{Name: "more", Key: t.Sets[0].Key}) }), false},
		"another set":      {changed(func(t *ruleset.Table) { t.Sets[0].Comment += "!" }), false},
		"another priority": {changed(func(t *ruleset.Table) { t.Chains[0].Priority++ }), false},
		"another comment":  {changed(func(t *ruleset.Table) { t.Comment += "!" }), false},
		"no owner":         {changed(func(t *ruleset.Table) { t.Owner, t.Persist = false, false }), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fresh, h := newHost(t), newHost(t)
			fresh.apply(t, ruleset.ReplaceTable{Table: full()})
			want := fresh.list(t, full())
			h.apply(t, ruleset.ReplaceTable{Table: c.before})
			handle := func() string {
				at := regexp.MustCompile(`table inet fairlead \{.*# handle \d+`)
				return at.FindString(h.run(t, "nft", "-a", "list", "table", "inet", "fairlead"))
			}
			before := handle()
			h.apply(t, ruleset.ReplaceTable{Table: full()})
			if got := h.list(t, full()); got != want {
				t.Errorf("the table is\n%s\nwant\n%s", got, want)
			}
			if stays := handle() == before; stays != c.stays || before == "" {
				t.Errorf("it stays: %v, want %v (%q)", stays, c.stays, before)
			}
			// Its owner gone, the next one takes it over as it is.
			if err := h.conn.Close(); err != nil {
				t.Fatal(err)
			}
			h.open(t)
			before = handle()
			h.apply(t, ruleset.ReplaceTable{Table: full()})
			if got := h.list(t, full()); got != want || handle() != before {
				t.Errorf("taken over, the table is (it stays: %v)\n%s\nwant\n%s", handle() == before, got, want)
			}
			if out, err := h.try(t.Context(), "nft", "delete", "table", "inet", "fairlead"); err == nil {
				t.Errorf("another program deleted the table that was taken over: %s", out)
			}
		})
	}
}

// TestReplaceKeepsCountingTable: the bridge table, whose sets count, stays in its own
// place as well.
func TestReplaceKeepsCountingTable(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	p := policy()
	p.Owner = true
	table := firewall.BridgeTable(p)
	handles := func() string {
		at := regexp.MustCompile(`(table bridge|chain|set) \S+ \{.*# handle \d+`)
		return strings.Join(at.FindAllString(h.run(t, "nft", "-a", "list", "table", "bridge", "fairlead"), -1), "\n")
	}
	h.apply(t, ruleset.ReplaceTable{Table: table})
	before := handles()
	h.apply(t, ruleset.ReplaceTable{Table: table})
	if after := handles(); after != before || before == "" {
		t.Errorf("replaced by itself, the table is not the one that was there:\n%s\nbefore\n%s", after, before)
	}
}
