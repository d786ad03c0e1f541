package e2e

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"github.com/fairlead/fairlead/internal/lab"
)

// The addresses that the host has on the bridge of network I.
const gatewayI4, gatewayI6 = "10.103.0.1", "fd00:c::1"

// hostAddresses are all that the host of an attack range has, loopback apart.
var hostAddresses = []string{
	host4, host6, second4, second6, uplinkTwo4, uplinkTwo6,
	"10.101.0.1", "fd00:a::1", "10.102.0.1", "fd00:b::1", gatewayI4, gatewayI6,
}

// TestAttackInternal is rows 14 and 16: a container of an internal network that makes
// itself routes, or sends past its routes, comes out neither by the host nor by a
// container that is on another network as well, by no protocol; and reaches no address
// of the host, published ports included. Its resolver answers it.
func TestAttackInternal(t *testing.T) {
	prepare := func(t *testing.T, r *attackRange) {
		// One that is on I and on B, and forwards if it is let.
		both := r.idle("--name", "both", "--network", "I", "--network", "B", "--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "net.ipv6.conf.all.forwarding=1")
		both.serve("tcp", "0.0.0.0:80")
		both.serve("tcp", "[::]:80")
		r.i1.Run("ip", "route", "add", "default", "via", gatewayI4)
		r.i1.Run("ip", "-6", "route", "add", "default", "via", gatewayI6)
		for _, proto := range []string{"tcp", "udp"} {
			for _, h := range []*lab.Host{r.lan, r.far} {
				h.Listen(proto, "0.0.0.0:7070")
				h.Listen(proto, "[::]:7070")
			}
			r.host.Listen(proto, "[::]:7069")
			for _, addr := range hostAddresses { // datagrams are answered from where they came
				r.host.Listen(proto, at(addr, "7070"))
			}
		}
	}
	attacked(t, nil, prepare, func(t *testing.T, r *attackRange) {
		pairs := append(r.outward(), r.toHost(t)...)
		both := r.box("both")
		onI := r.inspect("both").NetworkSettings.Networks["I"]
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { barred(t, pairs...) })
		wg.Go(func() { r.pastRoutes(t, both, [2]string{onI.IPAddress, onI.GlobalIPv6Address}) })
		wg.Go(func() {
			r.i1.resolves("i1", wire.TypeA, "NOERROR "+r.i1.addr4.String())
			r.i1.resolves("both", wire.TypeAAAA, "NOERROR "+onI.GlobalIPv6Address)
		})
	})
}

// outward are i1's attempts at the world and at other networks, by the host. a2 may.
func (r *attackRange) outward() (pairs [][2]lab.Probe) {
	for _, to := range []string{lan4, lan6, far4, far6} {
		for _, proto := range []string{"tcp", "udp"} {
			pairs = append(pairs, [2]lab.Probe{from(r.i1.Host, proto, at(to, "7070")), from(r.a2.Host, proto, at(to, "7070"))})
		}
		pairs = append(pairs, [2]lab.Probe{from(r.i1.Host, "icmp", to), from(r.a2.Host, "icmp", to)})
	}
	for _, to := range []string{r.b1.addr4.String(), r.b1.addr6.String(), r.a1.addr4.String(), r.a1.addr6.String()} {
		for _, proto := range []string{"tcp", "udp"} {
			pairs = append(pairs, [2]lab.Probe{from(r.i1.Host, proto, at(to, "80")), from(r.host, proto, at(to, "80"))})
		}
		pairs = append(pairs, [2]lab.Probe{from(r.i1.Host, "icmp", to), from(r.host, "icmp", to)})
	}
	return pairs
}

