package nft_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/ruleset"
)

// TestTrace: the rule that drops a flow's packet is told by table, chain and handle, of
// both families; a policy by its chain; other flows are not told of, and the table that
// it takes is gone with the tracer.
func TestTrace(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.run(t, "ip", "link", "set", "lo", "up")
	h.nftScript(t, `table inet foreign {
		chain in {
			type filter hook input priority 10; policy drop;
			udp dport 7 counter drop comment "not 7"
		}
	}`)
	handle := ""
	for line := range strings.Lines(h.run(t, "nft", "-a", "list", "table", "inet", "foreign")) {
		if strings.Contains(line, "not 7") {
			handle = strings.TrimSpace(line[strings.LastIndex(line, "handle ")+len("handle "):])
		}
	}
	for _, c := range []struct {
		ipv6   bool
		to     string
		policy bool
		// late asks when it is over.
		late bool
	}{{false, "127.0.0.1:7", false, false}, {true, "[::1]:7", false, true}, {false, "127.0.0.1:8", true, false}} {
		var tracer *nft.Tracer
		h.do(t, func() {
			var err error
			tracer, err = nft.Trace(t.Context(), nft.TracedFlow{Protocol: unix.IPPROTO_UDP, IPv6: c.ipv6, ID: 40007})
			if err != nil {
				t.Error(err)
			}
		})
		if t.Failed() {
			return
		}
		for _, from := range []int{40006, 40007} {
			h.do(t, func() { sendFrom(t, from, c.to) })
		}
		var drop nft.Verdict
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if c.late {
			cancel()
		}
		err := tracer.Next(ctx, func(v nft.Verdict) {
			if len(v.Transport) >= 2 && (v.Transport[0] != 40007>>8 || v.Transport[1] != 40007&0xff) {
				t.Errorf("another flow: %+v", v)
			}
			if v.Verdict == "drop" {
				drop = v
				cancel()
			}
		})
		if drop.Table != "foreign" || drop.Chain != "in" || drop.Policy != c.policy || drop.Family != ruleset.Inet ||
			!c.policy && fmt.Sprint(drop.Handle) != handle {
			t.Errorf("%s: dropped by %+v, want handle %s of inet foreign in; %v", c.to, drop, handle, err)
		}
		if tables := h.run(t, "nft", "list", "tables"); !strings.Contains(tables, nft.TraceTag) {
			t.Errorf("while it is traced there is no table: %s", tables)
		}
		if err := tracer.Close(); err != nil {
			t.Error(err)
		}
		if tables := h.run(t, "nft", "list", "tables"); strings.Contains(tables, nft.TraceTag) {
			t.Errorf("left behind: %s", tables)
		}
	}
}

func sendFrom(t *testing.T, port int, to string) {
	d := net.Dialer{LocalAddr: &net.UDPAddr{Port: port}}
	c, err := d.Dial("udp", to)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	if _, err := c.Write([]byte("anybody")); err != nil {
		t.Error(err)
	}
}
