package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/fairlead/fairlead/internal/craft"
)

// joined are what was seen, each once.
func joined(seen map[string]bool) string {
	return strings.Join(slices.Sorted(maps.Keys(seen)), ", ")
}

// tryRawSocket has busybox's arping open a packet socket, which it must with NET_RAW.
func tryRawSocket(ctx context.Context, s *site) (string, error) {
	arping := func(flags ...string) error {
		args := append([]string{"run", "--rm", "--network", "A"}, flags...)
		_, err := s.Run(ctx, append(args, "demo", "arping", "-c1", "-w2", "-I", "eth0", gateA4)...)
		return err
	}
	if err := arping("--cap-add", "NET_RAW"); err != nil {
		return "", err
	}
	err := arping("--cap-drop", "NET_RAW")
	switch {
	case err == nil:
		return reached, nil
	case strings.Contains(err.Error(), "not permitted"):
		return "EPERM", nil
	}
	return "", err
}

// arp is an announcement that who has the hardware address has the IP address too.
func arp(mac net.HardwareAddr, addr string) ([]byte, error) {
	ip := net.ParseIP(addr).To4()
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{}, &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: layers.ARPReply, SourceHwAddress: mac, SourceProtAddress: ip, DstHwAddress: mac, DstProtAddress: ip,
	})
	return buf.Bytes(), err
}

// everybody is where broadcasts go.
var everybody = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// tryGratuitousARP says "the gateway is me" and looks at what the neighbour believes.
func tryGratuitousARP(_ context.Context, s *site) (string, error) {
	if s.a2.ping(gateA4) != reached {
		return "", errors.New("a2 does not reach its gateway")
	}
	w, err := s.a1.wire("eth0")
	if err != nil {
		return "", err
	}
	defer w.Close()
	believes := func() (bool, error) {
		out, err := s.a2.sh("ip neigh show " + gateA4)
		return strings.Contains(out, w.MAC.String()), err
	}
	if before, err := believes(); err != nil || before {
		return "", fmt.Errorf("the neighbour's table: %w", err)
	}
	for range 10 { // an entry that has just been confirmed is locked for a second (arp(7), locktime)
		frame, err := arp(w.MAC, gateA4)
		if err != nil {
			return "", err
		}
		if err := w.SendFrame(everybody, uint16(layers.EthernetTypeARP), frame); err != nil {
			return "", err
		}
		time.Sleep(silence / 10)
		if now, err := believes(); err != nil {
			return "", err
		} else if now {
			_, err := s.a2.sh("ip neigh flush all")
			return "believed", err
		}
	}
	return dropped, nil
}

// tryForeignMAC sends a datagram under a hardware address that nobody has; one under
// the container's own must come.
func tryForeignMAC(_ context.Context, s *site) (string, error) {
	return s.fromNeighbour(func(w *craft.Wire, _ *craft.Packet) { w.MAC = net.HardwareAddr{2, 0x66, 0, 0, 0, 1} })
}

// tryForeignSource sends one under the gateway's addresses.
func tryForeignSource(_ context.Context, s *site) (string, error) {
	return s.fromNeighbour(func(_ *craft.Wire, p *craft.Packet) {
		gateway := gateA4
		if p.Dst.Addr().Is6() {
			gateway = gateA6
		}
		p.Src = packet(p.Proto, gateway, gateway, "1").Src
	})
}

// fromNeighbour has a1 send to a2, once as itself and once with something forged.
func (s *site) fromNeighbour(forge func(*craft.Wire, *craft.Packet)) (string, error) {
	own4, own6, err := addrs(s.a1)
	if err != nil {
		return "", err
	}
	to4, to6, err := addrs(s.a2)
	if err != nil {
		return "", err
	}
	mac, err := s.a2.mac(to4)
	if err != nil {
		return "", err
	}
	w, err := s.a1.wire("eth0")
	if err != nil {
		return "", err
	}
	defer w.Close()
	own := w.MAC
	seen := make([]string, 2)
	for i, honest := range []craft.Packet{packet("udp", own4, to4, "80"), packet("udp", own6, to6, "80")} {
		forged := packet("udp", honest.Src.Addr().String(), honest.Dst.Addr().String(), "80")
		heard, err := s.a2.heard("eth0", []string{honest.Text, forged.Text}, func() error {
			w.MAC = own
			err := w.Send(mac, honest)
			forge(w, &forged)
			return errors.Join(err, w.Send(mac, forged))
		})
		if err != nil || !heard[honest.Text] {
			return "", errors.Join(errors.New("what a1 sends as itself does not come"), err)
		}
		seen[i] = dropped
		if heard[forged.Text] {
			seen[i] = reached
		}
	}
	return families(seen[0], seen[1]), nil
}

// experimental is an EtherType that IEEE 802 leaves to experiments.
const experimental = 0x88b5

