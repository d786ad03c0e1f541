package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/bench/engine"
)

// The addresses of the machines. All but far are on the host's segment, or on that of
// its second uplink (abroad).
const (
	host4, host6       = "192.0.2.1", "2001:db8::1"
	second4, second6   = "192.0.2.11", "2001:db8::11"
	lan4, lan6         = "192.0.2.2", "2001:db8::2"
	router4, router6   = "192.0.2.254", "2001:db8::ffff"
	far4, far6         = "198.51.100.2", "2001:db8:f::2"
	uplink4, uplink6   = "203.0.113.1", "2001:db8:2::1"
	abroad4, abroad6   = "203.0.113.2", "2001:db8:2::2"
	gateA4, gateA6     = "10.101.0.1", "fd00:a::1"
	gateI4, gateI6     = "10.103.0.1", "fd00:c::1"
	hostsPort, onLocal = "7070", "7077" // the host's own services, on all its addresses and on loopback
)

// site is one engine's host with the machines around it and its containers: a1 and a2
// on A, b1 on B, i1 on the internal network I, v1 and v2 on one that has IPv4 alone, and
// c1 and c2 where containers are kept apart. a1 publishes 8080 everywhere, 8081 on
// loopback and 8082 on the host's second address, each to its port 80; all serve 80
// and 81.
type site struct {
	*engine.Engine
	host, lan, router, far, abroad space
	a1, a2, b1, i1, v1, v2, c1, c2 space

	// resolvConf is the host's file.
	resolvConf string

	mu sync.Mutex
	// asked are the names that the host's name servers were asked for.
	asked []string
}

// wires makes the machines around the host, which is the calling process' namespace.
const wires = `set -e
for n in segment lan router far abroad; do ip netns add $n; ip -n $n link set lo up; done
ip -n segment link add br0 type bridge; ip -n segment link set br0 up
join() { ip link add $2 netns $1 type veth peer name p-$1 netns segment; ip -n segment link set p-$1 master br0 up; ip -n $1 link set $2 up; }
ip link add uplink type veth peer name p-host netns segment; ip -n segment link set p-host master br0 up; ip link set uplink up
join lan eth0; join router eth0
ip -n router link add eth1 type veth peer name eth0 netns far; ip -n router link set eth1 up; ip -n far link set eth0 up
ip link add uplink2 type veth peer name eth0 netns abroad; ip link set uplink2 up; ip -n abroad link set eth0 up
for a in 192.0.2.1/24 192.0.2.11/24 2001:db8::1/64 2001:db8::11/64; do ip addr add $a dev uplink nodad; done
for a in 203.0.113.1/24 2001:db8:2::1/64; do ip addr add $a dev uplink2 nodad; done
for a in 192.0.2.2/24 2001:db8::2/64; do ip -n lan addr add $a dev eth0 nodad; done
for a in 192.0.2.254/24 2001:db8::ffff/64; do ip -n router addr add $a dev eth0 nodad; done
for a in 198.51.100.1/24 2001:db8:f::1/64; do ip -n router addr add $a dev eth1 nodad; done
for a in 198.51.100.2/24 2001:db8:f::2/64; do ip -n far addr add $a dev eth0 nodad; done
for a in 203.0.113.2/24 2001:db8:2::2/64; do ip -n abroad addr add $a dev eth0 nodad; done
ip route add default via 192.0.2.254; ip -6 route add default via 2001:db8::ffff
ip -n lan route add default via 192.0.2.1; ip -n lan -6 route add default via 2001:db8::1
ip -n abroad route add default via 203.0.113.1; ip -n abroad -6 route add default via 2001:db8:2::1
ip -n far route add default via 198.51.100.1; ip -n far -6 route add default via 2001:db8:f::1
nsenter --net=/run/netns/router sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip -n router route add 10.0.0.0/8 via 192.0.2.1; ip -n router -6 route add fd00::/8 via 2001:db8::1
`

// newSite makes the site with an engine.
func newSite(ctx context.Context, name, dir string) (*site, error) {
	e, err := engine.New(name, dir)
	if err != nil {
		return nil, err
	}
	s := &site{Engine: e, host: space{"host", "/proc/self/ns/net"}, resolvConf: filepath.Join(dir, "resolv.conf")}
	if out, err := exec.Command("sh", "-c", wires).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("the wires: %w: %s", err, out)
	}
	for at, n := range map[*space]string{&s.lan: "lan", &s.router: "router", &s.far: "far", &s.abroad: "abroad"} {
		*at = space{n, "/run/netns/" + n}
	}
	if err := errors.Join(nameServerIs(s.resolvConf, lan4), s.serveNames(s.lan, lan4)); err != nil {
		return nil, err
	}
	if err := s.Start(ctx, dir); err != nil {
		return nil, err
	}
	return s, errors.Join(s.networks(ctx), s.containers(ctx), s.servers())
}

