package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// routes gives i1 default routes by hand, and the gateway an address where the engine
// gave its bridge none.
func (s *site) routes() error {
	_, err := s.i1.sh("ip route replace default via " + gateI4 + "; ip -6 route replace default via " + gateI6)
	return err
}

// tryOutward tries the world by all protocols; a2 may.
func tryOutward(_ context.Context, s *site) (string, error) {
	if err := s.routes(); err != nil {
		return "", err
	}
	var seen [2]string
	var errs []error
	for i, to := range []string{lan4, lan6} {
		through := map[string]bool{}
		for _, proto := range []string{"tcp", "udp"} {
			_, err := s.a2.must(proto, net.JoinHostPort(to, "7070"))
			_, outcome := s.i1.ask(proto, net.JoinHostPort(to, "7070"))
			errs, through[outcome] = append(errs, err), true
		}
		if s.a2.ping(to) != reached {
			errs = append(errs, fmt.Errorf("a2 does not reach %s", to))
		}
		through[s.i1.ping(to)] = true
		seen[i] = worst(through)
	}
	return families(seen[0], seen[1]), errors.Join(errs...)
}

// worst is that something was reached, where anything was.
func worst(seen map[string]bool) string {
	if seen[reached] {
		return reached
	}
	return joined(seen)
}

// tryAcross tries another network's container; the host may.
func tryAcross(_ context.Context, s *site) (string, error) {
	if err := s.routes(); err != nil {
		return "", err
	}
	v4, v6, err := addrs(s.b1)
	if err != nil {
		return "", err
	}
	to := [2]string{net.JoinHostPort(v4, "80"), net.JoinHostPort(v6, "80")}
	_, err4 := s.host.must("tcp", to[0])
	_, err6 := s.host.must("tcp", to[1])
	return s.i1.askBoth("tcp", to[0], to[1]), errors.Join(err4, err6)
}

// tryNames has i1 look up a name; what a1 looks up must come to lan's server.
func tryNames(ctx context.Context, s *site) (string, error) { return s.lookUp(ctx, "a1", "i1") }

// tryLocalNames does so where the host's name server is on its loopback, as a stub
// resolver is, with containers that are started then.
func tryLocalNames(ctx context.Context, s *site) (string, error) {
	if err := errors.Join(s.serveNames(s.host, "127.0.0.1"), os.WriteFile(s.resolvConf, []byte("nameserver 127.0.0.1\n"), 0o644)); err != nil {
		return "", err
	}
	for name, network := range map[string]string{"a3": "A", "i3": "I"} {
		if _, err := s.idle(ctx, name, "--network", network); err != nil {
			return "", err
		}
	}
	return s.lookUp(ctx, "a3", "i3")
}

// lookUp has two containers look up a name each, of which the first's must come to the
// host's name server.
func (s *site) lookUp(ctx context.Context, control, from string) (string, error) {
	stamp := time.Now().UnixNano()
	may, secret := fmt.Sprintf("open-%d.example.com", stamp), fmt.Sprintf("secret-%d.example.com", stamp)
	_, _ = s.Run(ctx, "exec", control, "nslookup", "-type=a", may)
	if !s.wasAsked(may) {
		return "", fmt.Errorf("what %s looks up is not asked of the host's name server", control)
	}
	_, _ = s.Run(ctx, "exec", from, "nslookup", "-type=a", secret)
	if s.wasAsked(secret) {
		return "asked upstream", nil
	}
	return "not asked upstream", nil
}

// tryHost tries services of the host's own at its addresses; a2 may.
func tryHost(_ context.Context, s *site) (string, error) {
	if err := s.routes(); err != nil {
		return "", err
	}
	var seen [2]string
	var errs []error
	for i, to := range [][2]string{{host4, gateI4}, {host6, gateI6}} {
		_, err := s.a2.must("tcp", net.JoinHostPort(to[0], hostsPort))
		errs = append(errs, err)
		outcome := map[string]bool{}
		for _, addr := range to {
			_, o := s.i1.ask("tcp", net.JoinHostPort(addr, hostsPort))
			outcome[o] = true
		}
		seen[i] = worst(outcome)
	}
	return families(seen[0], seen[1]), errors.Join(errs...)
}

// inet6 are the IPv6 addresses of a container's first link.
func inet6(s space) (string, error) {
	out, err := s.sh("ip -6 -o addr show dev eth0")
	return strings.TrimSpace(out), err
}

func tryLinkLocal(_ context.Context, s *site) (string, error) {
	has, err := inet6(s.v1)
	if strings.Contains(has, "fe80:") {
		return "there", err
	}
	return "none", err
}

// tryAdvertisement has v2 advertise a prefix to v1; what router advertises in the same
// way, lan must take.
func tryAdvertisement(_ context.Context, s *site) (string, error) {
	if took, err := s.advertise(s.router, s.lan, "2001:db8:667::"); err != nil || !took {
		return "", errors.Join(errors.New("lan takes no prefix of its router"), err)
	}
	for m, dev := range map[space]string{s.lan: "eth0", s.host: "uplink"} { // the rows to come are to find them as they were
		if _, err := m.sh("ip -6 addr flush dev " + dev + " dynamic; ip -6 route flush proto kernel 2001:db8:667::/64; ip -6 route flush proto ra"); err != nil {
			return "", err
		}
	}
	took, err := s.advertise(s.v2, s.v1, "2001:db8:666::")
	if took {
		return "taken", err
	}
	return "none", err
}

// advertise sends router advertisements out of the first link of one and says whether
// another has an address of the prefix then.
func (*site) advertise(from, to space, prefix string) (took bool, err error) {
	w, err := from.wire("eth0")
	if err != nil {
		return false, err
	}
	defer w.Close()
	source := net.IP{0xfe, 0x80, 0, 0, 0, 0, 0, 0, w.MAC[0] ^ 2, w.MAC[1], w.MAC[2], 0xff, 0xfe, w.MAC[3], w.MAC[4], w.MAC[5]}
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: source, DstIP: net.ParseIP("ff02::1")}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeRouterAdvertisement, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		return false, err
	}
	// RFC 4861, section 4.6.2: prefix information, on-link and autonomous.
	option := append([]byte{64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0}, net.ParseIP(prefix)...)
	buf := gopacket.NewSerializeBuffer()
	err = gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, icmp,
		&layers.ICMPv6RouterAdvertisement{HopLimit: 64, Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptPrefixInfo, Data: option}}})
	if err != nil {
		return false, err
	}
	for range 3 {
		if err := w.SendFrame(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, uint16(layers.EthernetTypeIPv6), buf.Bytes()); err != nil {
			return false, err
		}
		time.Sleep(silence)
		has, err := inet6(to)
		if err != nil || strings.Contains(has, strings.TrimSuffix(prefix, ":")) {
			return err == nil, err
		}
	}
	return false, nil
}
