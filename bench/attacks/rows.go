package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/craft"
)

// row is an attack of docs/SECURITY.md and what becomes of it. An error says that it
// cannot be told, since the control failed.
type row struct {
	number, attack string
	try            func(ctx context.Context, s *site) (seen string, err error)
}

// rows are in the order they are tried: what breaks the site comes last.
var rows = []row{
	{"2", "a container without `NET_RAW` opens a raw socket", tryRawSocket},
	{"3", "a container tells its neighbour that it is the gateway (ARP)", tryGratuitousARP},
	{"3", "a container sends to its neighbour under a foreign hardware address", tryForeignMAC},
	{"3", "a container sends to its neighbour under the gateway's IP address", tryForeignSource},
	{"4", "containers kept apart: raw frames, ARP, TCP to the neighbour", tryApart},
	{"5", "from the segment, a crafted packet for 127.0.0.1 and a port published there", trySegmentToPublished},
	{"5", "the same, where another program has set `route_localnet`", withLocalnet(trySegmentToPublished)},
	{"6", "from a container, a crafted packet for 127.0.0.1 and a service of the host's own", tryContainerToLoopback},
	{"6", "the same, where another program has set `route_localnet`", withLocalnet(tryContainerToLoopback)},
	{"7", "from the segment, by a route: a port that is not published", directly("81")},
	{"8", "from the segment, by a route: the container's port, published as another", directly("80")},
	{"9", "from the segment: a port that is published on another address of the host", tryOtherAddress},
	{"13", "a container asks an external port 53 while the host's is published", tryExternalDNS},
	{"14", "internal network: outward, with a route made by hand", tryOutward},
	{"14", "internal network: to a container of another network", tryAcross},
	{"15", "internal network: a name that carries data comes to the host's name server", tryNames},
	{"15", "the same, where the host's name server is on its loopback", tryLocalNames},
	{"16", "internal network: the host's own services, by its addresses", tryHost},
	{"17", "network without IPv6: a link-local address", tryLinkLocal},
	{"17", "network without IPv6: an address by a neighbour's router advertisement", tryAdvertisement},
	{"18", "a container sends outward as a container of another network", sendsAs("10.102.0.77", "fd00:b::77")},
	{"18", "a container sends outward as the host", sendsAs(second4, second6)},
	{"18", "a container sends outward as a stranger", sendsAs("203.0.113.77", "2001:db8:77::1")},
	{"20", "from behind a router, to a published port: whom the container sees", tryPeer},
	{"27", "a container tries all TCP ports of the host's", tryPorts},
	{"29", "abstract sockets that a container in the host's network can connect to", tryAbstract},
	{"33", "from the segment, through the host to its other uplink", tryForwarding},
	{"10", "`nft flush ruleset`, then row 7", tryFlushed},
	{"10", "`nft flush ruleset`, then a published port", tryFlushedPublished},
}

// families puts together what was seen by both.
func families(v4, v6 string) string {
	if v4 == v6 {
		return v4
	}
	return "IPv4 " + v4 + ", IPv6 " + v6
}

// packet is a crafted one with a text of its own.
func packet(proto, src, dst, port string) craft.Packet {
	return craft.Packet{
		Proto: proto, Src: netip.AddrPortFrom(netip.MustParseAddr(src), uint16(20000+rand.IntN(40000))),
		Dst: netip.MustParseAddrPort(net.JoinHostPort(dst, port)), Mark: uint16(rand.Uint32()), Text: fmt.Sprintf("attack %d", rand.Uint64()),
	}
}

// shoot sends crafted packets out of a link to a hardware address, three times, and
// says which are answered.
func (s space) shoot(dev string, via net.HardwareAddr, packets ...craft.Packet) ([]string, error) {
	w, err := s.wire(dev)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	outcome := make([]string, len(packets))
	for range 3 {
		for i, p := range packets {
			if outcome[i] == "" {
				outcome[i] = dropped
			}
			if err := w.Send(via, p); err != nil {
				return nil, err
			}
		}
		err := w.Listen(time.Now().Add(silence/2), func(frame []byte) bool {
			a, ok := craft.AnswerIn(frame)
			for i, p := range packets {
				if ok && p.Answer() == a {
					outcome[i] = reached
				}
			}
			return false
		})
		if err != nil {
			return nil, err
		}
	}
	return outcome, nil
}

// shootAt is shoot by both families: a port at two addresses, and as the control a port
// at two others, which must answer.
func (s space) shootAt(via net.HardwareAddr, from, to [2]string, port string, may [2]string, mayPort string) (string, error) {
	out, err := s.shoot("eth0", via,
		packet("tcp", from[0], to[0], port), packet("tcp", from[1], to[1], port),
		packet("tcp", from[0], may[0], mayPort), packet("tcp", from[1], may[1], mayPort))
	if err != nil {
		return "", err
	}
	if out[2] != reached || out[3] != reached {
		return "", fmt.Errorf("the control is %s", families(out[2], out[3]))
	}
	return families(out[0], out[1]), nil
}

func trySegmentToPublished(_ context.Context, s *site) (string, error) {
	via, err := s.host.mac(host4)
	if err != nil {
		return "", err
	}
	return s.lan.shootAt(via, [2]string{lan4, lan6}, [2]string{"127.0.0.1", "::1"}, "8081", [2]string{host4, host6}, hostsPort)
}