func (s *site) networks(ctx context.Context) error {
	dual := func(n string) []string {
		return []string{"--ipv6", "--subnet", "10.10" + n + ".0.0/24", "--subnet", "fd00:" + map[string]string{"1": "a", "2": "b", "3": "c"}[n] + "::/64"}
	}
	commands := [][]string{append(append(dual("1"), s.Unlimited...), "A"), append(dual("2"), "B"), append(dual("3"), "--internal", "I"), {"--subnet", "10.105.0.0/24", "V"}}
	if s.Apart != nil {
		commands = append(commands, append(append([]string{"--subnet", "10.104.0.0/24"}, s.Apart...), "C"))
	}
	for _, c := range commands {
		if _, err := s.Run(ctx, append([]string{"network", "create"}, c...)...); err != nil {
			return err
		}
	}
	return nil
}

// containers starts them with CAP_NET_RAW, which Podman does not give by itself: what
// the attacks send below IP is what it allows.
func (s *site) containers(ctx context.Context) error {
	all := []struct {
		at      *space
		name    string
		network string
		flags   []string
	}{
		{&s.a1, "a1", "A", []string{
			"-p", "8080:80", "-p", "[::]:8080:80", "-p", "127.0.0.1:8081:80", "-p", "[::1]:8081:80", "-p", second4 + ":8082:80", "-p", "[" + second6 + "]:8082:80",
		}},
		{&s.a2, "a2", "A", nil},
		{&s.b1, "b1", "B", nil},
		{&s.i1, "i1", "I", nil},
		{&s.v1, "v1", "V", nil},
		{&s.v2, "v2", "V", nil},
		{&s.c1, "c1", "C", nil},
		{&s.c2, "c2", "C", nil},
	}
	for _, c := range all {
		if c.network == "C" && s.Apart == nil {
			continue
		}
		if c.name == "a1" && s.Name != "podman" {
			c.flags = c.flags[:2:2]
			c.flags = append(c.flags, "-p", "127.0.0.1:8081:80", "-p", "[::1]:8081:80", "-p", second4+":8082:80", "-p", "["+second6+"]:8082:80")
		}
		var err error
		if *c.at, err = s.idle(ctx, c.name, append([]string{"--network", c.network, "--cap-add", "NET_RAW"}, c.flags...)...); err != nil {
			return err
		}
	}
	return nil
}

// servers starts what is attacked, and what shows that the attackers can.
func (s *site) servers() error {
	var errs []error
	for _, c := range []space{s.a1, s.a2, s.b1, s.i1, s.v1, s.v2, s.c1, s.c2} {
		if c.path == "" {
			continue
		}
		for _, port := range []string{"80", "81"} {
			errs = append(errs, c.serve("0.0.0.0:"+port))
			if c.name != "v1" && c.name != "v2" && c.name != "c1" && c.name != "c2" {
				errs = append(errs, c.serve("[::]:"+port))
			}
		}
	}
	for _, m := range []space{s.lan, s.far, s.abroad} {
		errs = append(errs, m.serve("0.0.0.0:7070"), m.serve("[::]:7070"))
	}
	for _, addr := range []string{host4, host6, uplink4, uplink6, gateA4, gateA6} {
		errs = append(errs, s.host.serve(net.JoinHostPort(addr, hostsPort)))
	}
	// Some engines give an internal network's bridge no address of the host.
	for _, addr := range []string{gateI4, gateI6} {
		_ = s.host.serve(net.JoinHostPort(addr, hostsPort))
	}
	for _, addr := range []string{"127.0.0.1", "::1"} {
		errs = append(errs, s.host.serve(net.JoinHostPort(addr, onLocal)))
	}
	return errors.Join(errs...)
}

// addrs are a container's addresses on its first link, of both families.
func addrs(s space) (v4, v6 string, err error) {
	err = s.do(func() error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		all, err := link.Addrs()
		for _, a := range all {
			p, err := netip.ParsePrefix(a.String())
			switch {
			case err != nil:
				return err
			case p.Addr().Is4():
				v4 = p.Addr().String()
			case !p.Addr().IsLinkLocalUnicast():
				v6 = p.Addr().String()
			}
		}
		return err
	})
	return v4, v6, err
}

// nameServerIs has the host ask that server.
func nameServerIs(file, addr string) error {
	if err := os.WriteFile(file, []byte("nameserver "+addr+"\n"), 0o644); err != nil {
		return err
	}
	path, err := filepath.EvalSymlinks("/etc/resolv.conf")
	if err != nil {
		return err
	}
	return unix.Mount(file, path, "", unix.MS_BIND, "")
}

// serveNames starts a name server, which knows nothing and remembers what it was asked.
func (s *site) serveNames(on space, addr string) error {
	return on.do(func() error {
		p, err := net.ListenPacket("udp4", addr+":53")
		if err != nil {
			return err
		}
		server := &dns.Server{PacketConn: p, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
			s.mu.Lock()
			for _, q := range m.Question {
				s.asked = append(s.asked, q.Name)
			}
			s.mu.Unlock()
			_ = w.WriteMsg(new(dns.Msg).SetRcode(m, dns.RcodeNameError))
		})}
		go func() { _ = server.ActivateAndServe() }()
		return nil
	})
}

// wasAsked says whether a name server was asked for a name, within a while.
func (s *site) wasAsked(name string) bool {
	return until(silence+500*time.Millisecond, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, n := range s.asked {
			if n == name+"." {
				return nil
			}
		}
		return errors.New("not asked")
	}) == nil
}
