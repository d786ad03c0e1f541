package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/craft"
	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/kernel/nft"
)

// stormPorts is how many ports of the host are published in a storm.
const stormPorts = 2000

// stormRates are how many connections a second are made to the published ports, and what
// is between two packets of each stream. In make test other tests need the machine too.
func stormRates() (connections int, every time.Duration) {
	if full() {
		return 500, streamEvery
	}
	return 100, 2 * streamEvery
}

// storm is a site that everything is done to that other programs, crashes and users do
// to a packet filter, while packets and connections never pause.
type storm struct {
	*site
	packets   *streams
	firewalld *firewall
	a1, b1    box
	// ports are the containers that have the published ports, each an equal share.
	ports []box
	// opens says of what another program does that it takes rules of ours away.
	opens func(disturbance string) bool

	periods []period
	// connected, slow and failed count connections to published ports: slow ones had to
	// be begun again.
	connected, slow, failed atomic.Int64
	failures                sync.Map
}

// period is from one moment to another; open says that it is about the time when rules
// are gone, else nothing passes that should not.
type period struct {
	name     string
	from, to time.Time
	open     bool
}

// newStorm makes the site, with a firewalld of its own that runs, and starts packets
// and connections. env is the daemon's.
func newStorm(t *testing.T, backend string, opens func(string) bool, env ...string) *storm {
	t.Helper()
	s := &storm{site: newHosts(t), opens: opens}
	s.host.Expect("table inet firewalld", "table ip", "table bridge nat", "table bridge filter", "iptables: ")
	abroad := s.lab.Host("abroad")
	s.lab.Link(s.host.Port("uplink2", uplinkTwo4+"/24", uplinkTwo6+"/64"), abroad.Port("eth0", abroad4+"/24", abroad6+"/64"))
	// Where the kernel takes packets for 127.0.0.0/8 it is our rules that keep them off.
	s.host.Sysctl("net.ipv4.conf.uplink.route_localnet", "1")
	s.firewalld = s.newFirewall(nftables)
	s.firewalld.start()
	s.Daemon = s.lab.NewDaemon(s.host, lab.DaemonOptions{Firewall: backend, Env: append(env, s.firewalld.env())})
	s.Start()
	s.importImage("demo")
	s.Must("network", "create", "--ipv6", "--subnet", subnetA4, "--subnet", subnetA6, "A")
	s.Must("network", "create", "--ipv6", "--subnet", subnetB4, "--subnet", subnetB6, "B")
	s.a1 = s.idle("--name", "a1", "--network", "A", "-p", "8080:80", "-p", "8080:80/udp", "-p", "127.0.0.1:8083:80/udp", "-p", "[::1]:8083:80/udp")
	s.b1 = s.idle("--name", "b1", "--network", "B")
	for i := range 2 {
		flags := []string{"--name", "p" + strconv.Itoa(i), "--network", "A"}
		for port := range stormPorts / 2 {
			flags = append(flags, "-p", fmt.Sprintf("%d:80", stormPort(i*stormPorts/2+port)))
		}
		s.ports = append(s.ports, s.idle(flags...))
	}
	for _, b := range append([]box{s.a1, s.b1}, s.ports...) {
		b.serve("tcp", "0.0.0.0:80")
		b.serve("tcp", "[::]:80")
	}
	s.packets = newStreams(t)
	_, s.packets.every = stormRates()
	s.sendAll(abroad)
	s.connect()
	return s
}

func stormPort(n int) int { return 20000 + n }

// each makes a stream of both families and the protocols.
func each(name string, open bool, protos, port string, src, dst [2]any) (out []*stream) {
	for _, proto := range strings.Fields(protos) {
		for i := range src {
			p := craft.Packet{
				Proto: proto, Src: netip.MustParseAddrPort(at(src[i], "0")), Dst: netip.MustParseAddrPort(at(dst[i], port)),
			}
			out = append(out, &stream{name: fmt.Sprintf("%s, %s to %s", name, proto, p.Dst), packet: p, open: open})
		}
	}
	return out
}