// tryApart sends from one container to another that it is kept apart from. That its
// frames go out is seen where they may: on the network A.
func tryApart(_ context.Context, s *site) (string, error) {
	if s.Apart == nil {
		return "no such option", nil
	}
	seen := map[string]bool{}
	for _, pair := range [][2]space{{s.a1, s.a2}, {s.c1, s.c2}} {
		own, _, err := addrs(pair[0])
		if err != nil {
			return "", err
		}
		to, _, err := addrs(pair[1])
		if err != nil {
			return "", err
		}
		mac, err := pair[1].mac(to)
		if err != nil {
			return "", err
		}
		w, err := pair[0].wire("eth0")
		if err != nil {
			return "", err
		}
		defer w.Close()
		syn := packet("tcp", own, to, "80")
		announced, err := arp(w.MAC, own)
		if err != nil {
			return "", err
		}
		raw, arpText := fmt.Sprintf("raw %d", time.Now().UnixNano()), string(announced[8:])
		heard, err := pair[1].heard("eth0", []string{syn.Text, raw, arpText}, func() error {
			return errors.Join(w.Send(mac, syn), w.SendFrame(mac, experimental, []byte(raw)), w.SendFrame(everybody, uint16(layers.EthernetTypeARP), announced))
		})
		if err != nil {
			return "", err
		}
		if pair[0] == s.a1 {
			if len(heard) != 3 {
				return "", fmt.Errorf("of three frames between containers that may, %d came", len(heard))
			}
			continue
		}
		seen["raw frames "+verdict(heard[raw])] = true
		seen["ARP "+verdict(heard[arpText])] = true
		seen["TCP "+verdict(heard[syn.Text])] = true
	}
	if out := joined(seen); strings.Contains(out, reached) {
		return out, nil
	}
	return dropped, nil
}

func verdict(came bool) string {
	if came {
		return reached
	}
	return dropped
}

// sendsAs has a1 send datagrams to the segment under addresses that are not its own.
func sendsAs(as4, as6 string) func(context.Context, *site) (string, error) {
	return func(_ context.Context, s *site) (string, error) {
		own4, own6, err := addrs(s.a1)
		if err != nil {
			return "", err
		}
		via, err := s.host.mac(gateA4)
		if err != nil {
			return "", err
		}
		seen := make([]string, 2)
		for i, f := range [][3]string{{own4, as4, lan4}, {own6, as6, lan6}} {
			honest, forged := packet("udp", f[0], f[2], "7070"), packet("udp", f[1], f[2], "7070")
			heard, err := s.lan.heard("eth0", []string{honest.Text, forged.Text}, func() error {
				_, err := s.a1.shoot("eth0", via, honest, forged)
				return err
			})
			if err != nil || !heard[honest.Text] {
				return "", errors.Join(errors.New("what a1 sends as itself does not come out"), err)
			}
			seen[i] = dropped
			if heard[forged.Text] {
				seen[i] = "goes out"
			}
		}
		return families(seen[0], seen[1]), nil
	}
}

// tryPorts has a2 send a SYN to each port of its gateway, and says who answered besides
// what is published and what the host itself serves there, which both must.
func tryPorts(_ context.Context, s *site) (string, error) {
	own4, own6, err := addrs(s.a2)
	if err != nil {
		return "", err
	}
	via, err := s.host.mac(gateA4)
	if err != nil {
		return "", err
	}
	var seen [2]string
	for i, f := range [][2]string{{own4, gateA4}, {own6, gateA6}} {
		open, err := s.a2.scan(via, f[0], f[1])
		if err != nil {
			return "", err
		}
		if !open[7070] || !open[8080] {
			return "", fmt.Errorf("of the ports of %s only %v answer", f[1], open)
		}
		delete(open, 7070)
		delete(open, 8080)
		seen[i] = "none but the published and the host's own"
		if len(open) > 0 {
			seen[i] = fmt.Sprintf("others too: %v", slices.Sorted(maps.Keys(open)))
		}
	}
	return families(seen[0], seen[1]), nil
}

// scan sends a SYN to every port of an address, twice.
func (s space) scan(via net.HardwareAddr, own, to string) (map[uint16]bool, error) {
	w, err := s.wire("eth0")
	if err != nil {
		return nil, err
	}
	defer w.Close()
	open := map[uint16]bool{}
	for range 2 {
		first := packet("tcp", own, to, "1")
		hear := func(frame []byte) bool {
			if a, ok := craft.AnswerIn(frame); ok && a.Proto == "tcp" && a.Port == first.Src.Port() {
				open[a.Mark] = true
			}
			return false
		}
		for port := 1; port <= 65535; port++ {
			p := craft.Packet{Proto: "tcp", Src: first.Src, Dst: netip.AddrPortFrom(first.Dst.Addr(), uint16(port)), Mark: uint16(port)}
			if err := w.Send(via, p); err != nil {
				return nil, err
			}
			if port%256 != 0 { // more at once would not find room on the way
				continue
			}
			if err := w.Listen(time.Now().Add(2*time.Millisecond), hear); err != nil {
				return nil, err
			}
		}
		if err := w.Listen(time.Now().Add(silence), hear); err != nil {
			return nil, err
		}
	}
	return open, nil
}

// listening is the flag of a socket that others can connect to (__SO_ACCEPTCON in
// linux/net.h), in the fourth column of /proc/net/unix.
const listening = "00010000"

// tryAbstract lists the abstract sockets of the host's network namespace that listen.
// There was nothing in it before the engine.
func tryAbstract(_ context.Context, _ *site) (string, error) {
	text, err := os.ReadFile("/proc/thread-self/net/unix")
	if err != nil {
		return "", err
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 8 && f[3] == listening && strings.HasPrefix(f[7], "@") {
			seen["`"+f[7]+"`"] = true
		}
	}
	if len(seen) == 0 {
		return "none", nil
	}
	return joined(seen), nil
}
