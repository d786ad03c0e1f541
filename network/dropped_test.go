package network

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/network/firewall"
)

// TestDropped: what a container was kept from sending is told by its reason and its port,
// of either back end, and the log tells
// it once; with the firewall off there is nothing to tell.
func TestDropped(t *testing.T) {
	for _, kind := range []FirewallKind{FirewallNFTables, FirewallIPTables, FirewallNone} {
		t.Run(string(kind), func(t *testing.T) {
			var log bytes.Buffer
			h := newHost(t, func(c *Config) { c.Firewall = kind })
			h.stopHealing() // which looks as well
			h.log, h.drops = slog.New(slog.NewTextHandler(&log, nil)), dropWatch{}
			h.sayDropped()
			a, b := h.attach(t, 1, "bridge"), h.attach(t, 2, "bridge")
			forge := "ip addr add 172.17.9.9/16 dev eth0; ping -c 2 -W 1 -I 172.17.9.9 " + b.Endpoints[0].Addr4.Addr().String() + " || true"
			command(t, "nsenter", "--net="+a.Sandbox.Path, "sh", "-c", forge)
			d, err := h.Dropped()
			if err != nil {
				t.Fatal(err)
			}
			if kind == FirewallNone {
				if len(d.Reasons) > 0 || len(d.Ports) > 0 {
					t.Errorf("it is %+v", d)
				}
				return
			}
			reasons := firewall.Reasons()
			for why, n := range d.Reasons {
				forged := why == "another's IPv4 address" || why == "ARP for another's address"
				if !slices.Contains(reasons, why) || n.Packets > 0 && !forged {
					t.Errorf("%q counts %+v", why, n)
				}
			}
			sum := d.Reasons["another's IPv4 address"].Packets + d.Reasons["ARP for another's address"].Packets
			if sum == 0 || len(d.Reasons) != len(reasons) {
				t.Errorf("nothing was counted: %+v", d)
			}
			if d.Ports[a.Endpoints[0].HostIf].Packets != sum || d.Ports[b.Endpoints[0].HostIf].Packets != 0 || len(d.Ports) != 2 {
				t.Errorf("by ports: %+v, want %d of %s", d.Ports, sum, a.Endpoints[0].HostIf)
			}
			h.sayDropped()
			command(t, "nsenter", "--net="+a.Sandbox.Path, "sh", "-c", forge)
			h.sayDropped()
			told := "that is dropped\" container=" + a.Sandbox.Name
			if text := log.String(); strings.Count(text, "that is dropped") != 1 || !strings.Contains(text, told) || !strings.Contains(text, "address") {
				t.Errorf("the log says\n%s", text)
			}
		})
	}
}
