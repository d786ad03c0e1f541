package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/fairlead/fairlead/internal/lab"
)

// The subnets of a network that nobody guards, and of one that keeps its containers
// apart.
const (
	subnetO4, subnetO6 = "10.104.0.0/24", "fd00:d::/64"
	subnetN4, subnetN6 = "10.105.0.0/24", "fd00:e::/64"
)

// heedful has a container heed router advertisements.
const heedful = "com.docker.network.endpoint.sysctls=net.ipv6.conf.IFNAME.accept_ra=1"

// TestAttackForgery has containers with CAP_NET_RAW say what is not theirs to say: to
// neighbours, to the host, and by the host to others. The same frames pass, and are
// believed, on a network that is not guarded, and pass from an endpoint that is not.
//
// Rows 1 (router advertisements, redirects, DHCP), 3 (ARP, neighbour discovery, hardware
// and IP addresses), 18 (others' addresses and bogons), 19 (redirects, source routes).
func TestAttackForgery(t *testing.T) {
	type stages struct{ on, free, loose stage }
	attackedWith(t, nil, func(t *testing.T, r *attackRange) stages {
		r.Must("network", "create", "--ipv6", "--subnet", subnetO4, "--subnet", subnetO6, "--opt", unguarded, "O")
		o1 := r.idle("--name", "o1", "--network", "O")
		o2 := r.idle("--name", "o2", "--network", `"name=O","driver-opt=`+heedful+`"`)
		a3 := r.idle("--name", "a3", "--network", "name=A,driver-opt="+unguarded)
		return stages{newStage(t, r, "A", r.a1, r.a2), newStage(t, r, "O", o1, o2), newStage(t, r, "A", a3, r.a2)}
	}, func(t *testing.T, _ *attackRange, all stages) {
		on, free, loose := all.on, all.free, all.loose
		on.talk(t)
		free.forget()
		free.talk(t)
		before := on.beliefs()
		together(t, map[string]func(*testing.T){
			"neighbours": func(t *testing.T) { on.guarded(t, on.neighbours()) },
			"senders":    func(t *testing.T) { on.guarded(t, on.senders()) },
			"routers":    func(t *testing.T) { on.guarded(t, on.routers()) },

			"neighbours, unguarded": func(t *testing.T) { free.open(t, free.neighbours()) },
			"senders, unguarded": func(t *testing.T) {
				free.open(t, slices.DeleteFunc(free.senders(), func(f forgedFrame) bool { return f.what == takenHardware }))
			},
			"routers, unguarded": func(t *testing.T) { free.open(t, free.routers()) },

			"LLDP": func(t *testing.T) {
				on.say(t, forgedFrame{what: "LLDP", frame: ether(on.victim.mac, linkLocalGroup, layers.EthernetTypeLinkLayerDiscovery, make([]byte, 46))})
				if got := on.beliefs()["the bridge's word for the victim"]; got == on.port() {
					t.Errorf("the bridge takes the attacker for the victim: by a frame of LLDP")
				}
			},
			// Routers' words would be believed by the others of A.
			"an endpoint unguarded": func(t *testing.T) {
				loose.open(t, []forgedFrame{called(loose.senders(), "as "+loose.victim.v4.String()), called(loose.neighbours(), "an advertisement for a stranger's hardware")})
			},
		})
		for what, now := range on.beliefs() {
			if now != before[what] && !strings.Contains(now, "unknown") { // which is nobody's word
				t.Errorf("%s were\n%s\nand are now\n%s", what, before[what], now)
			}
		}
		on.talk(t)
		free.deceived(t)
	})
}

// talk has victim and host find each other.
func (s stage) talk(t *testing.T) {
	t.Helper()
	for _, addr := range []string{s.gw.v4.String(), s.gw.v6.String()} {
		lab.Reachable(t, s.to.Host, "icmp", addr)
	}
	for _, addr := range []string{s.victim.v4.String(), s.victim.v6.String()} {
		lab.Reachable(t, s.r.host, "icmp", addr)
	}
}

// forget has the victim and the host forget what they were told.
func (s stage) forget() {
	s.to.Run("ip", "neigh", "flush", "all")
	s.r.host.Run("ip", "neigh", "flush", "dev", s.bridge)
}

// say sends frames once.
func (s stage) say(t *testing.T, frames ...forgedFrame) {
	t.Helper()
	w := s.wire(t, s.from.Host, "eth0")
	defer w.Close()
	for _, f := range frames {
		f.send(t, w)
	}
}

// called is the frame of that name.
func called(list []forgedFrame, what string) forgedFrame {
	return list[slices.IndexFunc(list, func(f forgedFrame) bool { return f.what == what })]
}

