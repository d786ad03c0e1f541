package e2e

import (
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/doctor"
	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/topology"
)

// diagnosis is what `doctor -f json` says, and the exit status.
func (s *site) diagnosis(t *testing.T) (doctor.Report, int) {
	t.Helper()
	stdout, stderr, code := s.CLI("doctor", "-f", "json")
	if stdout == "" {
		t.Fatalf("doctor: exit status %d\n%s", code, stderr)
	}
	return decode[doctor.Report](t, stdout), code
}

func found(r doctor.Report, level doctor.Level, check, what string) bool {
	return slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool {
		return f.Level == level && f.Check == check && strings.Contains(f.What, what)
	})
}

// TestDoctor plants what ails hosts, one at a time, and has it named; mended, it is
// named no more. Where a finding has a cure that can be run here, it is what mends it.
func TestDoctor(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	s.host.Router()
	s.host.DefaultRoute("uplink", outside4)
	s.host.Expect("ip filter", "ip6 filter", "ip6tables filter") // tables of others', without rules
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{})
	s.importImage("demo")
	s.Must("network", "create", "--ipv6", "--subnet", "10.30.0.0/24", "--subnet", "fd00:30::/64", "dual")
	s.idle("--name", "web", "--network", "dual", "-p", "8080:80")
	if r, code := s.diagnosis(t); code != 0 || !r.Daemon {
		t.Fatalf("a host that is well: exit status %d, %+v", code, r)
	}
	for _, c := range []struct {
		plant, mend  string
		level        doctor.Level
		check, what  string
		cured        bool // by the finding's own cure instead of mend
		whilePausing bool
	}{
		{plant: "iptables-nft -P FORWARD DROP", mend: "iptables-nft -P FORWARD ACCEPT", level: doctor.Note, check: "forward", what: "chain ip filter FORWARD drops what is forwarded (policy drop); 2 rules of ours"},
		{plant: "ip6tables-legacy -P FORWARD DROP", mend: "ip6tables-legacy -P FORWARD ACCEPT", level: doctor.Note, check: "forward", what: "chain ip6tables-legacy filter FORWARD drops what is forwarded (policy drop); 2 rules of ours"},
		{plant: "ip6tables-legacy -A INPUT -s 2001:db8::66 -j DROP", mend: "ip6tables-legacy -F", level: doctor.Warning, check: "firewall", what: "rules of iptables-legacy and of nf_tables"},
		{plant: "ip link add docker0 type bridge", level: doctor.Warning, check: "leftovers", what: "interface docker0 is left of Docker", cured: true},
		{plant: "nft add table ip netavark && nft add chain ip netavark NETAVARK-FORWARD", level: doctor.Warning, check: "leftovers", what: "ip netavark NETAVARK-FORWARD", cured: true},
		{plant: "iptables-nft -N DOCKER && iptables-nft -N CNI-FORWARD && iptables-nft -A FORWARD -j DOCKER", level: doctor.Warning, check: "leftovers", what: "left of Docker, which does not run, and may drop or translate packets: ip filter DOCKER", cured: true},
		{plant: "iptables-nft -N CNI-ADMIN", level: doctor.Warning, check: "leftovers", what: "ip filter CNI-ADMIN", cured: true},
		{plant: "iptables-nft -N ufw-before-forward", mend: "iptables-nft -X ufw-before-forward", level: doctor.Note, check: "firewall", what: "ufw is on"},
		{plant: "ip link add wg9 type veth peer name wg8 && ip link set wg8 up && ip addr add 203.0.113.9/32 dev wg9 && ip link set wg9 up && ip route add 10.30.0.0/25 dev wg9", level: doctor.Problem, check: "overlap", what: "network dual has 10.30.0.0/24, and a route of the host leads 10.30.0.0/25 by wg9", cured: true},
		{plant: "ip route add 10.0.0.0/8 dev wg9", mend: "ip route del 10.0.0.0/8 dev wg9", level: doctor.Warning, check: "overlap", what: "network dual has 10.30.0.0/24, a part of 10.0.0.0/8"},
		{plant: "ip -6 route add fd00:30::/80 dev wg9", level: doctor.Problem, check: "overlap", what: "a route of the host leads fd00:30::/80 by wg9", cured: true},
		{plant: "sysctl -qw net.ipv4.conf.all.rp_filter=1", level: doctor.Warning, check: "sysctl", what: "net.ipv4.conf.all.rp_filter is 1 (strict)", cured: true},
		{plant: "ip link del wg9; sysctl -qw net.ipv4.conf.all.route_localnet=1", level: doctor.Note, check: "sysctl", what: "route_localnet is 1", cured: true},
		{plant: "ip link set uplink mtu 1400", mend: "ip link set uplink mtu 1500", level: doctor.Warning, check: "mtu", what: "network dual has packets of 1500 bytes, and uplink uplink takes 1400"},
		{plant: "ip route del default", mend: "ip route add default via " + outside4, level: doctor.Note, check: "mtu", what: "the host has no default route"},
		{plant: "sysctl -qw net.ipv4.ip_forward=0", level: doctor.Problem, check: "forwarding", what: "the host does not forward IPv4", whilePausing: true, cured: true},
		{plant: "sysctl -qw net.ipv6.conf.all.forwarding=0", level: doctor.Problem, check: "forwarding", what: "the host does not forward IPv6", whilePausing: true, cured: true},
		{plant: "ip link set " + s.vethOf(s.box("web")) + " down", level: doctor.Problem, check: "wanted", what: "", whilePausing: true, cured: true},
		{plant: "true", level: doctor.Warning, check: "healing", what: "healing is paused since", whilePausing: true, cured: true},
		{plant: "nft add table inet mine && nft add chain inet mine forward '{ type filter hook forward priority 10 ; policy drop ; }'", mend: "nft delete table inet mine", level: doctor.Problem, check: "forward", what: "chain inet mine forward drops what is forwarded (policy drop), and nothing lets containers through: healing is paused", whilePausing: true},
	} {
		if c.whilePausing {
			s.Must("heal", "pause")
		}
		eventually(t, "not named before it is planted: "+c.plant, func() bool { // what was mended before may take the daemon a while
			r, _ := s.diagnosis(t)
			return c.check == "healing" || !found(r, c.level, c.check, c.what)
		})
		s.host.Run("sh", "-ec", c.plant)
		var r doctor.Report
		eventually(t, "named: "+c.plant, func() bool {
			r, _ = s.diagnosis(t)
			return found(r, c.level, c.check, c.what)
		})
		if t.Failed() {
			t.Fatalf("%+v", r)
		}
		mend := c.mend
		if c.cured {
			mend = s.cure(t, r, c.level, c.check, c.what)
		}
		if rest, ours := strings.CutPrefix(mend, "fairlead "); ours {
			s.Must(strings.Fields(rest)...)
		} else {
			s.host.Run("sh", "-ec", mend)
		}
		if c.whilePausing {
			s.Must("heal", "resume")
		}
		eventually(t, "named no more: "+c.plant, func() bool {
			r, _ = s.diagnosis(t)
			return !found(r, c.level, c.check, c.what)
		})
		if t.Failed() {
			t.Fatalf("%+v", r)
		}
	}
	s.host.Sysctl("net.ipv4.conf.all.rp_filter", "0") // as it was; the cure is 2
	s.consistent()
}