// sendAll has everybody attack whom they may not reach, and reach the others.
func (s *storm) sendAll(abroad *lab.Host) {
	s.t.Helper()
	type pair = [2]any
	a1, b1 := pair{s.a1.addr4, s.a1.addr6}, pair{s.b1.addr4, s.b1.addr6}
	lan, host, loopback := pair{outside4, outside6}, pair{host4, host6}, pair{"127.0.0.1", "::1"}
	s.packets.listen(s.a1.Host, "eth0")
	s.packets.listen(s.b1.Host, "eth0")
	s.packets.listen(s.outside, "eth0")
	s.packets.receive(s.host, "127.0.0.1:7777")
	s.packets.receive(s.host, "[::1]:7777")
	s.packets.receive(s.host, "0.0.0.0:7778")
	s.packets.receive(s.host, "[::]:7778")
	var byLAN []*stream
	byLAN = append(byLAN, each("row 5, a port published on loopback", false, "udp", "8083", lan, loopback)...)
	byLAN = append(byLAN, each("row 7, an unpublished port", false, "tcp udp", "81", lan, a1)...)
	byLAN = append(byLAN, each("row 8, a container's port directly", false, "tcp udp", "80", lan, a1)...)
	byLAN = append(byLAN, each("a published port", true, "tcp udp", "8080", lan, host)...)
	s.packets.send(s.outside, "eth0", hardware(s.t, s.host, host4), byLAN...)
	away := pair{abroad4, abroad6}
	s.packets.send(abroad, "eth0", hardware(s.t, s.host, uplinkTwo4), append(
		each("row 6, the host's own service on loopback", false, "udp", "7777", away, loopback),
		each("the host's own service", true, "udp", "7778", away, pair{uplinkTwo4, uplinkTwo6})...)...)
	s.packets.send(s.a1.Host, "eth0", hardware(s.t, s.host, "10.101.0.1"), append(append(
		each("row 11, another network", false, "tcp udp", "80", a1, b1),
		each("row 6, the host's own service on loopback, by a container", false, "udp", "7777", a1, loopback)...),
		each("outward", true, "udp", "9", a1, lan)...)...)
}

// connect makes connections to the published ports, and asks whom they reach.
func (s *storm) connect() {
	const callers = 20
	rate, _ := stormRates()
	for range callers {
		s.packets.wg.Go(func() {
			tick := time.NewTicker(time.Second * callers / time.Duration(rate))
			defer tick.Stop()
			for {
				select {
				case <-s.packets.ctx.Done():
					return
				case <-tick.C:
				}
				n, host := rand.IntN(stormPorts), host4
				if rand.IntN(2) == 0 {
					host = host6
				}
				begin := time.Now()
				reply, err := s.outside.Ask("tcp", at(host, strconv.Itoa(stormPort(n))), 10*time.Second)
				want := s.ports[n/(stormPorts/2)].Name()
				switch {
				case err != nil:
					s.failed.Add(1)
					s.failures.Store(err.Error(), begin)
				case reply.Host != want:
					s.failed.Add(1)
					s.failures.Store("reached "+reply.Host+" in the place of "+want, begin)
				case time.Since(begin) > 900*time.Millisecond: // after which a SYN is sent again
					s.slow.Add(1)
					fallthrough
				default:
					s.connected.Add(1)
				}
			}
		})
	}
}

// disturb does something, and waits until all is as it should be again.
func (s *storm) disturb(name string, do func()) {
	s.t.Helper()
	p := period{name: name, from: time.Now(), open: s.opens(name)}
	do()
	eventually(s.t, "all is well after: "+name, func() bool {
		out, _, code := s.CLI("debug", "check")
		return code == 0 && out == ""
	})
	p.to = time.Now()
	s.periods = append(s.periods, p)
	// What comes after is held to be closed.
	rest := period{name: "after " + name, from: p.to}
	time.Sleep(200 * time.Millisecond)
	rest.to = time.Now()
	s.periods = append(s.periods, rest)
}

const flushIPTables = `for p in iptables-nft ip6tables-nft iptables-legacy ip6tables-legacy; do
for t in raw nat filter; do $p -w -t $t -F && $p -w -t $t -X || exit 1; done; done 2>&1`

