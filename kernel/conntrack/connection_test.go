package conntrack_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairlead/fairlead/internal/faultpoint"
	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/kernel/conntrack"
	"github.com/fairlead/fairlead/kernel/netns"
)

// translator is a host between others: what comes in from outside for a port of it is
// sent on to the one inside, and what that sends out has the host's address.
type translator struct {
	t                *testing.T
	host, out, in    *lab.Host
	conntrack.Handle // of the host
}

// marked and helped are what the last digit of a port stands for on the translator.
const (
	marked = "1"
	helped = "2"
)

func newTranslator(t *testing.T) *translator {
	t.Helper()
	l := lab.New(t)
	tr := &translator{t: t, host: l.Host("host"), out: l.Host("out"), in: l.Host("in")}
	t.Cleanup(tr.Close)
	l.Link(tr.host.Port("up0", "192.0.2.1/24", "2001:db8::1/64"), tr.out.Port("eth0", "192.0.2.2/24", "2001:db8::2/64"))
	l.Link(tr.host.Port("in0", "10.9.0.1/24", "fd00:9::1/64"), tr.in.Port("eth0", "10.9.0.2/24", "fd00:9::2/64"))
	tr.host.Router()
	tr.in.DefaultRoute("eth0", "10.9.0.1", "fd00:9::1")
	tr.nft("add table inet n",
		"add chain inet n pre { type nat hook prerouting priority -100; }",
		"add rule inet n pre iifname up0 tcp dport 8080-8082 dnat ip to 10.9.0.2:tcp dport map { 8080 : 80, 8081 : 81, 8082 : 82 }",
		"add rule inet n pre iifname up0 tcp dport 8080-8082 dnat ip6 to [fd00:9::2]:tcp dport map { 8080 : 80, 8081 : 81, 8082 : 82 }",
		"add chain inet n post { type nat hook postrouting priority 100; }",
		"add rule inet n post oifname up0 masquerade",
		"add chain inet n around { type filter hook prerouting priority -300; }",
		"add chain inet n back { type filter hook postrouting priority 300; }",
		// Before the host takes what nobody translates for its own, and resets it.
		"add counter inet n bad",
		"add chain inet n check { type filter hook prerouting priority -150; }",
		"add rule inet n check ct state invalid counter name bad drop",
		`add ct helper inet n ftp { type "ftp" protocol tcp; }`,
		"add chain inet n mid { type filter hook forward priority 0; }",
		"add rule inet n mid tcp dport 81 ct mark set 1",
		`add rule inet n mid tcp dport 82 ct helper set "ftp"`)
	return tr
}

func (tr *translator) nft(commands ...string) string {
	tr.t.Helper()
	return tr.host.Run("nft", strings.Join(commands, "\n"))
}

// do calls f in the translator's namespace.
func (tr *translator) do(f func() error) error { return tr.host.Do(f) }

func (tr *translator) connection(tuple conntrack.Tuple) (c conntrack.Connection, err error) {
	err = tr.do(func() error {
		c, err = tr.Connection(tuple)
		return err
	})
	return c, err
}

func (tr *translator) loosen(tuple conntrack.Tuple) error {
	return tr.do(func() error { return tr.Loosen(tuple) })
}

// ends are the two sockets of a connection.
type ends struct {
	t              *testing.T
	client, server *net.TCPConn
}

// connect connects a host to what the other listens on, by the address it is known by.
func (tr *translator) connect(client, server *lab.Host, listen, dial string) ends {
	tr.t.Helper()
	var l net.Listener
	if err := server.Do(func() (err error) {
		l, err = net.Listen("tcp", listen)
		return err
	}); err != nil {
		tr.t.Fatal(err)
	}
	defer l.Close()
	c, err := client.Dial("tcp", dial, 5*time.Second)
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.t.Cleanup(func() { _ = c.Close() })
	s, err := l.Accept()
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.t.Cleanup(func() { _ = s.Close() })
	return ends{tr.t, c.(*net.TCPConn), s.(*net.TCPConn)}
}

// original and reply are what the translator sees, whichever side it translates.
func (e ends) original() conntrack.Tuple {
	return conntrack.Tuple{From: addrPort(e.client.LocalAddr()), To: addrPort(e.client.RemoteAddr())}
}

func (e ends) reply() conntrack.Tuple {
	return conntrack.Tuple{From: addrPort(e.server.LocalAddr()), To: addrPort(e.server.RemoteAddr())}
}

func addrPort(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }

// exchange has both sides say so many bytes, one after the other, and hear them.
func (e ends) exchange(size int) {
	e.t.Helper()
	for _, c := range []struct{ from, to *net.TCPConn }{{e.client, e.server}, {e.server, e.client}} {
		failed := make(chan error, 1)
		go func() {
			_, err := c.from.Write(make([]byte, size))
			failed <- err
		}()
		err := c.to.SetReadDeadline(time.Now().Add(20 * time.Second))
		if err == nil {
			_, err = io.CopyN(io.Discard, c.to, int64(size))
		}
		if err = errors.Join(err, <-failed); err != nil {
			e.t.Fatalf("%v to %v: %v", c.from.LocalAddr(), c.to.LocalAddr(), err)
		}
	}
}

