package e2e

import (
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/craft"
	"github.com/fairlead/fairlead/internal/lab"
)

// forTests is the mark of packets that the host's administrator lets through.
const forTests = "0x7e57"

// TestAttackHost is rows 13, 27 and 33. With host port 53 published, containers and the
// host reach an external port 53, and others the published one (CVE-2025-67499). A
// container that tries every port of the host finds those that are published and those
// that the host itself serves, and no other. And a host that forwards since containers
// need it forwards for nobody else: not from its segment to its other uplink, nor back.
func TestAttackHost(t *testing.T) {
	attacked(t, []string{"--bridge-accept-fwmark", forTests}, hostTargets, func(t *testing.T, r *attackRange) {
		var wg sync.WaitGroup
		wg.Go(func() { tryForwarding(t, r) })
		wg.Go(func() { tryNameServers(t, r) })
		wg.Wait()
		tryPorts(t, r)
	})
}

// hostTargets publishes port 53 of the host, and has others serve it too.
func hostTargets(t *testing.T, r *attackRange) {
	t.Helper()
	n1 := r.idle("--name", "n1", "--network", "B", "-p", "53:53", "-p", "53:53/udp")
	n1.both("53")
	for _, h := range []*lab.Host{r.lan, r.far, r.abroad} {
		for _, proto := range []string{"tcp", "udp"} {
			for _, port := range []string{"53", "7070", "7071"} {
				h.Listen(proto, at("0.0.0.0", port))
				h.Listen(proto, at("::", port))
			}
		}
	}
	for _, port := range []string{"7070", "65530"} {
		r.host.Listen("tcp", at("0.0.0.0", port))
		r.host.Listen("tcp", at("::", port))
	}
	r.host.Listen("tcp", "127.0.0.1:7072")
	// It may open so many connections as there are ports.
	r.Must("network", "create", "--ipv6", "--subnet", "10.106.0.0/24", "--subnet", "fd00:5::/64", "-o", "com.fairlead.network.limit_connections=false", "S")
	r.idle("--name", "s1", "--network", "S")
	for _, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		if r.host.Run("sysctl", "-n", key) != "1" {
			t.Errorf("%s is off, so that the host forwards nothing at all", key)
		}
	}
}

// tryNameServers asks the servers at port 53 who they are.
func tryNameServers(t *testing.T, r *attackRange) {
	t.Helper()
	n1 := r.box("n1")
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, proto := range []string{"tcp", "udp"} {
		for _, h := range []*lab.Host{r.a1.Host, r.a2.Host, r.b1.Host, n1.Host, r.host} {
			for addr, want := range map[string]string{lan4: "lan", lan6: "lan", far4: "far", far6: "far", abroad4: "abroad", abroad6: "abroad"} {
				wg.Go(func() {
					if got := lab.Seen(t, h, proto, at(addr, "53")); got.Host != want {
						t.Errorf("%s asks %s by %s: %s answered", h.Name(), at(addr, "53"), proto, got.Host)
					}
				})
			}
		}
		for _, h := range []*lab.Host{r.a1.Host, r.lan, r.far, r.abroad} { // the control
			for _, addr := range []string{host4, host6} {
				wg.Go(func() {
					if got := lab.Seen(t, h, proto, at(addr, "53")); got.Host != n1.Name() {
						t.Errorf("%s asks the host by %s: %s answered", h.Name(), proto, got.Host)
					}
				})
			}
		}
	}
}

// tryForwarding tries what is on the other side of the host. A port whose packets the
// host's administrator marks is the control: to it the host forwards.
func tryForwarding(t *testing.T, r *attackRange) {
	t.Helper()
	r.host.Run("nft", "add table inet mine; flush table inet mine; "+
		"add chain inet mine marks { type filter hook prerouting priority mangle; }; "+
		"add rule inet mine marks meta l4proto { tcp, udp } th dport 7071 meta mark set "+forTests+"; "+
		"add rule inet mine marks meta l4proto { tcp, udp } th sport 7071 meta mark set "+forTests)
	defer r.host.Run("nft", "delete table inet mine")
	// far's router is one of the segment, and takes the host for the way to there.
	r.router.Run("ip", "route", "replace", "203.0.113.0/24", "via", host4)
	r.router.Run("ip", "-6", "route", "replace", "2001:db8:2::/64", "via", host6)
	var pairs [][2]lab.Probe
	for from1, to := range map[*lab.Host][]string{r.lan: {abroad4, abroad6}, r.far: {abroad4, abroad6}, r.abroad: {lan4, lan6, far4, far6}} {
		for _, addr := range to {
			for _, proto := range []string{"tcp", "udp"} {
				pairs = append(pairs, [2]lab.Probe{from(from1, proto, at(addr, "7070")), from(from1, proto, at(addr, "7071"))})
			}
			pairs = append(pairs, [2]lab.Probe{from(from1, "icmp", addr), from(from1, "tcp", at(addr, "7071"))})
		}
	}
	barred(t, pairs...)
}