// rage does everything.
func (s *storm) rage() {
	// It does not take a reload without its tables, so it goes first.
	s.disturb("firewall-cmd --reload", func() { s.firewalld.reload(false) })
	s.disturb("nft flush ruleset", func() { s.host.Run("nft", "flush", "ruleset") })
	s.disturb("iptables -F", func() { s.host.Run("sh", "-c", flushIPTables) })
	s.disturb("a restart", func() { s.Restart() })
	s.disturb("a crash", func() { s.Kill(); s.Start() })
	s.disturb("nft flush ruleset while no daemon runs", func() { s.Kill(); s.host.Run("nft", "flush", "ruleset"); s.Start() })
	s.disturb("containers that come and go", func() {
		s.Must("run", "-d", "--name", "passing", "--network", "B", "-p", "8090:80", "demo", "sleep", "3600")
		s.Must("network", "connect", "A", "passing")
		s.Must("network", "disconnect", "B", "passing")
		s.Must("restart", "-t", "0", "passing")
		s.Must("rm", "-f", "passing")
	})
}

// calm ends it and judges.
func (s *storm) calm() {
	s.t.Helper()
	s.packets.end()
	for _, p := range s.periods {
		s.judge(p)
	}
	begin, end := s.periods[0].from, s.periods[len(s.periods)-1].to
	for _, one := range s.packets.all {
		w := one.since(begin, end)
		if want := end.Sub(begin) / s.packets.every; w.sent < int(want)/5 {
			s.t.Errorf("%s: only %d packets, of %d there was time for", one.name, w.sent, want)
		}
		if one.open && w.odd > w.sent/2 {
			s.t.Errorf("%s: cannot tell: of %d packets of the control %d did not arrive", one.name, w.sent, w.odd)
		}
	}
	s.t.Logf("%d streams in %s; %d connections to %d published ports, %d of them begun again, %d failed", len(s.packets.all), ms(end.Sub(begin)),
		s.connected.Load(), stormPorts, s.slow.Load(), s.failed.Load())
	s.failures.Range(func(what, when any) bool {
		s.t.Errorf("a connection to a published port, %s after the begin: %s", ms(when.(time.Time).Sub(begin)), what)
		return true
	})
	s.consistent()
}

// judge fails the test if anything passed in the period that should not have, and says
// how long it did where it could.
func (s *storm) judge(p period) {
	var passed, lost window
	add := func(sum *window, w window) {
		if w.odd > 0 {
			sum.odd, sum.first, sum.last = sum.odd+w.odd, min(sum.first, w.first), max(sum.last, w.last)
		}
		sum.sent += w.sent
	}
	passed.first, lost.first = time.Hour, time.Hour
	for _, one := range s.packets.all {
		w := one.since(p.from, p.to)
		if one.open {
			add(&lost, w)
			continue
		}
		add(&passed, w)
		if w.odd > 0 && !p.open {
			s.t.Errorf("%s: %s: %d of %d packets arrived, and should not have: those sent %s to %s after", p.name, one.name, w.odd, w.sent, ms(w.first), ms(w.last))
		}
	}
	for what, w := range map[string]window{"arrived of those that should not": passed, "were lost of the controls": lost} {
		if w.odd > 0 {
			s.t.Logf("%s (%s): %d of %d packets %s: those sent %s to %s after", p.name, ms(p.to.Sub(p.from)), w.odd, w.sent, what, ms(w.first), ms(w.last))
		}
	}
}

func ms(d time.Duration) string { return d.Round(time.Millisecond).String() }

// TestAttackStorm is rows 10 and 11: what must not be reached is not at any instant,
// while other programs flush and reload the packet filter, the daemon is killed and
// started and containers come and go (CVE-2025-54388, CVE-2025-54410); and with 2,000
// ports published and 500 connections a second to them (100 in make test), every
// connection reaches its container. Where another program can take rules of ours away, since nobody owns those
// of iptables, nor nftables' before Linux 6.9, it is open from then until they are made
// again, and at no other instant.
func TestAttackStorm(t *testing.T) {
	t.Parallel()
	flush := func(d string) bool { return strings.Contains(d, "flush") }
	for _, c := range []struct {
		name, backend string
		opens         func(string) bool
		env           []string
	}{
		{nftables, nftables, func(string) bool { return false }, nil},
		{"before Linux 6.9", nftables, flush, []string{nft.LacksEnv + "=persist"}},
		// firewalld, when it reloads, flushes iptables' tables too.
		{iptables, iptables, func(d string) bool { return flush(d) || containsAny(d, "iptables -F", "--reload") }, nil},
	} {
		if c.name != nftables && !full() {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			s := newStorm(t, c.backend, c.opens, c.env...)
			s.rage()
			s.calm()
		})
	}
}
