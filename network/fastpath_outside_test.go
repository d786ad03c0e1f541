package network

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/network/spec"
)

// fastOutside is a host with the fast path, and a container on a dual-stack network that
// publishes a port, where it echoes, to another machine.
func fastOutside(t *testing.T, change ...func(*Config)) (h *host, a spec.Attachment, far *os.File) {
	t.Helper()
	filterFrames(t, "0") // a namespace begins with 1 where br_netfilter is loaded
	t.Cleanup(func() { filterFrames(t, "1") })
	h = newHost(t, append(change, func(c *Config) { c.FastPath = true })...)
	far = outside(t)
	h.network(t, spec.NetworkRequest{Name: "dual", IPv6: true})
	a = h.attach(t, 1, "dual", tcp(8080, 80))
	serve(t, a, "80")
	h.joined(t, 1)
	return h, a, far
}

const (
	published4 = "10.77.0.1:8080"
	published6 = "[fd77::1]:8080"
)

// live is a connection to a published port from outside.
type live struct {
	net.Conn
	h *host
	e spec.Endpoint
}

func (h *host) live(t *testing.T, far *os.File, e spec.Endpoint, addr string) live {
	t.Helper()
	c, err := dialFrom(far, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return live{c, h, e}
}

// talk sends so many words that come back, and returns how many frames of them came to the
// container past routing and the bridge.
func (l live) talk(t *testing.T, words int) uint64 {
	t.Helper()
	before := l.h.fast.received()[l.e.HostIf].SentPackets
	for i := range words {
		if err := echo(l, fmt.Sprintf("word %d", i)); err != nil {
			t.Fatalf("word %d: %v", i, err)
		}
	}
	return l.h.fast.received()[l.e.HostIf].SentPackets - before
}

// fast talks until the connection takes the fast path.
func (l live) fast(t *testing.T) {
	t.Helper()
	l.h.until(t, "the connection with "+l.RemoteAddr().String()+" takes the fast path", func() bool { return l.talk(t, 16) >= 16 })
}

// connections waits until so many take the fast path.
func (h *host) connections(t *testing.T, n int) {
	t.Helper()
	h.until(t, fmt.Sprintf("%d connections take the fast path", n), func() bool { return h.FastPath().Connections == n })
}

// TestFastPathOutside: long connections take the fast path, both to a published port and
// from a container, and all that comes before and after them is as without.
func TestFastPathOutside(t *testing.T) {
	h, a, far := fastOutside(t)
	short := h.live(t, far, a.Endpoints[0], published4)
	if n := short.talk(t, 20); n > 0 {
		t.Errorf("%d of the first frames came by the fast path", n)
	}
	for _, addr := range []string{published4, published6} {
		l := h.live(t, far, a.Endpoints[0], addr)
		l.fast(t)
		if n := h.FastPath().Connections; n != 1 {
			t.Errorf("%s: %d connections take the fast path", addr, n)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		h.connections(t, 0)
	}

	// From the container, which is known by the host's address.
	for _, at := range []string{"10.77.0.2", "fd77::2"} {
		var l net.Listener
		if err := netns.Do(far, func() (err error) { l, err = net.Listen("tcp", net.JoinHostPort(at, "0")); return err }); err != nil {
			t.Fatal(err)
		}
		from := make(chan string, 1)
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			from <- c.RemoteAddr().(*net.TCPAddr).IP.String()
			for {
				b := make([]byte, 100)
				n, err := c.Read(b)
				if err != nil {
					_ = c.Close()
					return
				}
				_, _ = c.Write(b[:n])
			}
		}()
		out := live{inside(t, a, func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }), h, a.Endpoints[0]}
		out.fast(t)
		if got, want := <-from, map[string]string{"10.77.0.2": "10.77.0.1", "fd77::2": "fd77::1"}[at]; got != want {
			t.Errorf("%s sees the container as %s", at, got)
		}
		_ = out.Close()
		h.connections(t, 0)
		_ = l.Close()
	}
	if n := short.talk(t, 4); n > 0 {
		t.Errorf("%d frames of a short connection came by the fast path", n)
	}
	h.clean(t)
}

