package e2e

import (
	"strings"
	"testing"
	"time"
)

// hostsOwn is a port of a service that the host itself has, on loopback alone.
const hostsOwn = "7777"

// TestAttackLoopback is rows 5 and 6: packets for 127.0.0.1 and ::1, crafted on the
// host's segment and in a container and sent to the host's hardware address, come
// neither to what is published on loopback nor to the host's own services there
// (CVE-2020-8558). Where the host's administrator has the kernel take such packets
// (route_localnet), what he opens is open to his segment; what is published on
// loopback, and all that containers send, stays barred.
func TestAttackLoopback(t *testing.T) {
	for _, proxy := range []bool{true, false} {
		if !proxy && !full() {
			continue
		}
		t.Run(proxyFlag(proxy), func(t *testing.T) {
			attacked(t, []string{proxyFlag(proxy)}, loopbackTargets, func(t *testing.T, r *attackRange) {
				for _, route := range []string{"0", "1"} {
					r.host.Sysctl("net.ipv4.conf.all.route_localnet", route)
					tryLoopback(t, r, route == "1")
				}
				r.host.Sysctl("net.ipv4.conf.all.route_localnet", "0")
			})
		})
	}
}

// loopbackTargets publishes datagrams on loopback too, and starts services of the
// host's own, on loopback and, for controls, on all its addresses.
func loopbackTargets(t *testing.T, r *attackRange) {
	t.Helper()
	l1 := r.idle("--name", "l1", "--network", "A", "-p", "127.0.0.1:8083:80/udp", "-p", "[::1]:8083:80/udp")
	for _, proto := range []string{"tcp", "udp"} {
		for _, addr := range []string{"127.0.0.1", "::1"} {
			r.host.Listen(proto, at(addr, hostsOwn))
		}
		for _, addr := range []string{"0.0.0.0", "::"} {
			r.host.Listen(proto, at(addr, "7778"))
		}
	}
	for _, addr := range []string{"0.0.0.0", "::"} {
		l1.serve("udp", at(addr, "80"))
	}
}

// tryLoopback shoots from the segment and from a container; opened says that the
// kernel routes 127.0.0.0/8.
func tryLoopback(t *testing.T, r *attackRange, opened bool) {
	t.Helper()
	l1 := r.box("l1")
	ears := []string{}
	hear1, hear2 := r.a1.Frames("eth0"), l1.Frames("eth0")
	defer hear1.Close()
	defer hear2.Close()
	for _, from := range []struct {
		box  bool
		own  [2]string
		gate string
	}{{false, [2]string{lan4, lan6}, host4}, {true, [2]string{r.a2.addr4.String(), r.a2.addr6.String()}, "10.101.0.1"}} {
		h := r.lan
		if from.box {
			h = r.a2.Host
		}
		shots := []shot{
			control("tcp", from.own[0], host4, "7778"), control("tcp", from.own[1], host6, "7778"),
			control("udp", from.own[0], host4, "7778"), control("udp", from.own[1], host6, "7778"),
		}
		for i, loopback := range []string{"127.0.0.1", "::1"} {
			// Spoofed sources are not answered where an ear of the attacker hears it; those
			// in the containers do.
			for _, src := range []string{from.own[i], loopback, [2]string{host4, host6}[i]} {
				for _, port := range []string{"8081", "8082"} {
					shots = append(shots, aim("tcp", src, loopback, port))
				}
				shots = append(shots, aim("udp", src, loopback, "8083"))
			}
			for _, proto := range []string{"tcp", "udp"} {
				s := aim(proto, from.own[i], loopback, hostsOwn)
				s.open = opened && !from.box && i == 0
				shots = append(shots, s)
			}
		}
		ears = append(ears, volley(t, h, "eth0", hardware(t, r.host, from.gate), shots)...)
	}
	// What comes to the containers from the host's own loopback, by the same ports.
	for _, addr := range []string{"127.0.0.1", "::1"} {
		for proto, port := range map[string]string{"tcp": "8081", "udp": "8083"} {
			if _, err := r.host.Ask(proto, at(addr, port), 5*time.Second); err != nil {
				t.Errorf("the host does not reach %s by %s, so that the attack proves nothing: %v", at(addr, port), proto, err)
			}
		}
	}
	if missing := append(hear1.Missing(ears, 50*time.Millisecond), hear2.Missing(ears, 50*time.Millisecond)...); len(missing) != 2*len(ears) {
		t.Errorf("a container heard %d of %d packets that were for the host's loopback", 2*len(ears)-len(missing), len(ears))
	}
	if strings.Contains(r.host.Run("sh", "-c", "grep . /proc/sys/net/ipv4/conf/uplink/route_localnet"), "1") {
		t.Error("route_localnet is on, which the test did not ask for")
	}
}
