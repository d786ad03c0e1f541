package e2e

import (
	"net/netip"
	"slices"
	"strconv"
	"testing"

	"github.com/fairlead/fairlead/internal/craft"
	"github.com/fairlead/fairlead/internal/lab"
)

// TestAttackOldClients is row 32: who has been sending datagrams to a container never
// stops, while the container ends, its address passes to one and its port to another.
// By IPv4 and IPv6, those who came by a published port, by the relay, directly to a
// routed network, or whom the container itself had asked, none of them ever reaches the
// one with the address, and those of the port reach the one with the port.
func TestAttackOldClients(t *testing.T) {
	run := func(t *testing.T, backend string) {
		s := newSiteOn(t, backend)
		for _, lan := range []string{outside4, outside6} {
			s.outside.Listen("udp", at(lan, "4003"))
		}
		rounds := 1
		if full() {
			rounds = 10
		}
		for round := range rounds {
			oldClients(t, s, round)
			if t.Failed() {
				t.Fatalf("so it is by %s\n%s", backend, s.rules())
			}
		}
	}
	if full() {
		forBackends(t, run)
		return
	}
	t.Parallel()
	run(t, nftables)
}

// The addresses that pass from one container to the next, and what is behind them.
const (
	passed4, passed6 = "10.101.0.50", "fd00:a::50"
	asked4           = "10.101.0.51"
	routed4, routed6 = "10.102.0.50", "fd00:b::50"
)

// oldClients is one round, from the first container to its successors.
func oldClients(t *testing.T, s *site, round int) {
	t.Helper()
	s.Must("network", "create", "--ipv6", "--subnet", subnetA4, "--subnet", subnetA6, "A")
	s.Must("network", "create", "--ipv6", "--subnet", subnetB4, "--subnet", subnetB6,
		"-o", "com.docker.network.bridge.gateway_mode_ipv4=routed", "-o", "com.docker.network.bridge.gateway_mode_ipv6=routed", "R")
	// The one with the address has no port that is published, and listens to all.
	address := []string{"--network", "A", "--ip", passed4, "--ip6", passed6}
	direct := []string{"--network", "R", "--ip", routed4, "--ip6", routed6}
	first := s.idle(append(address, "--name", "first", "-p", "5000:5000/udp")...)
	routed := s.idle(append(direct, "--name", "routed", "-p", "5000/udp")...)
	// It publishes nothing, and has asked by IPv4.
	asker := s.idle("--network", "A", "--ip", asked4, "--name", "asker")
	p := newStreams(t)
	ports, others := oldStreams(t, s, p, [2]box{asker, first}, strconv.Itoa(4100+round))
	heard := func(by box, streams ...*stream) {
		t.Helper()
		for _, one := range streams {
			eventually(t, by.Name()+" hears "+one.name, func() bool { return one.heardBy(by.Host) > 0 })
		}
	}
	stop := []func(){p.hear(p.ctx, first.Host, "eth0"), p.hear(p.ctx, asker.Host, "eth0"), p.hear(p.ctx, routed.Host, "eth0")}
	heard(first, ports...)
	heard(asker, others[0])
	heard(first, others[1])
	heard(routed, others[2:]...)
	for _, f := range stop {
		f()
	}
	s.Must("rm", "-f", "first", "asker", "routed")
	second := s.idle(append(address, "--name", "second")...)
	heir := s.idle("--network", "A", "--ip", asked4, "--name", "heir")
	unrouted := s.idle(append(direct, "--name", "unrouted")...)
	// Its control: one that it does not publish is heard where it may be.
	stop = []func(){p.hear(p.ctx, second.Host, "eth0"), p.hear(p.ctx, heir.Host, "eth0"), p.hear(p.ctx, unrouted.Host, "eth0")}
	third := s.idle("--name", "third", "--network", "A", "-p", "5000:5000/udp")
	stop = append(stop, p.hear(p.ctx, third.Host, "eth0"))
	heard(third, ports...)
	all := slices.Concat(ports, others)
	for _, one := range all {
		n := one.count()
		eventually(t, "a hundred more of "+one.name, func() bool { return one.count() > n+100 })
	}
	control := &stream{name: "the control, from the host", open: true}
	p.write(s.host, at(passed4, "5000"), control)
	heard(second, control)
	for _, f := range stop {
		f()
	}
	p.end()
	for _, one := range all {
		if n := one.heardBy(second.Host) + one.heardBy(heir.Host) + one.heardBy(unrouted.Host); n > 0 {
			t.Errorf("%s: the next container with the address got %d datagrams", one.name, n)
		}
	}
	for _, one := range others {
		if n := one.heardBy(third.Host); n > 0 {
			t.Errorf("%s: the next container with the port got %d datagrams", one.name, n)
		}
	}
	s.Must("rm", "-f", "second", "heir", "unrouted", "third")
	s.Must("network", "rm", "A", "R")
}

// oldStreams are the clients: ports are those who send to the port of the host, others
// first those whom the container asked, then those who know the way to its network.
func oldStreams(t *testing.T, s *site, p *streams, askers [2]box, port string) (ports, others []*stream) {
	t.Helper()
	datagram := func(name, src, dst string) *stream {
		return &stream{name: name + " " + dst, packet: craft.Packet{
			Proto: "udp", Src: netip.MustParseAddrPort(src), Dst: netip.MustParseAddrPort(dst),
		}}
	}
	for i, lan := range []string{outside4, outside6} {
		host := []string{host4, host6}[i]
		own := []netip.Addr{askers[0].addr4, askers[1].addr6}[i]
		ports = append(ports, datagram("a client of", at(lan, "4000"), at(host, "5000")))
		// The container asks once, and is answered for ever: in each round by another
		// port, for the host has flows of the answers that nobody took.
		ask := craft.Packet{Proto: "udp", Src: netip.MustParseAddrPort(at(own, port)), Dst: netip.MustParseAddrPort(at(lan, port)), Text: "?"}
		wire := p.open(askers[i].Host, "eth0")
		if err := wire.Send(hardware(t, s.host, "10.101.0.1"), ask); err != nil {
			t.Fatal(err)
		}
		if err := wire.Close(); err != nil {
			t.Fatal(err)
		}
		// It goes out under whichever address of the host the kernel likes best.
		seen := lab.Seen(t, askers[i].Host, "udp", at(lan, "4003")).Peer.Addr()
		others = append(others, datagram("an answer to", at(lan, port), at(seen, port)))
	}
	others = append(others, datagram("a client of", at(outside4, "4002"), at(routed4, "5000")),
		datagram("a client of", at(outside6, "4002"), at(routed6, "5000")))
	via := hardware(t, s.host, host4)
	p.send(s.outside, "eth0", via, append(ports, others...)...)
	for _, loopback := range []string{"127.0.0.1", "::1"} {
		one := &stream{name: "a client on the host of " + loopback}
		p.write(s.host, at(loopback, "5000"), one)
		ports = append(ports, one)
	}
	return ports, others
}