// families are the addresses of the translator's outside, of who is outside, of who is
// inside and of nobody there, and nft(8)'s word for the family.
var families = map[string]struct{ host, out, in, nobody, nft string }{
	"IPv4": {"192.0.2.1", "192.0.2.2", "10.9.0.2", "192.0.2.9", "ip"},
	"IPv6": {"2001:db8::1", "2001:db8::2", "fd00:9::2", "2001:db8::9", "ip6"},
}

// TestConnection: a connection is found by what either side of the translation sees of
// it, with its state, its mark and its helper.
func TestConnection(t *testing.T) {
	t.Parallel()
	tr := newTranslator(t)
	for _, f := range families {
		for _, digit := range []string{"0", marked, helped} {
			inside, outside := net.JoinHostPort(f.in, "8"+digit), net.JoinHostPort(f.out, "8"+digit)
			tr.look(tr.connect(tr.out, tr.in, inside, net.JoinHostPort(f.host, "808"+digit)), digit)
			tr.look(tr.connect(tr.in, tr.out, outside, outside), digit)
		}
	}
}

// look looks at a connection from its beginning until one side closes it.
func (tr *translator) look(e ends, digit string) {
	t := tr.t
	t.Helper()
	e.exchange(1)
	want := conntrack.Connection{
		Original: e.original(), Reply: e.reply(),
		Established: true, Marked: digit == marked, Helped: digit == helped,
	}
	if want.Original.From == want.Reply.To && want.Original.To == want.Reply.From {
		t.Fatalf("nothing is translated: %v", want)
	}
	same := func(when string) {
		t.Helper()
		for _, tuple := range []conntrack.Tuple{want.Original, want.Reply, {From: mapped(want.Reply.From), To: want.Reply.To}} {
			got, err := tr.connection(tuple)
			if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); err != nil || diff != "" {
				t.Errorf("%s, by %v: %v (-want +got)\n%s", when, tuple, err, diff)
			}
		}
	}
	same("both have said something")
	for _, tuple := range []conntrack.Tuple{
		{From: want.Original.To, To: want.Original.From},
		{From: want.Reply.To, To: want.Reply.From},
		{From: want.Original.From, To: netip.AddrPortFrom(want.Original.To.Addr(), 9)},
	} {
		if got, err := tr.connection(tuple); !errdefs.IsNotFound(err) || got != (conntrack.Connection{}) {
			t.Errorf("%v, which nobody has: %v, %v, want ErrNotFound", tuple, got, err)
		}
	}
	closing, other := e.client, e.server
	if digit == marked {
		closing, other = other, closing
	}
	if err := errors.Join(closing.CloseWrite(), other.SetReadDeadline(time.Now().Add(10*time.Second))); err != nil {
		t.Fatal(err)
	}
	if n, err := other.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("%v after the end: %d, %v", want.Original, n, err)
	}
	want.Established = false
	same("one has closed it")
}

// mapped is an IPv4 address as an IPv6 socket has it, and an IPv6 one as it is.
func mapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
}

// TestConnectionUnanswered: of one that is only asked for it is not said that it is
// established, and a flow of another protocol is not found.
func TestConnectionUnanswered(t *testing.T) {
	t.Parallel()
	tr := newTranslator(t)
	for name, f := range families {
		// Whoever is to be heard has been: nothing waits for the address of a neighbour.
		there := net.JoinHostPort(f.out, "80")
		tr.connect(tr.in, tr.out, there, there).exchange(1)
		to := net.JoinHostPort(f.nobody, "80")
		asked := conntrack.Tuple{From: netip.MustParseAddrPort(net.JoinHostPort(f.in, "4711")), To: netip.MustParseAddrPort(to)}
		if err := tr.in.Do(func() error {
			d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(asked.From), Timeout: 50 * time.Millisecond}
			if c, err := d.Dial("tcp", to); err == nil {
				return errors.Join(errors.New("somebody answers"), c.Close())
			}
			c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(asked.From), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(net.JoinHostPort(f.out, "53"))))
			if err != nil {
				return err
			}
			_, err = c.Write([]byte("x"))
			return errors.Join(err, c.Close())
		}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, err := tr.connection(asked); err != nil || got.Established || got.Original != asked {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		udp := conntrack.Tuple{From: asked.From, To: netip.MustParseAddrPort(net.JoinHostPort(f.out, "53"))}
		if got, err := tr.connection(udp); !errdefs.IsNotFound(err) {
			t.Errorf("%s: over UDP there is %v, %v", name, got, err)
		}
	}
}

