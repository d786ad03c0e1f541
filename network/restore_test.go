package network

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/netns"
)

func TestRestoreMendsWhatIsBroken(t *testing.T) {
	h := newHost(t)
	a, b := h.attach(t, 1, "bridge", tcp(8080, 80)), h.attach(t, 2, "bridge")
	hostIf := a.Endpoints[0].HostIf
	for _, broken := range []struct {
		name string
		do   func()
	}{
		{"nothing", func() {}},
		{"the veth deleted", func() { command(t, "ip", "link", "del", hostIf) }},
		{"the veth off its bridge", func() { command(t, "ip", "link", "set", hostIf, "nomaster") }},
		{"the veth down", func() { command(t, "ip", "link", "set", hostIf, "down") }},
		{"the bridge deleted", func() { command(t, "ip", "link", "del", "fairlead0") }},
		{"the bridge down", func() { command(t, "ip", "link", "set", "fairlead0", "down") }},
		{"the bridge's address gone", func() { command(t, "ip", "addr", "flush", "dev", "fairlead0") }},
		{"forwarding off", func() { command(t, "sysctl", "-qw", "net.ipv4.ip_forward=0") }},
		{"the ports let go", func() { _ = h.relay.Release(context.Background(), a.Sandbox.ID) }},
		{"a link too many", func() {
			command(t, "ip", "link", "add", "stray0", "type", "bridge")
			command(t, "ip", "link", "set", "stray0", "alias", h.plan.Alias("network", "x"))
		}},
	} {
		h.PauseHealing() // else it is mended before the start
		broken.do()
		h.restart(t)
		if !ping(a, b.Endpoints[0].Addr4.Addr().String()) || !ping(a, "172.17.0.1") {
			t.Errorf("%s: not mended", broken.name)
		}
		h.clean(t)
		if t.Failed() {
			t.Fatalf("after: %s", broken.name)
		}
	}
}

func TestCheckSeesWhatIsBroken(t *testing.T) {
	h := newHost(t)
	h.PauseHealing()
	a := h.attach(t, 1, "bridge", tcp(8080, 80))
	for _, c := range []struct{ do, says string }{
		{"ip link set " + a.Endpoints[0].HostIf + " down", "is down"},
		{"ip link set " + a.Endpoints[0].HostIf + " nomaster", "is no port of bridge"},
		{"ip addr flush dev fairlead0", "lacks address 172.17.0.1/16"},
		{"sysctl -qw net.ipv4.ip_forward=0", "sysctl net.ipv4.ip_forward"},
		{"nsenter --net=" + a.Sandbox.Path + " ip addr flush dev eth0", "interface eth0 lacks address 172.17.0.2/16; fairlead restart c1 puts it back"},
		{"umount " + a.Sandbox.Path, "is not pinned"},
		{"ip link del fairlead0", "bridge fairlead0 is missing"},
	} {
		args := strings.Fields(c.do)
		command(t, args[0], args[1:]...)
		lines, err := h.Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(lines, "\n"), c.says) {
			t.Errorf("after %q check says nothing of %q:\n%s", c.do, c.says, strings.Join(lines, "\n"))
		}
	}
}

// TestBridgeNameInUse: a daemon that cannot have its bridge leaves the host as it
// was.
func TestBridgeNameInUse(t *testing.T) {
	for _, c := range []struct{ name, add, says string }{
		{"by a veth", "ip link add fairlead0 type veth peer name other0", "is no bridge"},
		{"by somebody's bridge", "ip link add fairlead0 type bridge", "made by another program"},
	} {
		t.Run(c.name, func(t *testing.T) {
			command(t, "sh", "-c", c.add)
			t.Cleanup(func() { command(t, "ip", "link", "del", "fairlead0") })
			h := emptyHost(t)
			err := h.tryStart(t)
			if !errors.Is(err, errdefs.ErrConflict) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("start: %v; want one saying %q", err, c.says)
			}
			if out := command(t, "nft", "list", "tables"); strings.Contains(out, "fairlead") {
				t.Errorf("tables were left:\n%s", out)
			}
			if out := command(t, "sysctl", "-n", "net.ipv4.ip_forward"); out != "0\n" {
				t.Errorf("ip_forward is %s", out)
			}
			if err := errors.Join(h.Close(), h.store.Close(), h.relay.firewall.Close()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestForwardPolicyDrop: the host drops what it forwards, as Docker and ufw leave
// it; containers get out all the same, and the host's policy stays.
func TestForwardPolicyDrop(t *testing.T) {
	for _, c := range []struct{ name, setup, list, after string }{
		{"native nft", "nft add table inet mine; nft add chain inet mine passing { type filter hook forward priority 0; policy drop; }", "nft list chain inet mine passing", "nft delete table inet mine"},
		{"iptables-nft", "iptables-nft -P FORWARD DROP", "iptables-nft -S FORWARD", "nft delete table ip filter"},
		{"iptables-legacy", "iptables-legacy -P FORWARD DROP", "iptables-legacy -S FORWARD", "iptables-legacy -P FORWARD ACCEPT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			command(t, "sh", "-c", strings.ReplaceAll(strings.ReplaceAll(c.setup, "{", "'{"), "}", "}'"))
			before := command(t, "sh", "-c", c.list)
			t.Cleanup(func() {
				if got := command(t, "sh", "-c", c.list); got != before {
					t.Errorf("the host's chain was\n%sand is\n%s", before, got)
				}
				command(t, "sh", "-c", c.after)
			})
			far := filepath.Join(t.TempDir(), "far")
			if err := netns.New(far); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := netns.RemoveDir(filepath.Dir(far)); err != nil {
					t.Error(err)
				}
			})
			command(t, "sh", "-c", "ip link add uplink0 type veth peer name eth0 netns "+far+
				" && ip addr add 10.77.0.1/24 dev uplink0 && ip link set uplink0 up && nsenter --net="+far+
				" sh -c 'ip addr add 10.77.0.2/24 dev eth0 && ip link set eth0 up && ip link set lo up'")
			// The kernel takes its time to remove a link with its namespace.
			t.Cleanup(func() { command(t, "ip", "link", "del", "uplink0") })
			h := newHost(t)
			a := h.attach(t, 1, "bridge", tcp(8080, 80))
			if !ping(a, "10.77.0.2") {
				t.Errorf("no way out; the chain is\n%s", command(t, "sh", "-c", c.list))
			}
			h.clean(t)
		})
	}
}
