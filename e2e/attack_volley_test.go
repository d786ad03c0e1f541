package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/craft"
	"github.com/fairlead/fairlead/internal/lab"
)

// shot is a crafted packet. An open one is a control, which is answered; no other is.
type shot struct {
	craft.Packet
	open bool
}

// aim is a packet from an address to an address and port ("" for the port of an echo
// request, which has none); volley gives it what tells it from the others.
func aim(proto, src, dst, port string) shot {
	if port == "" {
		port = "0"
	}
	return shot{Packet: craft.Packet{
		Proto: proto, Src: netip.AddrPortFrom(netip.MustParseAddr(src), 0), Dst: netip.MustParseAddrPort(at(dst, port)),
	}}
}

// control is a shot that must be answered.
func control(proto, src, dst, port string) shot {
	s := aim(proto, src, dst, port)
	s.open = true
	return s
}

// volley sends packets out of a link of a host, past its stack, to the hardware address
// of who is to pass them on, and fails the test unless the controls are answered and
// nothing else is. It returns the texts that the others carry, for ears elsewhere.
func volley(t *testing.T, h *lab.Host, dev string, via net.HardwareAddr, shots []shot) (texts []string) {
	t.Helper()
	shots = slices.Clone(shots)
	first := uint16(20000 + rand.IntN(20000)) // flows of an earlier volley may still be known
	for i := range shots {
		p := &shots[i].Packet
		p.Src, p.Mark = netip.AddrPortFrom(p.Src.Addr(), first+uint16(i)), uint16(rand.Uint32())
		p.Text = fmt.Sprintf("shot %d of %d ", i, rand.Uint64())
		if !shots[i].open {
			texts = append(texts, p.Text)
		}
	}
	var wire *craft.Wire
	if err := h.Do(func() (err error) { wire, err = craft.Open(dev); return err }); err != nil {
		t.Fatal(err)
	}
	defer wire.Close()
	answered, missing := make([]bool, len(shots)), true
	expected := make(map[craft.Answer]int, len(shots))
	for i, s := range shots {
		expected[s.Answer()] = i
	}
	// As long as lab.Unreachable waits for nothing, and longer for the controls.
	for begin := time.Now(); time.Since(begin) < time.Second || missing && time.Since(begin) < 10*time.Second; {
		for i, s := range shots {
			if answered[i] {
				continue
			}
			if err := wire.Send(via, s.Packet); err != nil {
				t.Fatal(err)
			}
		}
		err := wire.Listen(time.Now().Add(350*time.Millisecond), func(frame []byte) bool {
			if a, ok := craft.AnswerIn(frame); ok {
				if i, ours := expected[a]; ours {
					answered[i] = true
				}
			}
			return false
		})
		if err != nil {
			t.Fatal(err)
		}
		missing = slices.ContainsFunc(shots, func(s shot) bool { return s.open && !answered[expected[s.Answer()]] })
	}
	for i, s := range shots {
		switch {
		case s.open && !answered[i]:
			t.Errorf("crafted on %s: cannot tell: the control %s is not answered", h.Name(), s)
		case !s.open && answered[i]:
			t.Errorf("crafted on %s: %s is answered, and should not be", h.Name(), s)
		}
	}
	return texts
}

// hardware is the hardware address of a host's link that has the address.
func hardware(t *testing.T, h *lab.Host, addr string) net.HardwareAddr {
	t.Helper()
	l, _ := linkWith(t, h, addr)
	return l.HardwareAddr
}

// linkLocal is the link-local address of a host's link that has the address.
func linkLocal(t *testing.T, h *lab.Host, addr string) string {
	t.Helper()
	_, addrs := linkWith(t, h, addr)
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
			return p.Addr().String()
		}
	}
	t.Fatalf("the link of %s that has %s has no link-local address: %v", h.Name(), addr, addrs)
	return ""
}

// linkWith is a host's link that has the address, and all that it has.
func linkWith(t *testing.T, h *lab.Host, addr string) (with net.Interface, all []net.Addr) {
	t.Helper()
	err := h.Do(func() error {
		links, err := net.Interfaces()
		for _, l := range links {
			addrs, err := l.Addrs()
			if err != nil {
				return err
			}
			if slices.ContainsFunc(addrs, func(a net.Addr) bool { return strings.HasPrefix(a.String(), addr+"/") }) {
				with, all = l, addrs
			}
		}
		return err
	})
	if err != nil || all == nil {
		t.Fatalf("no link of %s has %s: %v", h.Name(), addr, err)
	}
	return with, all
}