// TestFastPathOutsideInTheWay: whoever has a say on what the host routes has it also of
// connections that take the fast path already, and of those that come.
func TestFastPathOutsideInTheWay(t *testing.T) {
	h, a, far := fastOutside(t)
	l := h.live(t, far, a.Endpoints[0], published4)
	// Who was there before the first connection.
	shell(t, "tc qdisc add dev uplink0 clsact")
	if n := l.talk(t, 200); n > 0 {
		t.Errorf("%d frames came by the fast path past a classifier", n)
	}
	shell(t, "tc qdisc del dev uplink0 clsact")
	l.fast(t)
	for _, c := range []struct{ what, do, undo, reason string }{
		{"a foreign chain without rules", "nft 'add table ip mine; add chain ip mine forward { type filter hook forward priority 0; }; add chain ip mine in { type filter hook input priority 0; }; add rule ip mine in counter'", "", ""},
		{"a foreign rule", "nft add rule ip mine forward counter", "nft delete table ip mine", "nft chain ip mine forward has rules"},
		{"connections are counted", "sysctl -w net.netfilter.nf_conntrack_acct=1", "sysctl -w net.netfilter.nf_conntrack_acct=0", "nf_conntrack_acct"},
		{"IPsec", "ip xfrm policy add src 10.77.0.0/24 dst 10.99.0.0/24 dir out tmpl proto esp", "ip xfrm policy deleteall", "encrypts"},
		{"br_netfilter", "sysctl -w net.bridge.bridge-nf-call-iptables=1", "sysctl -w net.bridge.bridge-nf-call-iptables=0", "br_netfilter"},
		{"a capture at the bridge", "ip link set " + a.Endpoints[0].Bridge + " promisc on", "ip link set " + a.Endpoints[0].Bridge + " promisc off", "captures at its bridge"},
		{"a classifier at the bridge", "tc qdisc add dev " + a.Endpoints[0].Bridge + " clsact", "tc qdisc del dev " + a.Endpoints[0].Bridge + " clsact", "tc classifies what comes in at link " + a.Endpoints[0].Bridge},
		{"a queue of the bridge", "tc qdisc add dev " + a.Endpoints[0].Bridge + " root pfifo", "tc qdisc del dev " + a.Endpoints[0].Bridge + " root", "link " + a.Endpoints[0].Bridge + " has a queue"},
		{"routes by DSCP", "ip rule add tos 0x10 lookup 100", "ip rule del tos 0x10 lookup 100", "by DSCP"},
		{"a classifier at the link outside", "tc qdisc add dev uplink0 clsact", "tc qdisc del dev uplink0 clsact", "tc classifies what comes in at link uplink0"},
	} {
		shell(t, "%s", c.do)
		if c.reason != "" {
			h.reason(t, c.reason)
			h.connections(t, 0)
			if n := l.talk(t, 100); n > 0 {
				t.Errorf("%s: %d frames came by the fast path", c.what, n)
			}
		} else if n := l.talk(t, 16); n < 16 {
			t.Errorf("%s: %d of 16 frames came by the fast path", c.what, n)
		}
		if c.undo != "" {
			shell(t, "%s", c.undo)
			l.fast(t)
		}
	}
	h.clean(t)
}

// TestFastPathOutsideIPTables: the other back end's rules see all that is routed.
func TestFastPathOutsideIPTables(t *testing.T) {
	h, a, far := fastOutside(t, func(c *Config) { c.Firewall = FirewallIPTables })
	h.reason(t, "--firewall-backend=iptables see all")
	if n := h.live(t, far, a.Endpoints[0], published4).talk(t, 100); n > 0 {
		t.Errorf("%d frames came by the fast path", n)
	}
}

// TestFastPathOutsideFollows: what is forgotten, led elsewhere or taken away is so for
// connections on the fast path, too.
func TestFastPathOutsideFollows(t *testing.T) {
	h, a, far := fastOutside(t)
	l := h.live(t, far, a.Endpoints[0], published4)
	l.fast(t)

	// There is no way back any more, as soon as others say so.
	shell(t, "ip route add blackhole 10.77.0.2/32")
	h.connections(t, 0)
	if err := echo(l, "hello"); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("over a blackhole: %v", err)
	}
	shell(t, "ip route del blackhole 10.77.0.2/32")
	l = h.live(t, far, a.Endpoints[0], published4)
	l.fast(t)

	// Another hardware address for the link, or a smaller MTU.
	for do, so := range map[string]func(*passing) bool{
		"ip link set uplink0 address 02:00:00:00:77:01": func(p *passing) bool { return p.LinkMAC.String() == "02:00:00:00:77:01" },
		"ip link set uplink0 mtu 1400":                  func(p *passing) bool { return p.LinkMTU == 1400 },
	} {
		shell(t, "%s", do)
		h.until(t, do, func() bool {
			l.fast(t)
			h.fast.mu.Lock()
			defer h.fast.mu.Unlock()
			for _, p := range h.fast.outside.flows {
				return so(p)
			}
			return false
		})
	}

	// Somebody forgets it.
	command(t, "conntrack", "-D", "-p", "tcp", "--dport", "8080")
	h.connections(t, 0)
	_ = l.Close()

	// The container goes, and with it what is left of its address.
	l = h.live(t, far, a.Endpoints[0], published4)
	l.fast(t)
	if err := h.Detach(t.Context(), a.Sandbox.ID); err != nil {
		t.Fatal(err)
	}
	if n := h.FastPath().Connections; n > 0 {
		t.Errorf("%d connections after the end of their container", n)
	}
	b := h.attach(t, 2, "dual", tcp(8080, 80))
	if b.Endpoints[0].Addr4 != a.Endpoints[0].Addr4 {
		t.Fatalf("the address is %s, want that of the one before", b.Endpoints[0].Addr4)
	}
	serve(t, b, "80")
	h.joined(t, 1)
	if err := echo(l, "hello"); err == nil {
		t.Error("the next container answers on a connection of the last one's")
	}
	n := h.live(t, far, b.Endpoints[0], published4)
	n.fast(t)

	// A daemon that comes anew finds it in the middle.
	h.restart(t)
	h.joined(t, 1)
	n.fast(t)
	h.stopHealing()
	if got := n.talk(t, 16); got > 0 {
		t.Errorf("%d frames came by the fast path with nobody to allow it", got)
	}
	h.startHealing()
	h.clean(t)
}

