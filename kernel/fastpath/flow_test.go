package fastpath_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/kernel/conntrack"
	"github.com/fairlead/fairlead/kernel/fastpath"
)

// road is a host that routes, and translates addresses, between a container on a bridge of
// its own and a host outside.
type road struct {
	t                        *testing.T
	host, outside, container *lab.Host
	up, bridge               *net.Interface
	port                     fastpath.Port
	path                     *fastpath.Path
}

// What is published is translated on its way in, and what goes to one port on its way out.
const roadRules = `table inet n {
	counter forwarded {}
	counter invalid {}
	chain p {
		type nat hook prerouting priority -100
		iifname up0 tcp dport 80 dnat ip to 10.9.0.2:8080
		iifname up0 tcp dport 80 dnat ip6 to [fd00:9::2]:8080
	}
	chain q { type nat hook postrouting priority 100; oifname up0 tcp dport 9000 masquerade; }
	chain i { type filter hook prerouting priority -150; meta l4proto tcp ct state invalid counter name invalid; }
	chain f { type filter hook forward priority 0; meta l4proto tcp counter name forwarded; }
}`

func newRoad(t *testing.T) *road {
	t.Helper()
	l := lab.New(t)
	r := &road{t: t, host: l.Host("host"), outside: l.Host("outside"), container: l.Host("container")}
	for _, h := range []*lab.Host{r.host, r.outside, r.container} {
		h.Sysctl("net.ipv6.conf.default.accept_dad", "0") // an address is of use at once
	}
	l.Link(r.host.Port("up0", "198.51.100.1/24", "2001:db8::1/64"), r.outside.Port("eth0", "198.51.100.2/24", "2001:db8::2/64"))
	l.Link(r.host.Port("vk"), r.container.Port("eth0", "10.9.0.2/24", "fd00:9::2/64"))
	r.host.Run("ip", "link", "add", "br0", "up", "type", "bridge")
	r.host.Run("ip", "addr", "add", "10.9.0.1/24", "dev", "br0")
	r.host.Run("ip", "addr", "add", "fd00:9::1/64", "dev", "br0", "nodad")
	r.host.Run("ip", "link", "set", "vk", "master", "br0")
	r.host.NoBridgeNetfilter()
	r.host.Router()
	r.container.DefaultRoute("eth0", "10.9.0.1", "fd00:9::1")
	r.outside.DefaultRoute("eth0", "198.51.100.1", "2001:db8::1")
	r.host.Run("nft", roadRules)
	r.up, r.bridge = r.device(r.host, "up0"), r.device(r.host, "br0")
	r.port = fastpath.Port{
		Index: r.device(r.host, "vk").Index, Segment: 1, MAC: r.device(r.container, "eth0").HardwareAddr,
		Addrs: []netip.Addr{netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("fd00:9::2")},
	}
	r.do(r.host, func() (err error) {
		if r.path, err = fastpath.Open(tag); err != nil {
			return err
		}
		return errors.Join(r.path.Attach(r.port.Index), r.path.AttachOutside(r.up.Index),
			r.path.Allow(time.Hour), r.path.AllowFlows(time.Hour), r.path.Add(r.port))
	})
	t.Cleanup(func() { _ = r.path.Close() })
	return r
}

func (r *road) do(h *lab.Host, f func() error) {
	r.t.Helper()
	if err := h.Do(f); err != nil {
		r.t.Fatal(err)
	}
}

func (r *road) device(h *lab.Host, name string) (d *net.Interface) {
	r.t.Helper()
	r.do(h, func() (err error) {
		d, err = net.InterfaceByName(name)
		return err
	})
	return d
}

// count is how many packets of TCP a rule has seen.
func (r *road) count(name string) int {
	r.t.Helper()
	n, err := strconv.Atoi(field(r.host.Run("nft", "list", "counter", "inet", "n", name), "packets", 1))
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// talk is an established connection, by its two ends.
type talk struct{ outside, container *net.TCPConn }

// talk is one that begins in the container or outside, is to an address and comes to another.
func (r *road) talk(fromContainer bool, to, comesTo string) talk {
	r.t.Helper()
	client, server := r.outside, r.container
	if fromContainer {
		client, server = server, client
	}
	var l net.Listener
	r.do(server, func() (err error) {
		l, err = net.Listen("tcp", comesTo)
		return err
	})
	defer l.Close()
	c, err := client.Dial("tcp", to, 2*time.Second)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	s, err := l.Accept()
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = s.Close() })
	k := talk{c.(*net.TCPConn), s.(*net.TCPConn)}
	if fromContainer {
		k = talk{k.container, k.outside}
	}
	for _, end := range []*net.TCPConn{k.outside, k.container} {
		if err := end.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			r.t.Fatal(err)
		}
	}
	r.exchange(k, 1)
	return k
}