// cure is what the finding says mends it.
func (s *site) cure(t *testing.T, r doctor.Report, level doctor.Level, check, what string) string {
	t.Helper()
	for _, f := range r.Findings {
		if f.Level == level && f.Check == check && strings.Contains(f.What, what) {
			if len(f.Cure) == 0 {
				t.Fatalf("no cure: %+v", f)
			}
			return strings.Join(f.Cure, "\n")
		}
	}
	return "false"
}

// TestDoctorAlone: without a daemon the host is looked at all the same, and the exit
// status is that of what was found.
func TestDoctorAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.idle("--name", "web")
	s.Stop()
	r, code := s.diagnosis(t)
	if code != 0 || r.Daemon || !found(r, doctor.Note, "daemon", "no daemon was asked") || !found(r, doctor.OK, "forwarding", "on") {
		t.Errorf("exit status %d, %+v", code, r)
	}
	s.host.Run("sysctl", "-qw", "net.ipv4.ip_forward=0")
	if r, code := s.diagnosis(t); code != 1 || !found(r, doctor.Problem, "forwarding", "IPv4") {
		t.Errorf("with forwarding off: exit status %d, %+v", code, r)
	}
	s.Start()
	stdout, _, code := s.CLI("doctor", "-q")
	if code != 0 || strings.Contains(stdout, "\nok ") || strings.Contains(stdout, "\x1b") {
		t.Errorf("exit status %d:\n%s", code, stdout)
	}
}