// TestConnectionPickedUp: one that the kernel takes up in its middle
// (nf_conntrack_tcp_loose) is established when the other side is heard.
func TestConnectionPickedUp(t *testing.T) {
	t.Parallel()
	tr := newTranslator(t)
	for name, f := range families {
		there := net.JoinHostPort(f.out, "80")
		e := tr.connect(tr.in, tr.out, there, there)
		e.exchange(1)
		tr.nft("add rule inet n around iifname up0 " + f.nft + " saddr " + f.out + " tcp sport 80 drop")
		if err := tr.do(func() error { return tr.DeleteByAddr(e.original().From.Addr()) }); err != nil {
			t.Fatal(err)
		}
		if _, err := e.client.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(e.server, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if got, err := tr.connection(e.original()); err != nil || got.Established {
			t.Errorf("%s: one side is heard: %v, %v", name, got, err)
		}
		tr.nft("flush chain inet n around")
		e.exchange(1)
		e.exchange(1)
		if got, err := tr.connection(e.original()); err != nil || !got.Established {
			t.Errorf("%s: both sides are heard: %v, %v", name, got, err)
		}
	}
}

// TestHandleShared: a Handle that many use at once gives each its own answer.
func TestHandleShared(t *testing.T) {
	t.Parallel()
	const rounds = 100
	tr := newTranslator(t)
	var wg sync.WaitGroup
	many := func(call func() error) {
		wg.Go(func() {
			if err := tr.do(func() (err error) {
				for i := 0; i < rounds && err == nil; i++ {
					err = call()
				}
				return err
			}); err != nil {
				t.Error(err)
			}
		})
	}
	var all []ends
	for _, f := range families {
		for _, port := range []string{"80", "81", "82"} {
			all = append(all, tr.connect(tr.out, tr.in, net.JoinHostPort(f.in, port), net.JoinHostPort(f.host, "80"+port)))
			all[len(all)-1].exchange(1)
		}
	}
	for _, e := range all {
		original, reply := e.original(), e.reply()
		many(func() error {
			c, err := tr.Connection(reply)
			if err == nil && (c.Original != original || c.Reply != reply) {
				err = fmt.Errorf("of %v it is said %v", reply, c)
			}
			return err
		})
		many(func() error { return tr.Loosen(original) })
	}
	for _, f := range families {
		nobody := netip.MustParseAddr(f.nobody)
		many(func() error { return tr.DeleteByAddr(nobody) })
		many(func() error {
			port := netip.AddrPortFrom(nobody, 80)
			if c, err := tr.Connection(conntrack.Tuple{From: port, To: port}); !errdefs.IsNotFound(err) {
				return fmt.Errorf("nobody's connection: %v, %w", c, err)
			}
			return nil
		})
	}
	wg.Wait()
}

// TestConnectionRefused: what cannot be meant is refused.
func TestConnectionRefused(t *testing.T) {
	t.Parallel()
	h, at := handle(t), netip.MustParseAddrPort
	for _, tuple := range []conntrack.Tuple{
		{},
		{From: at("192.0.2.1:80")},
		{From: at("192.0.2.1:80"), To: at("[2001:db8::1]:80")},
		{From: at("192.0.2.1:0"), To: at("192.0.2.2:80")},
		{From: at("192.0.2.1:80"), To: at("192.0.2.2:0")},
	} {
		if c, err := h.Connection(tuple); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v: %v, %v, want ErrInvalidArgument", tuple, c, err)
		}
		if err := h.Loosen(tuple); !errdefs.IsInvalidArgument(err) {
			t.Errorf("loosen %v: %v, want ErrInvalidArgument", tuple, err)
		}
	}
}

// TestErrors: they say what was tried, once, and whether the kernel cannot. It is not
// parallel: a fault is the whole process's.
func TestErrors(t *testing.T) {
	ns, h, port := namespace(t), handle(t), netip.MustParseAddrPort("127.0.0.1:53")
	send(t, ns, port.String())
	tuple := conntrack.Tuple{From: port, To: port}
	for _, c := range []struct {
		point, begins string
		do            func() error
	}{
		{"conntrack.connection", "look for the connection 127.0.0.1:53 to 127.0.0.1:53: ", func() error {
			_, err := h.Connection(tuple)
			return err
		}},
		{"conntrack.connection", "have the connection 127.0.0.1:53 to 127.0.0.1:53 tracked loosely: ", func() error { return h.Loosen(tuple) }},
		{"conntrack.flush", "forget tracked connections: ", func() error { return h.DeleteByOrigPort("udp", port) }},
		{"conntrack.list", "forget tracked connections: ", func() error { return h.DeleteByAddr(netip.IPv6Loopback()) }},
	} {
		for errno, ends := range map[syscall.Errno]string{
			syscall.ENOBUFS:         syscall.ENOBUFS.Error(),
			syscall.EPROTONOSUPPORT: "this kernel gives no access to tracked connections (CONFIG_NF_CT_NETLINK, module nf_conntrack_netlink): " + syscall.EPROTONOSUPPORT.Error(),
		} {
			disarm := faultpoint.Arm(faultpoint.Fault{Point: c.point, Errno: errno})
			err := netns.Do(ns, c.do)
			disarm()
			if err == nil || err.Error() != c.begins+ends || !errors.Is(err, errno) || errdefs.IsUnavailable(err) != (errno != syscall.ENOBUFS) {
				t.Errorf("%s: %v, want %s%s", c.point, err, c.begins, ends)
			}
		}
	}
}