func tryContainerToLoopback(_ context.Context, s *site) (string, error) {
	via, err := s.host.mac(gateA4)
	if err != nil {
		return "", err
	}
	v4, v6, err := addrs(s.a2)
	if err != nil {
		return "", err
	}
	return s.a2.shootAt(via, [2]string{v4, v6}, [2]string{"127.0.0.1", "::1"}, onLocal, [2]string{gateA4, gateA6}, hostsPort)
}

// withLocalnet tries where the kernel routes packets for 127.0.0.0/8 from elsewhere, as
// some programs (kube-proxy, say) have it.
func withLocalnet(try func(context.Context, *site) (string, error)) func(context.Context, *site) (string, error) {
	return func(ctx context.Context, s *site) (string, error) {
		if _, err := s.host.sh("sysctl -qw net.ipv4.conf.all.route_localnet=1"); err != nil {
			return "", err
		}
		seen, err := try(ctx, s)
		_, err2 := s.host.sh("sysctl -qw net.ipv4.conf.all.route_localnet=0")
		return seen, errors.Join(err, err2)
	}
}

// directly tries a container's own address from the segment. The host may.
func directly(port string) func(context.Context, *site) (string, error) {
	return func(_ context.Context, s *site) (string, error) {
		v4, v6, err := addrs(s.a1)
		if err != nil {
			return "", err
		}
		to := [2]string{net.JoinHostPort(v4, port), net.JoinHostPort(v6, port)}
		_, err4 := s.host.must("tcp", to[0])
		_, err6 := s.host.must("tcp", to[1])
		return s.lan.askBoth("tcp", to[0], to[1]), errors.Join(err4, err6)
	}
}

// askBoth asks at two addresses, one of each family.
func (s space) askBoth(proto, v4, v6 string) string {
	_, out4 := s.ask(proto, v4)
	_, out6 := s.ask(proto, v6)
	return families(out4, out6)
}

// tryOtherAddress asks where the port is not published; where it is must answer.
func tryOtherAddress(_ context.Context, s *site) (string, error) {
	_, err4 := s.lan.must("tcp", second4+":8082")
	_, err6 := s.lan.must("tcp", "["+second6+"]:8082")
	return s.lan.askBoth("tcp", host4+":8082", "["+host6+"]:8082"), errors.Join(err4, err6)
}

// tryExternalDNS publishes port 53 and asks far's.
func tryExternalDNS(ctx context.Context, s *site) (string, error) {
	if err := errors.Join(s.far.serve("0.0.0.0:53"), s.far.serve("[::]:53")); err != nil {
		return "", err
	}
	n1, err := s.idle(ctx, "n1", "--network", "B", "-p", "53:53/tcp", "-p", "53:53/udp")
	if err != nil && strings.Contains(err.Error(), "address already in use") {
		return "port 53 cannot be published: address already in use", nil
	} else if err != nil {
		return "", err
	}
	if err := errors.Join(n1.serve("0.0.0.0:53"), n1.serve("[::]:53")); err != nil {
		return "", err
	}
	if answer, err := s.lan.must("tcp", host4+":53"); err != nil || !strings.HasPrefix(answer, "n1 ") {
		return "", fmt.Errorf("the published port: %q, %w", answer, err)
	}
	seen := map[string]bool{}
	for _, proto := range []string{"tcp", "udp"} {
		for _, to := range []string{far4 + ":53", "[" + far6 + "]:53"} {
			answer, outcome := s.a1.ask(proto, to)
			who, _, _ := strings.Cut(answer, " ")
			switch {
			case outcome != reached:
				seen[outcome] = true
			case who == "far":
				seen["the external one answers"] = true
			default:
				seen["**"+who+"** answers"] = true
			}
		}
	}
	_, err = s.Run(ctx, "rm", "-f", "n1")
	return joined(seen), err
}

// tryPeer asks what a container says of who asks from behind a router.
func tryPeer(_ context.Context, s *site) (string, error) {
	seen := make([]string, 2)
	for i, to := range []string{host4 + ":8080", "[" + host6 + "]:8080"} {
		answer, err := s.far.must("tcp", to)
		if err != nil {
			return "", err
		}
		_, peer, _ := strings.Cut(answer, " ")
		ap, err := netip.ParseAddrPort(peer)
		if err != nil {
			return "", err
		}
		seen[i] = "the true address"
		if got := ap.Addr().Unmap().String(); got != [2]string{far4, far6}[i] {
			seen[i] = got
		}
	}
	return families(seen[0], seen[1]), nil
}

// tryForwarding goes through the host, which must reach there itself.
func tryForwarding(_ context.Context, s *site) (string, error) {
	_, err4 := s.host.must("tcp", abroad4+":7070")
	_, err6 := s.host.must("tcp", "["+abroad6+"]:7070")
	return s.lan.askBoth("tcp", abroad4+":7070", "["+abroad6+"]:7070"), errors.Join(err4, err6)
}

// tryFlushed takes all rules away and, after an engine has had time to notice, tries
// what is not published.
func tryFlushed(ctx context.Context, s *site) (string, error) {
	if _, err := s.host.sh("nft flush ruleset; sleep 3"); err != nil {
		return "", err
	}
	return directly("81")(ctx, s)
}

func tryFlushedPublished(_ context.Context, s *site) (string, error) {
	return s.lan.askBoth("tcp", host4+":8080", "["+host6+"]:8080"), nil
}
