package e2e

import (
	"errors"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// attackers are those who are outside the host and know a way to its networks by it,
// with the address of theirs and the host's that they use, by family.
func (r *attackRange) attackers() map[*lab.Host][2][2]string {
	return map[*lab.Host][2][2]string{
		r.lan:    {{lan4, host4}, {lan6, host6}},
		r.abroad: {{abroad4, uplinkTwo4}, {abroad6, uplinkTwo6}},
	}
}

// TestAttackDirect is rows 7, 8, 9 and 20: who sends to containers' own addresses by
// way of the host, with his sockets or past them, from the host's segment, from its
// other uplink and from behind a router, reaches neither what is not published nor, by
// the container's port, what is published as another; a port that is published on one
// address of the host is refused on the others; and what he may reach sees him by his
// own address.
func TestAttackDirect(t *testing.T) {
	prepare := func(t *testing.T, r *attackRange) {
		// One that they may reach in the same ways: its network is not protected.
		const unprotected = "nat-unprotected"
		r.Must("network", "create", "--ipv6", "--subnet", "10.104.0.0/24", "--subnet", "fd00:d::/64",
			"-o", "com.docker.network.bridge.gateway_mode_ipv4="+unprotected, "-o", "com.docker.network.bridge.gateway_mode_ipv6="+unprotected, "D")
		r.idle("--name", "d1", "--network", "D").bothPorts()
		// far's router believes that the way to everything is by the host.
		r.router.Run("ip", "route", "add", "10.0.0.0/8", "via", host4)
		r.router.Run("ip", "route", "add", uplinkTwo4, "via", host4)
		for _, to := range []string{"fd00::/8", uplinkTwo6} {
			r.router.Run("ip", "-6", "route", "add", to, "via", host6)
		}
	}
	attacked(t, nil, prepare, func(t *testing.T, r *attackRange) {
		pairs := r.direct()
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { barred(t, pairs...) })
		wg.Go(func() { craftDirectly(t, r) })
		wg.Go(func() { refused(t, r) })
		wg.Go(func() { seenTruly(t, r) })
	})
}

// craftDirectly shoots at the containers from everywhere. They hear nothing of it, not
// even what they would refuse.
func craftDirectly(t *testing.T, r *attackRange) {
	t.Helper()
	ears := map[string]*lab.Frames{}
	for _, b := range []box{r.a1, r.a2, r.b1, r.i1} {
		ears[b.Name()] = b.Frames("eth0")
		defer ears[b.Name()].Close()
	}
	var texts []string
	for h, by := range r.attackers() {
		texts = append(texts, volley(t, h, "eth0", hardware(t, r.host, by[0][1]), r.directShots(by))...)
	}
	for name, ear := range ears {
		if heard := len(texts) - len(ear.Missing(texts, 50*time.Millisecond)); heard > 0 {
			t.Errorf("%s heard %d packets that were crafted for containers", name, heard)
		}
	}
}

// bothPorts serves what the range's containers do.
func (b box) bothPorts() {
	b.s.t.Helper()
	for _, port := range []string{"80", "81"} {
		b.both(port)
	}
}

// direct are attempts by sockets at each container, and, as controls, at the one that
// is not protected.
func (r *attackRange) direct() (pairs [][2]lab.Probe) {
	d1 := r.box("d1")
	may := [2]netip.Addr{d1.addr4, d1.addr6}
	for _, target := range []box{r.a1, r.a2, r.b1, r.i1} {
		for i, addr := range []netip.Addr{target.addr4, target.addr6} {
			for _, h := range []*lab.Host{r.lan, r.far, r.abroad} {
				for _, proto := range []string{"tcp", "udp"} {
					for _, port := range []string{"80", "81"} {
						pairs = append(pairs, [2]lab.Probe{from(h, proto, at(addr, port)), from(h, proto, at(may[i], port))})
					}
				}
				pairs = append(pairs, [2]lab.Probe{from(h, "icmp", addr.String()), from(h, "icmp", may[i].String())})
			}
		}
	}
	return pairs
}

// directShots are crafted packets of one attacker to the containers, also from the
// middle of connections that nobody opened. What he may reach is the control.
func (r *attackRange) directShots(by [2][2]string) (shots []shot) {
	d1 := r.box("d1")
	for i, family := range by {
		own, host := family[0], family[1]
		may := [2]netip.Addr{d1.addr4, d1.addr6}[i].String()
		shots = append(shots, control("tcp", own, host, "8080"), control("tcp", own, may, "80"), control("udp", own, may, "81"), control("icmp", own, may, ""))
		for _, target := range []box{r.a1, r.a2, r.b1, r.i1} {
			addr := [2]netip.Addr{target.addr4, target.addr6}[i].String()
			for _, port := range []string{"80", "81", "8080"} {
				shots = append(shots, aim("tcp", own, addr, port), aim("udp", own, addr, port))
				middle := aim("tcp", own, addr, port)
				middle.ACK = true
				shots = append(shots, middle)
			}
			shots = append(shots, aim("icmp", own, addr, ""))
		}
	}
	return shots
}

// refused tries a port on addresses of the host that it is not published on: it is as
// if nothing were there.
func refused(t *testing.T, r *attackRange) {
	t.Helper()
	for _, addr := range []string{second4, second6} {
		for _, h := range []*lab.Host{r.lan, r.far, r.abroad} {
			lab.Reachable(t, h, "tcp", at(addr, "8082"))
		}
	}
	for _, addr := range []string{host4, host6, uplinkTwo4, uplinkTwo6, "10.101.0.1", "fd00:a::1"} {
		for _, h := range []*lab.Host{r.lan, r.far, r.abroad, r.a2.Host, r.b1.Host, r.host} {
			for _, port := range []string{"8081", "8082"} {
				c, err := h.Dial("tcp", at(addr, port), 5*time.Second)
				if err == nil {
					_ = c.Close()
				}
				if !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("%s → %s: %v; want a refusal", h.Name(), at(addr, port), err)
				}
			}
		}
	}
}

// seenTruly has a container say whom it sees where others come to what is published.
func seenTruly(t *testing.T, r *attackRange) {
	t.Helper()
	for _, client := range []struct {
		h      *lab.Host
		v4, v6 string
	}{{r.far, far4, far6}, {r.lan, lan4, lan6}, {r.abroad, abroad4, abroad6}} {
		for _, to := range []string{host4, second4} {
			r.a1.sees(client.h, "tcp", at(to, "8080"), client.v4)
		}
		for _, to := range []string{host6, second6} {
			r.a1.sees(client.h, "tcp", at(to, "8080"), client.v6)
		}
	}
}
