package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// healing is what `heal status -f json` prints.
type healing struct {
	Paused  bool
	Counts  map[string]int
	Last    []struct{ Kind, What string }
	Pending []string
}

func (s *site) healing() (h healing) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(s.Must("heal", "status", "-f", "json")), &h); err != nil {
		s.t.Fatal(err)
	}
	return h
}

// vethOf is the host's end of the container's eth0.
func (s *site) vethOf(b box) string {
	s.t.Helper()
	index := strings.TrimSpace(s.Must("exec", b.id, "cat", "/sys/class/net/eth0/iflink"))
	name, _, _ := strings.Cut(strings.Fields(s.host.Run("sh", "-c", "ip -o link | grep '^"+index+": '"))[1], "@")
	return name
}

// TestHealing: what another hand changes while the daemon runs is put back, by itself:
// the container is reached again from outside, by IPv4 and IPv6, a connection that it
// had lives on where the change allows it, status counts it and the log says it in one
// line. While healing is paused nothing is.
func TestHealing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Must("network", "create", "--ipv6", "--subnet", "10.30.0.0/24", "--subnet", "fd00:30::/64", "dual")
	web := s.idle("--name", "web", "--network", "dual", "-p", "8080:80")
	web.serve("tcp", "0.0.0.0:80")
	web.serve("tcp", "[::]:80")
	bridge := "br-" + s.inspect("web").NetworkSettings.Networks["dual"].NetworkID[:12]
	pin := filepath.Join(s.ExecRoot, "netns", web.id)
	reached := func(after string) {
		t.Helper()
		for _, p := range []lab.Probe{
			from(s.outside, "tcp", at(host4, "8080")), from(s.outside, "tcp", at(host6, "8080")),
			from(s.host, "tcp", at("127.0.0.1", "8080")), from(s.host, "tcp", at("::1", "8080")),
		} {
			lab.Reachable(t, p.From, p.Proto, p.Addr)
		}
		if t.Failed() {
			t.Fatalf("so it is after: %s\n%s", after, s.LogTail(20))
		}
	}
	reached("the start")
	for _, c := range []struct{ do, kind string }{
		{"ip link del " + s.vethOf(web), "veth"},
		{"ip link set VETH nomaster", "veth"},
		{"ip link del " + bridge, "bridge"},
		{"ip addr flush dev " + bridge, "bridge"},
		{"ip route flush dev " + bridge + " && ip -6 route flush dev " + bridge, "route"},
		{"sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0", "sysctl"},
		{"umount " + pin, "namespace"},
	} {
		do := strings.ReplaceAll(c.do, "VETH", s.vethOf(web))
		before := s.healing().Counts[c.kind]
		s.host.Run("sh", "-ec", do)
		var h healing
		eventually(t, "put back: "+do, func() bool {
			h = s.healing()
			return h.Counts[c.kind] > before && len(h.Pending) == 0
		})
		reached(do)
	}
	// A held port's socket: nothing is left of it by itself.
	s.host.Run("ss", "-K", "-H", "-t", "-l", "src", "0.0.0.0:8080")
	s.host.Run("ss", "-K", "-H", "-t", "-l", "src", "[::]:8080")
	eventually(t, "the port is held again", func() bool {
		return s.host.Try("sh", "-c", "test $(ss -H -t -l -n 'sport = 8080' | wc -l) = 2").Code == 0
	})
	reached("ss -K")
	contains(t, "the log", s.LogTail(100), "put back what another program had changed", "kind=bridge", "is missing", "kind=route")
	s.consistent()

	s.Must("heal", "pause")
	s.host.Run("ip", "link", "set", s.vethOf(web), "nomaster")
	time.Sleep(1500 * time.Millisecond) // more than a mend takes
	h := s.healing()
	if !h.Paused || len(h.Pending) != 1 || !strings.Contains(h.Pending[0], "is no port of bridge") {
		t.Errorf("paused, status is %+v", h)
	}
	lab.Unreachable(t, s.outside, "tcp", at(host4, "8080"), from(s.outside, "icmp", host4))
	s.Must("heal", "resume")
	eventually(t, "put back after resume", func() bool { return len(s.healing().Pending) == 0 })
	reached("resume")
	if out, _, _ := s.CLI("heal", "status"); !strings.Contains(out, "Healing: on") || !strings.Contains(out, "Differs now: nothing") {
		t.Errorf("status prints\n%s", out)
	}
}

// TestHealFirewalld: a zone or a policy of ours that somebody takes out of firewalld, or
// a bridge out of the zone, is put back.
func TestHealFirewalld(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	s.host.Expect("table inet firewalld", "table ip", "table bridge nat", "table bridge filter")
	f := s.newFirewall("nftables")
	f.start()
	s.Daemon = s.lab.NewDaemon(s.host, lab.DaemonOptions{Firewall: nftables, Env: []string{f.env()}})
	s.Start()
	s.importImage("demo")
	web := s.idle("-p", "8080:80")
	web.serve("tcp", "0.0.0.0:80")
	for _, c := range []struct {
		name string
		do   func()
	}{
		{"the interface is taken out", func() {
			var zone string
			f.call(firewalldZones+"removeInterface", []any{"fairlead", "fairlead0"}, &zone)
		}},
		{"reload", func() { f.reload(false) }},
		{"complete reload", func() { f.reload(true) }},
	} {
		c.do()
		eventually(t, c.name+" is answered", func() bool { return slices.Contains(f.bridges(), "fairlead0") })
		lab.Reachable(t, s.outside, "tcp", at(host4, "8080"))
	}
	s.host.Run("ip", "link", "del", "fairlead0")
	eventually(t, "a bridge that was made again is in the zone", func() bool {
		return slices.Contains(f.bridges(), "fairlead0") && len(s.healing().Pending) == 0
	})
	lab.Reachable(t, s.outside, "tcp", at(host4, "8080"))
	if h := s.healing(); h.Counts["foreign"] == 0 {
		t.Errorf("nothing is counted as put back in others': %+v", h)
	}
	s.Teardown()
	f.stop()
	if _, err := os.Stat(filepath.Join(f.dir, "zones/fairlead.xml")); err == nil {
		t.Error("after teardown the zone is left")
	}
}