// beliefs are what a lie would change, by what they are about.
func (s stage) beliefs() map[string]string {
	victim := func(args ...string) string { return s.to.Run("ip", args...) }
	host := func(args ...string) string { return s.r.host.Run("ip", args...) }
	fdb := s.r.host.Run("bridge", "fdb", "show", "br", s.bridge)
	return map[string]string{
		"the bridge's word for the victim":  portOf(fdb, s.victim.mac.String()),
		"the victim's routes":               victim("route") + victim("-6", "route"),
		"the victim's addresses":            strings.Join(addressesOf(victim("-o", "addr")), "\n"),
		"the victim's way out":              victim("route", "get", lan4) + victim("-6", "route", "get", lan6),
		"the victim's word for the gateway": neighbourOf(victim("neigh", "show", s.gw.v4.String())) + neighbourOf(victim("neigh", "show", s.gw.v6.String())),
		"the host's routes":                 s.routesOf(host("route") + "\n" + host("-6", "route")),
		"the host's addresses":              strings.Join(addressesOf(host("-o", "addr", "show", "dev", s.bridge)), "\n"),
		"the host's word for the victim":    neighbourOf(host("neigh", "show", s.victim.v4.String())) + neighbourOf(host("neigh", "show", s.victim.v6.String())),
	}
}

// routesOf are the routes but those to networks other than the stage's: they come and go.
func (s stage) routesOf(lines string) (out string) {
	for line := range strings.Lines(lines) {
		// The kernel writes ifN for one that is about to be gone.
		if passing := strings.Contains(line, " dev br-") || strings.Contains(line, " dev if"); !passing || strings.Contains(line, " dev "+s.bridge+" ") {
			out += line
		}
	}
	return out
}

// portOf is the port of a bridge that a hardware address is behind, by `bridge fdb`.
func portOf(fdb, mac string) string {
	for line := range strings.Lines(fdb) {
		if words := strings.Fields(line); len(words) > 2 && words[0] == mac && !strings.Contains(line, "permanent") {
			return words[2]
		}
	}
	return "unknown"
}

// neighbourOf is the hardware address in a line of `ip neigh`.
func neighbourOf(line string) string {
	words := strings.Fields(line)
	for i, w := range words {
		if w == "lladdr" {
			return words[i+1] + "\n"
		}
	}
	return "unknown\n"
}

// addressesOf are the addresses in the lines of `ip -o addr`.
func addressesOf(lines string) (out []string) {
	for line := range strings.Lines(lines) {
		if words := strings.Fields(line); len(words) > 3 {
			out = append(out, words[1]+" "+words[3])
		}
	}
	return out
}

// deceived has every lie believed where nothing guards: each, alone, would deceive.
func (s stage) deceived(t *testing.T) {
	t.Helper()
	believed := func(what, about string, lie forgedFrame) {
		// The kernel heeds no other word on a neighbour for a second after one.
		eventuallyWithin(t, 30*time.Second, "on "+s.network+", unguarded: "+what, func() bool {
			s.say(t, lie)
			now := s.beliefs()[about]
			return strings.Contains(now, s.me.mac.String()) || strings.Contains(now, s.me.v4.String()+" ") || strings.Contains(now, s.me.local.String())
		})
	}
	lies, words := s.neighbours(), s.routers()
	// By a frame that no rule sees, too, unless the bridge is told not to learn by such.
	lldp := forgedFrame{what: "LLDP from the victim's hardware", frame: ether(s.victim.mac, linkLocalGroup, layers.EthernetTypeLinkLayerDiscovery, make([]byte, 46))}
	for _, lie := range []forgedFrame{called(s.senders(), takenHardware), lldp} {
		s.r.host.Run("ip", "link", "set", s.bridge, "type", "bridge", "no_linklocal_learn", "0")
		s.forget()
		s.talk(t)
		eventually(t, "on "+s.network+", unguarded: the bridge takes the attacker for the victim by "+lie.what, func() bool {
			s.say(t, lie)
			return s.beliefs()["the bridge's word for the victim"] == s.port()
		})
	}
	s.forget()
	s.talk(t) // whom nobody has heard of, nobody lies about
	believed("the victim takes the attacker for the gateway", "the victim's word for the gateway", called(lies, "gratuitous ARP for the gateway"))
	believed("the host takes the attacker for the victim", "the host's word for the victim", called(lies, "an advertisement for the victim, to the host"))
	believed("the victim takes the attacker for a router", "the victim's routes", called(words, "a router advertisement"))
	believed("the victim is sent elsewhere", "the victim's way out", called(words, "the gateway's redirect by IPv4"))
}