// toHost are i1's attempts at every address of the host. Other containers may, and on
// addresses that only i1's network knows, the host itself.
func (r *attackRange) toHost(t *testing.T) (pairs [][2]lab.Probe) {
	t.Helper()
	for _, to := range hostAddresses {
		may := r.a2.Host
		if to == gatewayI4 || to == gatewayI6 {
			may = r.host
		}
		for _, proto := range []string{"tcp", "udp"} {
			pairs = append(pairs, [2]lab.Probe{from(r.i1.Host, proto, at(to, "7070")), from(may, proto, at(to, "7070"))})
		}
		pairs = append(pairs, [2]lab.Probe{from(r.i1.Host, "icmp", to), from(may, "icmp", to)})
		pairs = append(pairs, [2]lab.Probe{from(r.i1.Host, "tcp", at(to, "8080")), from(r.host, "tcp", at(to, "8080"))})
	}
	zone := linkLocal(t, r.host, gatewayI4) + "%eth0"
	return append(pairs,
		[2]lab.Probe{from(r.i1.Host, "tcp", at(zone, "7069")), from(r.host, "tcp", at(gatewayI6, "7069"))},
		[2]lab.Probe{from(r.i1.Host, "icmp", zone), from(r.host, "icmp", gatewayI6)})
}

// pastRoutes has i1 send to hardware addresses: the bridge's, and that of the container
// that is on another network too, whose addresses on I are given.
func (r *attackRange) pastRoutes(t *testing.T, both box, onI [2]string) {
	t.Helper()
	own := [2]string{r.i1.addr4.String(), r.i1.addr6.String()}
	var byHost, byBoth []shot
	for i, targets := range [2][]string{
		{lan4, far4, abroad4, r.b1.addr4.String(), r.a1.addr4.String(), host4, "127.0.0.1"},
		{lan6, far6, abroad6, r.b1.addr6.String(), r.a1.addr6.String(), host6, "::1"},
	} {
		byBoth = append(byBoth, control("tcp", own[i], onI[i], "80"))
		for _, to := range targets {
			for _, port := range []string{"80", "8080", "7070"} {
				for _, proto := range []string{"tcp", "udp"} {
					byHost, byBoth = append(byHost, aim(proto, own[i], to, port)), append(byBoth, aim(proto, own[i], to, port))
				}
			}
			byHost, byBoth = append(byHost, aim("icmp", own[i], to, "")), append(byBoth, aim("icmp", own[i], to, ""))
		}
	}
	// Nor does anything come out without an answer: data can be carried in requests.
	out := r.lan.Frames("eth0")
	defer out.Close()
	b1 := r.b1.Frames("eth0")
	defer b1.Close()
	var texts []string
	texts = append(texts, volley(t, r.i1.Host, "eth0", hardware(t, both.Host, onI[0]), byBoth)...)
	// The control of the other way is the first's: the same packets, other hardware.
	texts = append(texts, volley(t, r.i1.Host, "eth0", hardware(t, r.host, gatewayI4), byHost)...)
	for _, ear := range []*lab.Frames{out, b1} {
		if missing := ear.Missing(texts, 50*time.Millisecond); len(missing) != len(texts) {
			t.Errorf("%d of %d packets came out of an internal network", len(texts)-len(missing), len(texts))
		}
	}
	heard := fmt.Sprintf("ear %d", time.Now().UnixNano())
	if err := sendText(r.a2.Host, at(lan4, "7070"), heard); err != nil {
		t.Fatal(err)
	}
	control := r.lan.Frames("eth0")
	defer control.Close()
	for deadline := time.Now().Add(10 * time.Second); len(control.Missing([]string{heard}, 200*time.Millisecond)) > 0; {
		if err := sendText(r.a2.Host, at(lan4, "7070"), heard); err != nil || time.Now().After(deadline) {
			t.Errorf("cannot tell: what a2 sends is not heard on lan's wire: %v", err)
			return
		}
	}
}

// sendText sends a datagram.
func sendText(h *lab.Host, to, text string) error {
	var c net.Conn
	if err := h.Do(func() (err error) { c, err = net.Dial("udp", to); return err }); err != nil {
		return err
	}
	defer c.Close()
	_, err := c.Write([]byte(text))
	return err
}