// tryPorts has a container try every port of the host, at its gateway in both families,
// and on each other address those where anything listens anywhere; which, in make test,
// is what it does everywhere after a flush, and of the others it tries each by one family.
func tryPorts(t *testing.T, r *attackRange) {
	t.Helper()
	const gateway4, gateway6 = "10.106.0.1", "fd00:5::1"
	published, own := []uint16{53, 8080}, []uint16{7070, 65530}
	some := openPorts(r.host, "t")
	every := map[string][]uint16{gateway4: nil, gateway6: nil}
	for port := 1; port <= 65535; port++ {
		for i, addr := range []string{gateway4, gateway6} {
			if chosen(i, port) || slices.Contains(some, uint16(port)) {
				every[addr] = append(every[addr], uint16(port))
			}
		}
	}
	for _, port := range slices.Concat(published, own, []uint16{7072, 8081, 8082}) {
		if !slices.Contains(some, port) {
			t.Errorf("port %d is not among those that anything listens on: %v", port, some)
		}
	}
	// A port of UDP that is open cannot be told from one that is not heard of: the kernel
	// answers but some of those who ask in vain.
	if got := slices.DeleteFunc(openPorts(r.host, "u"), ofPassers(r)); !slices.Equal(got, []uint16{53}) {
		t.Errorf("by UDP the ports %v of the host are open; want that which is published, 53", got)
	}
	s1, via, local := r.box("s1"), hardware(t, r.host, gateway4), linkLocal(t, r.host, gateway4)
	var wg sync.WaitGroup
	defer wg.Wait()
	var long sync.Mutex // each connection tried takes a place in the host's table of flows for some seconds
	for _, addr := range append(slices.Clone(hostAddresses), gateway4, gateway6, local) {
		ports, want := some, slices.Sorted(slices.Values(slices.Concat(published, own)))
		all := every[addr] != nil && (full() || r.moment == atFirst)
		if all {
			ports = every[addr]
		}
		switch addr {
		case second4, second6:
			want = slices.Insert(want, slices.Index(want, 65530), 8082)
		case local:
			// What is published is turned to another bridge, where this source cannot go.
			want = own
		}
		wg.Go(func() {
			if all {
				long.Lock()
				defer long.Unlock()
			}
			got := scan(t, s1, via, addr, ports, want)
			if got = slices.DeleteFunc(got, ofPassers(r)); addr == local {
				got = slices.DeleteFunc(got, func(p uint16) bool { return slices.Contains(published, p) })
			}
			if !slices.Equal(got, want) {
				t.Errorf("s1 finds on %s of the host %v; want %v", addr, got, want)
			}
		})
	}
}

// ofPassers says whether a port may be of one of those who come and go: they publish what
// is free of the ephemeral range.
func ofPassers(r *attackRange) func(uint16) bool {
	return func(port uint16) bool { return r.moment == amid && port >= 32768 && port < 61000 }
}

var listenLine = regexp.MustCompile(`(?m)^(?:LISTEN|UNCONN)\s+\S+\s+\S+\s+\S*:(\d+)\s`)

// openPorts are the ports of a protocol ("t" or "u") that anything in the host's
// namespace listens on.
func openPorts(h *lab.Host, protocol string) (ports []uint16) {
	for _, m := range listenLine.FindAllStringSubmatch(h.Run("ss", "-Hln"+protocol), -1) {
		if n, err := strconv.ParseUint(m[1], 10, 16); err == nil {
			ports = append(ports, uint16(n))
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// scan sends a SYN to each of the ports and returns who answered: of the first pass in
// which those that are to be open did, so that few can have been lost on the way.
func scan(t *testing.T, b box, via net.HardwareAddr, addr string, ports, open []uint16) []uint16 {
	t.Helper()
	dst := netip.MustParseAddr(addr)
	src := b.addr4
	switch {
	case dst.IsLinkLocalUnicast():
		src = netip.MustParseAddr(linkLocal(t, b.Host, b.addr4.String()))
	case dst.Is6():
		src = b.addr6
	}
	var wire *craft.Wire
	if err := b.Do(func() (err error) { wire, err = craft.Open("eth0"); return err }); err != nil {
		t.Fatal(err)
	}
	defer wire.Close()
	sport := uint16(20000 + rand.IntN(40000))
	for deadline := time.Now().Add(20 * time.Second); ; {
		answered := map[uint16]bool{}
		hear := func(frame []byte) bool {
			if a, ok := craft.AnswerIn(frame); ok && a.Proto == "tcp" && a.Port == sport {
				answered[a.Mark] = true
			}
			return false
		}
		for chunk := range slices.Chunk(ports, 256) { // more at once would not find room on the way
			for _, port := range chunk {
				p := craft.Packet{Proto: "tcp", Src: netip.AddrPortFrom(src, sport), Dst: netip.AddrPortFrom(dst, port), Mark: port}
				if err := wire.Send(via, p); err != nil {
					t.Fatal(err)
				}
			}
			if err := wire.Listen(time.Now().Add(2*time.Millisecond), hear); err != nil {
				t.Fatal(err)
			}
		}
		if err := wire.Listen(time.Now().Add(300*time.Millisecond), hear); err != nil {
			t.Fatal(err)
		}
		missing := slices.ContainsFunc(open, func(p uint16) bool { return !answered[p] })
		if got := slices.Sorted(maps.Keys(answered)); !missing || time.Now().After(deadline) {
			return got
		}
	}
}