func addrOf(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }

// flow is the connection, which is tracked loosely from now on.
func (r *road) flow(k talk) fastpath.Flow {
	r.t.Helper()
	f := fastpath.Flow{
		Outside: addrOf(k.outside.LocalAddr()), Host: addrOf(k.outside.RemoteAddr()), Container: addrOf(k.container.LocalAddr()),
		Port: r.port, Gateway: r.bridge.HardwareAddr, MTU: 1500,
		Link: r.up.Index, LinkMAC: r.up.HardwareAddr, LinkMTU: 1500,
	}
	f.NextHop = f.Outside.Addr()
	if peer := addrOf(k.container.RemoteAddr()); peer != f.Outside {
		r.t.Errorf("the container sees %s, want %s", peer, f.Outside)
	}
	r.do(r.host, func() error {
		var c conntrack.Handle
		defer c.Close()
		return c.Loosen(conntrack.Tuple{From: f.Container, To: f.Outside})
	})
	return f
}

// exchange sends so many bytes each way at once, which have to come in as they were.
func (r *road) exchange(k talk, n int64) {
	r.t.Helper()
	done := make(chan error, 2)
	go func() { done <- carry(k.outside, k.container, n) }()
	go func() { done <- carry(k.container, k.outside, n) }()
	for range 2 {
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	}
}

func carry(from, to net.Conn, n int64) error {
	sent, received := sha256.New(), sha256.New()
	written := make(chan error, 1)
	go func() {
		_, err := io.CopyN(io.MultiWriter(from, sent), rand.NewChaCha8([32]byte{byte(n)}), n)
		written <- err
	}()
	_, err := io.CopyN(received, to, n)
	if err := errors.Join(err, <-written); err != nil {
		return fmt.Errorf("%s to %s: %w", from.LocalAddr(), to.LocalAddr(), err)
	}
	if [32]byte(sent.Sum(nil)) != [32]byte(received.Sum(nil)) {
		return fmt.Errorf("%s to %s: other bytes came than were sent", from.LocalAddr(), to.LocalAddr())
	}
	return nil
}

// much is how many bytes are sent to see which way they go, and few the packets that the host
// may see of a flow.
const (
	much = 1 << 20
	few  = 10
)

// goes fails the test unless the connection works, and by the fast path or not.
func (r *road) goes(what string, k talk, fast bool) {
	r.t.Helper()
	_, before := r.path.Received(r.port)
	seen := r.count("forwarded")
	r.exchange(k, much)
	_, after := r.path.Received(r.port)
	seen = r.count("forwarded") - seen
	if got := after - before; fast && (got < much || seen > few) || !fast && (got > 0 || seen < few) {
		r.t.Errorf("%s: %d bytes came to the container by the fast path, and the host saw %d packets", what, got, seen)
	}
}

// sumInSoftware has the checksums of what the interface sends be computed by the sender
// (ETHTOOL_STXCSUM of linux/ethtool.h).
func sumInSoftware(dev string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request := struct {
		name  [unix.IFNAMSIZ]byte
		value *[2]uint32
		_     [16]byte
	}{value: &[2]uint32{unix.ETHTOOL_STXCSUM, 0}}
	copy(request.name[:], dev)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return fmt.Errorf("SIOCETHTOOL of %s: %w", dev, errno)
	}
	return nil
}

// ways are those of connections between the container and outside.
var ways = []struct {
	what          string
	fromContainer bool
	to, comesTo   string
}{
	{"published", false, "198.51.100.1:80", "10.9.0.2:8080"},
	{"masqueraded", true, "198.51.100.2:9000", "198.51.100.2:9000"},
	{"routed", false, "10.9.0.2:8081", "10.9.0.2:8081"},
	{"published, IPv6", false, "[2001:db8::1]:80", "[fd00:9::2]:8080"},
	{"masqueraded, IPv6", true, "[2001:db8::2]:9000", "[2001:db8::2]:9000"},
	{"routed, IPv6", false, "[fd00:9::2]:8081", "[fd00:9::2]:8081"},
}

