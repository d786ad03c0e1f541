package nft_test

import (
	"context"
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