// TestTopology: what is drawn is what there is, in each form; a link that is down is
// said to be.
func TestTopology(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Must("network", "create", "--ipv6", "--subnet", "10.30.0.0/24", "--subnet", "fd00:30::/64", "dual")
	web := s.idle("--name", "web", "--network", "dual", "-p", "8080:80", "-p", "127.0.0.1:8443:443")
	s.Must("network", "create", "--subnet", "10.31.0.0/24", "more")
	s.Must("network", "connect", "more", "web")
	s.idle("--name", "beside", "--network", "container:web")
	s.idle("--name", "naked", "--network", "host")
	s.idle("--name", "alone", "--network", "none")
	h := decode[topology.Host](t, s.Must("topology", "-f", "json"))
	if len(h.Uplinks) != 1 || h.Uplinks[0].Name != "uplink" || !slices.Contains(h.Uplinks[0].Addresses, host4+"/24") || !slices.Contains(h.Uplinks[0].Addresses, host6+"/64") || !h.Uplinks[0].Up {
		t.Errorf("uplinks %+v", h.Uplinks)
	}
	if !slices.Equal(h.OnHost, []string{"naked"}) || !slices.Equal(h.Apart, []string{"alone"}) || len(h.Networks) != 3 {
		t.Errorf("got %+v", h)
	}
	dual := decode[topology.Host](t, s.Must("topology", "-f", "json", "dual"))
	if len(dual.Networks) != 1 || len(dual.Networks[0].Endpoints) != 1 {
		t.Fatalf("got %+v", dual)
	}
	e := dual.Networks[0].Endpoints[0]
	for end, h := range map[string]string{e.HostInterface: s.host.Run("ip", "-o", "link"), e.Interface: web.Run("ip", "-o", "addr")} {
		if !strings.Contains(h, " "+end) {
			t.Errorf("the kernel has no %s in:\n%s", end, h)
		}
	}
	if e.Container != "web" || !e.Up || !slices.Equal(e.SharedBy, []string{"beside"}) || !slices.Equal(e.Addresses, []string{"10.30.0.2/24", "fd00:30::2/64"}) ||
		!slices.Contains(e.Ports, "0.0.0.0:8080->80/tcp") || !slices.Contains(e.Ports, "[::]:8080->80/tcp") || !slices.Contains(e.Ports, "127.0.0.1:8443->443/tcp") {
		t.Errorf("got %+v", e)
	}
	s.Must("heal", "pause")
	s.host.Run("ip", "link", "set", e.HostInterface, "down")
	contains(t, "the tree", s.Must("topology"), e.HostInterface+" ── eth0  web (shared by beside)  10.30.0.2/24 fd00:30::2/64, default route, DOWN", "published 0.0.0.0:8080->80/tcp")
	s.Must("heal", "resume")
	for d := xml.NewDecoder(strings.NewReader(s.Must("topology", "--format", "svg"))); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	contains(t, "dot", s.Must("topology", "--format", "dot"), "graph fairlead {", e.HostInterface+" – eth0")
	contains(t, "mermaid", s.Must("topology", "--format", "mermaid"), "flowchart LR", e.HostInterface+" – eth0")
	if _, stderr, code := s.CLI("topology", "nowhere"); code != 1 || !strings.Contains(stderr, "network nowhere not found") {
		t.Errorf("exit status %d: %s", code, stderr)
	}
}