// TestFlows: connections of each kind work by the fast path, with checksums by whom it may
// be, and end as they would without it, whoever ends them; conntrack follows.
func TestFlows(t *testing.T) {
	t.Parallel()
	r := newRoad(t)
	i := 0
	for _, sums := range []string{"", ", checksums by software"} {
		if sums != "" {
			r.do(r.outside, func() error { return sumInSoftware("eth0") })
			r.do(r.container, func() error { return sumInSoftware("eth0") })
		}
		for _, w := range ways {
			k := r.talk(w.fromContainer, w.to, w.comesTo)
			f := r.flow(k)
			if err := r.path.AddFlow(f); err != nil {
				t.Fatal(err)
			}
			end := endings[i%len(endings)]
			what := w.what + sums + ", " + end.what
			r.goes(what, k, true)
			if err := end.run(k); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			r.forgotten(what, f)
			if err := r.path.RemoveFlow(f); err != nil {
				t.Error(err)
			}
			i++
		}
	}
	if n := r.count("invalid"); n > 0 {
		t.Errorf("conntrack takes %d packets for invalid", n)
	}
}

// TestFlowLeaves: a connection goes the host's way at once, and goes on, where it is no flow
// any more, flows are not allowed, or the path is closed.
func TestFlowLeaves(t *testing.T) {
	t.Parallel()
	r := newRoad(t)
	var all []talk
	each := func(what string, fast bool, do func(fastpath.Flow) error) {
		for i, w := range []int{0, 4} {
			if len(all) == i {
				all = append(all, r.talk(ways[w].fromContainer, ways[w].to, ways[w].comesTo))
			}
			if err := do(r.flow(all[i])); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			r.goes(what, all[i], fast)
		}
	}
	each("no flow yet", false, func(fastpath.Flow) error { return nil })
	each("a flow", true, r.path.AddFlow)
	each("no flow any more", false, r.path.RemoveFlow)
	each("a flow again", true, r.path.AddFlow)
	each("flows are not allowed", false, func(fastpath.Flow) error { return r.path.AllowFlows(0) })
	each("flows are allowed", true, func(fastpath.Flow) error { return r.path.AllowFlows(time.Hour) })
	detach := func(fastpath.Flow) error { return r.path.DetachOutside(r.up.Index) }
	each("nothing at the host's link", false, func(f fastpath.Flow) error {
		return errors.Join(r.path.RemoveFlow(f), detach(f), detach(f))
	})
	attach := func() error { return r.path.AttachOutside(r.up.Index) }
	each("something there again", true, func(f fastpath.Flow) error {
		return errors.Join(r.host.Do(attach), r.host.Do(attach), r.path.AddFlow(f))
	})
	if n := r.programs(); n != 1 {
		t.Errorf("%d programs are at the host's link, want 1", n)
	}
	each("the path is closed", false, func(fastpath.Flow) error { return r.path.Close() })
	if n := r.programs(); n != 0 {
		t.Errorf("%d programs are left at the host's link", n)
	}
	if n := r.count("invalid"); n > 0 {
		t.Errorf("conntrack takes %d packets for invalid", n)
	}
}

// programs is how many are at the host's link.
func (r *road) programs() (n int) {
	r.t.Helper()
	r.do(r.host, func() error {
		found, err := link.QueryPrograms(link.QueryOptions{Target: r.up.Index, Attach: ebpf.AttachTCXIngress})
		if err == nil {
			n = len(found.Programs)
		}
		return err
	})
	return n
}

// forgotten waits until conntrack has the connection for one that ends: for no longer than
// two minutes, where it has an established one for days.
func (r *road) forgotten(what string, f fastpath.Flow) {
	r.t.Helper()
	family := netlink.InetFamily(unix.AF_INET)
	if f.Outside.Addr().Is6() {
		family = unix.AF_INET6
	}
	var left time.Duration
	for until := time.Now().Add(2 * time.Second); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		left = 0
		r.do(r.host, func() error {
			all, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
			for _, c := range all {
				if port := f.Outside.Port(); c.Forward.SrcPort == port && c.Reverse.DstPort == port || c.Reverse.SrcPort == port && c.Forward.DstPort == port && c.Reverse.DstPort == f.Host.Port() {
					left = max(left, time.Duration(c.TimeOut)*time.Second)
				}
			}
			return err
		})
		if left <= 2*time.Minute {
			return
		}
	}
	r.t.Errorf("%s: conntrack has the connection for %v more", what, left)
}
