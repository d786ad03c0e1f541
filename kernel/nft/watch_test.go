package nft_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/ruleset"
)

func TestWatch(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	port, err := h.conn.Port()
	if err != nil || port == 0 {
		t.Fatalf("port %d, %v", port, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var w *nft.Watcher
	h.do(t, func() { w, err = nft.Watch(ctx, port, "ours") })
	if err != nil {
		t.Fatal(err)
	}
	seen := func() bool {
		select {
		case <-w.Changed():
			return true
		case <-time.After(300 * time.Millisecond):
			return false
		}
	}
	h.apply(t, replaceOurs())
	if seen() {
		t.Error("our own change was told")
	}
	h.nftScript(t, "add table ip site; add chain ip site fw { type filter hook forward priority 0; policy drop; }; add set ip site s { type ifname; }")
	if !seen() {
		t.Error("a new chain was not told")
	}
	h.nftScript(t, "add element ip site s { eth0 }")
	if seen() {
		t.Error("an element was told")
	}
	h.run(t, "iptables", "-A", "FORWARD", "-j", "DROP")
	if !seen() {
		t.Error("a rule of iptables-nft was not told")
	}
	h.nftScript(t, "flush chain ip site fw; delete table ip site")
	if !seen() {
		t.Error("a table's end was not told")
	}
	if w.Touched() {
		t.Error("others' tables were taken for ours")
	}
	for _, script := range []string{
		"add table ip ours", "add set ip ours s { type ifname; }", "add element ip ours s { eth0 }", "delete element ip ours s { eth0 }",
		"add chain ip ours c", "add rule ip ours c drop", "flush chain ip ours c", "delete table ip ours",
	} {
		h.nftScript(t, script)
		if !seen() || !w.Touched() || w.Touched() {
			t.Errorf("%q by another was not told, or not told of once", script)
		}
	}
}

func replaceOurs() ruleset.Change { return ruleset.ReplaceTable{Table: ownedTable()} }

// Of a change of many elements nobody is told, and of what another does just then still.
func TestLookAway(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.apply(t, replaceOurs())
	number, err := h.conn.Port()
	if err != nil {
		t.Fatal(err)
	}
	var w *nft.Watcher
	other := &host{ns: h.ns}
	other.open(t)
	h.nftScript(t, "add table inet other")
	h.do(t, func() { w, err = nft.Watch(t.Context(), number, "fairlead") })
	if err != nil {
		t.Fatal(err)
	}
	h.conn.LookAway(w)
	told := func(within time.Duration) bool {
		select {
		case <-w.Changed():
			return true
		case <-time.After(within):
			return false
		}
	}
	many := make([]ruleset.Element, 200)
	for i := range many {
		many[i] = port(uint16(20000 + i))
	}
	h.apply(t, add(many...))
	h.apply(t, del(false, many...))
	if told(300*time.Millisecond) || w.Touched() {
		t.Error("our own change was told")
	}
	for i := range 50 {
		done := make(chan error)
		go func() {
			done <- other.conn.Apply(t.Context(), []ruleset.Change{ruleset.AddChain{Family: ruleset.Inet, Table: "other", Chain: ruleset.Chain{Name: fmt.Sprint("c", i)}}})
		}()
		h.apply(t, add(many...))
		h.apply(t, del(false, many...))
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if !told(10 * time.Second) {
			t.Fatalf("change %d by another beside ours was not told", i)
		}
		for told(5 * time.Millisecond) { // once more, at most: it may be seen both ways
		}
	}
	if w.Touched() {
		t.Error("another's table was taken for ours")
	}
}
