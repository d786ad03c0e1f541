package e2e

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/lab"
)

// The container of TestAttackBirth on its networks.
const (
	born4, born6       = "10.101.0.60", "fd00:a::60"
	bornMAC            = "02:42:0a:65:00:3c"
	neighbour4         = "10.102.0.60"
	neighbour6         = "fd00:b::60"
	subnetC4, subnetC6 = "10.104.0.0/24", "fd00:d::/64"
)

// TestAttackBirth is row 12: neighbours that are kept apart, containers of another
// network and the host's segment never pause to send to a container's address, from
// before it has a link until after it has none, and while its networks come and go. It
// hears nothing of that at any instant, and a neighbour who may reach it whenever it is
// there.
func TestAttackBirth(t *testing.T) {
	run := func(t *testing.T, backend string) {
		s := newSiteOn(t, backend)
		rounds := 3
		if full() {
			rounds = 20
		}
		births(t, s, rounds)
		if t.Failed() {
			t.Fatalf("so it is by %s\n%s", backend, s.rules())
		}
		s.consistent()
	}
	if full() {
		forBackends(t, run)
		return
	}
	t.Parallel()
	run(t, nftables)
}

func births(t *testing.T, s *site, rounds int) {
	t.Helper()
	// Where br_netfilter is loaded, the rules of packets drop what passes a bridge, too, and
	// it is not told whether those of frames do.
	for _, key := range []string{"net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"} {
		if was := s.host.Try("sysctl", "-n", key); was.Code == 0 {
			s.host.Sysctl(key, "0")
			defer s.host.Sysctl(key, strings.TrimSpace(was.Stdout))
		}
	}
	s.Must("network", "create", "--ipv6", "--subnet", subnetA4, "--subnet", subnetA6, "-o", "com.docker.network.bridge.enable_icc=false", "apart")
	s.Must("network", "create", "--ipv6", "--subnet", subnetB4, "--subnet", subnetB6, "together")
	s.Must("network", "create", "--ipv6", "--subnet", subnetC4, "--subnet", subnetC6, "other")
	attacker := s.idle("--network", "apart")
	stranger := s.idle("--network", "other")
	friend := s.idle("--network", "together")
	id := s.Must("create", "--name", "born", "--network", "name=apart,ip="+born4+",ip6="+born6+",mac-address="+bornMAC,
		"--network", "name=together,ip="+neighbour4+",ip6="+neighbour6, "demo", "sleep", "3600")
	p := newStreams(t)
	type pair = [2]any
	born, mac := pair{born4, born6}, must(net.ParseMAC(bornMAC))(t)
	everybody := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	own := pair{attacker.addr4, attacker.addr6}
	p.send(attacker.Host, "eth0", mac, each("a neighbour, to its hardware address", false, "tcp udp", "80", own, born)...)
	p.send(attacker.Host, "eth0", everybody, each("a neighbour, to everybody", false, "tcp udp", "80", own, born)...)
	p.send(attacker.Host, "eth0", hardware(t, s.host, "10.101.0.1"), each("a neighbour, by the gateway", false, "tcp udp", "80", own, born)...)
	p.send(stranger.Host, "eth0", hardware(t, s.host, "10.104.0.1"), each("another network", false, "tcp udp", "80", pair{stranger.addr4, stranger.addr6}, born)...)
	p.send(s.outside, "eth0", hardware(t, s.host, host4), each("the segment", false, "tcp udp", "80", pair{outside4, outside6}, born)...)
	friends := each("the control, a neighbour who may", true, "tcp udp", "80", pair{friend.addr4, friend.addr6}, pair{neighbour4, neighbour6})
	p.send(friend.Host, "eth0", everybody, friends...)
	ns := s.Container(id)
	heard := func() {
		t.Helper()
		for _, one := range friends {
			n := one.heardBy(ns)
			eventually(t, one.name+" is heard", func() bool { return one.heardBy(ns) > n })
		}
	}
	for round := range rounds {
		ready := make(chan func())
		go func() { ready <- p.ears(s, ns) }()
		s.Must("start", "born")
		stop := <-ready
		heard()
		s.Must("network", "disconnect", "apart", "born")
		s.Must("network", "connect", "--ip", born4, "--ip6", born6, "apart", "born")
		heard()
		if round%2 == 0 {
			// Whoever holds the namespace open keeps its links.
			s.Must("kill", "born")
			time.Sleep(100 * time.Millisecond)
			stop()
		} else {
			stop()
			s.Must("kill", "born")
		}
		s.Must("wait", "born")
		if t.Failed() {
			break
		}
	}
	p.end()
	for _, one := range p.all {
		switch n := one.heardBy(ns); {
		case one.open:
		case n > 0:
			t.Errorf("%s, to %s by %s: %d of %d packets were heard", one.name, one.packet.Dst, one.packet.Proto, n, one.count())
		case one.count() < 100:
			t.Errorf("%s: only %d packets were sent", one.name, one.count())
		}
	}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// ears waits until a container's namespace is there and hears whatever comes in by any
// link of it, also by those that come later.
func (s *streams) ears(at *site, ns *lab.Host) (stop func()) {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Microsecond) {
		names, _ := filepath.Glob(filepath.Join(at.ExecRoot, "netns", filepath.Base(ns.Path())))
		if len(names) == 0 {
			continue
		}
		var file *os.File
		err := ns.Do(func() error {
			const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network byte order
			fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all)
			if err == nil {
				file = os.NewFile(uintptr(fd), "ears")
			}
			return err
		})
		if err != nil {
			continue // it is not mounted yet
		}
		ctx, cancel := context.WithCancel(s.ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer file.Close()
			for buf := make([]byte, 64<<10); ctx.Err() == nil; {
				_ = file.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
				for n, err := file.Read(buf); err == nil; n, err = file.Read(buf) {
					s.note(ns.Name(), buf[:n])
				}
			}
		}()
		return func() { cancel(); <-done }
	}
	return func() {}
}