// TestFastPathOutsidePorts: a connection goes on when its port is led elsewhere, and no
// address is left that was another's.
func TestFastPathOutsidePorts(t *testing.T) {
	h, a, far := fastOutside(t)
	h.network(t, spec.NetworkRequest{Name: "second", IPv6: true})
	l := h.live(t, far, a.Endpoints[0], published4)
	l.fast(t)
	b := h.connect(t, a, spec.EndpointRequest{Network: "second", GwPriority: 5})
	if b.Ports[0].Container.Addr() == a.Ports[0].Container.Addr() {
		t.Fatalf("ports lead to %v still", b.Ports)
	}
	l.fast(t)
	n := h.live(t, far, b.Endpoints[1], published4)
	n.fast(t)
	h.disconnect(t, a, "dual")
	h.connections(t, 1)
	if got := n.talk(t, 16); got < 16 {
		t.Errorf("%d of 16 frames of the other connection came by the fast path", got)
	}
	if err := echo(l, "hello"); err == nil {
		t.Error("a connection to an address that is gone goes on")
	}
	for _, addr := range []netip.AddrPort{netip.MustParseAddrPort(published4), netip.MustParseAddrPort(published6)} {
		h.live(t, far, b.Endpoints[1], addr.String()).talk(t, 2)
	}
	h.clean(t)
}

// TestFastPathOutsideReset: a reset is heard after more than conntrack can count, of which it
// saw next to nothing.
func TestFastPathOutsideReset(t *testing.T) {
	h, a, far := fastOutside(t)
	var l net.Listener
	if err := netns.Do(far, func() (err error) { l, err = net.Listen("tcp", "10.77.0.2:0"); return err }); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const size = 1<<31 + 1<<28
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		word := make([]byte, 100)
		for n, err := c.Read(word); err == nil && string(word[:n]) != "stream"; n, err = c.Read(word) {
			_, _ = c.Write(word[:n])
		}
		for sent, much := 0, make([]byte, 1<<20); sent < size; sent += len(much) {
			if _, err := c.Write(much); err != nil {
				break
			}
		}
		_, _ = c.Read(word) // until all was received
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}()
	out := live{inside(t, a, func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }), h, a.Endpoints[0]}
	defer out.Close()
	out.fast(t)
	if _, err := io.WriteString(out, "stream"); err != nil {
		t.Fatal(err)
	}
	_ = out.SetDeadline(time.Now().Add(time.Minute))
	if n, err := io.CopyN(io.Discard, out, size); err != nil {
		t.Fatalf("after %d bytes: %v", n, err)
	}
	if _, err := io.WriteString(out, "all"); err != nil {
		t.Fatal(err)
	}
	_ = out.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := out.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("after a reset: %v", err)
	}
	h.connections(t, 0)
}

// TestFastPathOutsideQuiet: a connection by which nothing was said for long goes the host's
// way, is tracked for as long as any other from then on, and comes back.
func TestFastPathOutsideQuiet(t *testing.T) {
	h, a, far := fastOutside(t)
	l := h.live(t, far, a.Endpoints[0], published4)
	l.fast(t)
	quiet := func(d time.Duration) {
		h.fast.mu.Lock()
		defer h.fast.mu.Unlock()
		h.fast.outside.quiet = d
		for _, p := range h.fast.outside.flows {
			p.due = true
		}
	}
	quiet(0)
	h.connections(t, 0)
	quiet(time.Hour)
	out := command(t, "conntrack", "-L", "-p", "tcp", "--dport", "8080")
	var left int
	if _, rest, ok := strings.Cut(out, "tcp"); !ok {
		t.Fatalf("it is not tracked: %s", out)
	} else if _, err := fmt.Sscan(rest, &left, &left); err != nil || left < 400000 {
		t.Errorf("it is tracked for %d s more, %v:\n%s", left, err, out)
	}
	if n := l.talk(t, 8); n > 0 {
		t.Errorf("%d frames came by the fast path", n)
	}
	l.fast(t)
}
