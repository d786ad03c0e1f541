package loopback_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/kernel/loopback"
)

// The addresses of what stands for a container.
const inside4, inside6 = "10.9.0.2", "fd00:9::2"

type site struct {
	t            *testing.T
	host, inside *lab.Host
}

// newSite is a host with one neighbour, whose servers answer at port 80.
func newSite(t *testing.T) *site {
	t.Helper()
	l := lab.New(t)
	s := &site{t, l.Host("host"), l.Host("inside")}
	l.Link(s.host.Port("eth0", "10.9.0.1/24", "fd00:9::1/64"), s.inside.Port("eth0", inside4+"/24", inside6+"/64"))
	for _, proto := range []string{"tcp", "udp"} {
		s.inside.Listen(proto, "0.0.0.0:80")
		s.inside.Listen(proto, "[::]:80")
	}
	// The kernel joins the group by which a new IPv6 address is asked for in its own
	// time; TCP asks again, and UDP finds the neighbour then.
	lab.Seen(t, s.host, "tcp", "["+inside6+"]:80")
	return s
}

// open puts hooks in place on the host until the test ends.
func (s *site) open(kept []*os.File) *loopback.Hooks {
	s.t.Helper()
	var h *loopback.Hooks
	err := s.host.Do(func() (err error) {
		h, err = loopback.Open("test", kept)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = h.Close() })
	return h
}

func binding(proto, host, container string) loopback.Binding {
	return loopback.Binding{Proto: proto, Host: netip.MustParseAddrPort(host), Container: netip.MustParseAddrPort(container)}
}

// everywhere publishes port 8080 on every address, of both families and protocols.
func everywhere() []loopback.Binding {
	var out []loopback.Binding
	for _, proto := range []string{"tcp", "udp"} {
		out = append(out, binding(proto, "0.0.0.0:8080", inside4+":80"), binding(proto, "[::]:8080", "["+inside6+"]:80"))
	}
	return out
}

func (s *site) add(h *loopback.Hooks, b ...loopback.Binding) {
	s.t.Helper()
	if err := h.Add(b); err != nil {
		s.t.Fatal(err)
	}
}

// reaches fails the test unless the server answers at the address.
func (s *site) reaches(proto, address string) {
	s.t.Helper()
	r := lab.Seen(s.t, s.host, proto, address)
	if r.Host != "inside" || !slices.Contains([]string{"10.9.0.1", "fd00:9::1"}, r.Peer.Addr().Unmap().String()) {
		s.t.Errorf("%s/%s: %s answered and saw %s", address, proto, r.Host, r.Peer)
	}
}

func (s *site) barred(proto, address string) {
	s.t.Helper()
	if r, err := s.host.Ask(proto, address, time.Second); err == nil {
		s.t.Errorf("%s/%s is answered by %s", address, proto, r.Host)
	}
}

func TestLoopbackReachesContainer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	h := s.open(nil)
	s.add(h, everywhere()...)
	for _, proto := range []string{"tcp", "udp"} {
		for _, address := range []string{"127.0.0.1", "127.9.8.7", "0.0.0.0", "[::1]"} {
			s.reaches(proto, address+":8080")
		}
		s.barred(proto, "127.0.0.1:8081")
		s.barred(proto, "10.9.0.1:8080") // it is no loopback address
	}
	missing := binding("tcp", "127.0.0.1:1", inside4+":80")
	if err := h.Remove(append([]loopback.Binding{missing}, everywhere()...)); err != nil {
		t.Fatal(err)
	}
	for _, proto := range []string{"tcp", "udp"} {
		s.barred(proto, "127.0.0.1:8080")
		s.barred(proto, "[::1]:8080")
	}
}

// One loopback address does not answer for another, nor TCP for UDP.
func TestAddressOfItsOwn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.add(s.open(nil), binding("tcp", "127.0.0.2:8080", inside4+":80"), binding("udp", "[::1]:8080", "["+inside6+"]:80"))
	s.reaches("tcp", "127.0.0.2:8080")
	s.reaches("udp", "[::1]:8080")
	s.barred("tcp", "127.0.0.1:8080")
	s.barred("udp", "127.0.0.2:8080")
	s.barred("tcp", "[::1]:8080")
}

// Programs of another network namespace have a loopback of their own.
func TestOtherNamespace(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.add(s.open(nil), everywhere()...)
	other := lab.New(t).Host("other")
	mine := other.Listen("tcp", "127.0.0.1:8080")
	defer mine.Close()
	if r := lab.Seen(t, other, "tcp", "127.0.0.1:8080"); r.Host != "other" {
		t.Errorf("%s answered", r.Host)
	}
	if r := lab.Seen(t, s.host, "tcp", "127.0.0.1:8080"); r.Host != "inside" {
		t.Errorf("%s answered", r.Host)
	}
}

// A process sees answers from the address that it asked, whichever way it asks.
func TestAnswersComeFromLoopback(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.add(s.open(nil), everywhere()...)
	s.add(s.open(nil), binding("udp", "127.0.0.1:9090", inside4+":81")) // another daemon's, beside ours
	s.inside.Listen("udp", "0.0.0.0:81")
	for name, c := range map[string]struct {
		network string
		to      []string
	}{
		"IPv4":        {"udp4", []string{"127.0.0.1:8080", "127.0.0.5:8080", "127.0.0.1:9090"}},
		"IPv6":        {"udp6", []string{"[::1]:8080"}},
		"both":        {"udp", []string{"127.0.0.1:8080", "[::1]:8080"}},
		"not for one": {"udp4", []string{"10.9.0.2:80"}},
	} {
		t.Run(name, func(t *testing.T) {
			var conn *net.UDPConn
			if err := s.host.Do(func() (err error) { conn, err = net.ListenUDP(c.network, nil); return err }); err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			for range 2 {
				for _, to := range c.to {
					want := netip.MustParseAddrPort(to)
					got, err := exchange(conn, want)
					if err != nil || netip.AddrPortFrom(got.Addr().Unmap(), got.Port()) != want {
						t.Errorf("%s answers as %s: %v", want, got, err)
					}
				}
			}
		})
	}
	for _, c := range []struct{ proto, to string }{{"tcp", "127.0.0.1:8080"}, {"udp", "127.0.0.1:8080"}, {"tcp", "[::1]:8080"}, {"udp", "[::1]:8080"}} {
		conn, err := s.host.Dial(c.proto, c.to, time.Second)
		if err != nil {
			t.Errorf("%v: %v", c, err)
			continue
		}
		if got := conn.RemoteAddr().String(); got != c.to {
			t.Errorf("%s/%s: the peer's name is %s", c.to, c.proto, got)
		}
		_ = conn.Close()
	}
}

// exchange sends a datagram and returns who answered.
func exchange(c *net.UDPConn, to netip.AddrPort) (netip.AddrPort, error) {
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := c.WriteToUDPAddrPort([]byte("?"), to); err != nil {
		return netip.AddrPort{}, err
	}
	_, from, err := c.ReadFromUDPAddrPort(make([]byte, 100))
	return from, err
}

// A socket for both families names IPv4 addresses in their IPv6 form, and the
// unspecified address is loopback to who connects to it.
func TestOtherForms(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.add(s.open(nil), everywhere()...)
	for to, want := range map[string]string{"::ffff:127.0.0.1": "::ffff:127.0.0.1", "::ffff:0.0.0.0": "::ffff:127.0.0.1", "::": "::1"} {
		err := s.host.Do(func() error {
			fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if err := unix.Connect(fd, &unix.SockaddrInet6{Port: 8080, Addr: netip.MustParseAddr(to).As16()}); err != nil {
				return err
			}
			peer, err := unix.Getpeername(fd)
			if sa, ok := peer.(*unix.SockaddrInet6); !ok || netip.AddrFrom16(sa.Addr).String() != want || sa.Port != 8080 {
				t.Errorf("connected to %s, the peer is %v", to, peer)
			}
			return err
		})
		if err != nil {
			t.Errorf("connect to %s: %v", to, err)
		}
	}
}

// A socket bound to a loopback address cannot be answered by the container: it is
// told at once. A datagram's source is not in the way.
func TestBoundToLoopback(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.add(s.open(nil), everywhere()...)
	for local, to := range map[string]string{"127.0.0.1:0": "127.0.0.1:8080", "[::1]:0": "[::1]:8080"} {
		err := s.host.Do(func() error {
			d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(local)), Timeout: 5 * time.Second}
			c, err := d.DialContext(t.Context(), "tcp", to)
			if err == nil {
				_ = c.Close()
			}
			return err
		})
		if !errors.Is(err, unix.EPERM) {
			t.Errorf("from %s to %s: %v, want EPERM", local, to, err)
		}
	}
	err := s.host.Do(func() error {
		c, err := net.ListenUDP("udp4", nil)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(2 * time.Second))
		source := unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: [4]byte{127, 0, 0, 1}})
		if _, _, err := c.WriteMsgUDPAddrPort([]byte("?"), source, netip.MustParseAddrPort("127.0.0.1:8080")); err != nil {
			return err
		}
		_, err = c.Read(make([]byte, 100))
		return err
	})
	if err != nil {
		t.Errorf("a datagram with 127.0.0.1 for its source: %v", err)
	}
}

// Whoever keeps the files keeps the hooks; new ones go on with what is there.
func TestKept(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first := s.open(nil)
	s.add(first, everywhere()...)
	kept, err := first.Files()
	if err != nil {
		t.Fatal(err)
	}
	var udp *net.UDPConn
	if err := s.host.Do(func() (err error) { udp, err = net.ListenUDP("udp4", nil); return err }); err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	if _, err := exchange(udp, netip.MustParseAddrPort("127.0.0.1:8080")); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	s.reaches("tcp", "127.0.0.1:8080")
	second := s.open(kept)
	for _, f := range kept {
		_ = f.Close()
	}
	s.reaches("tcp", "127.0.0.1:8080")
	got, err := second.List()
	if err != nil {
		t.Fatal(err)
	}
	want := everywhere()
	for _, list := range [][]loopback.Binding{got, want} {
		slices.SortFunc(list, func(a, b loopback.Binding) int {
			return strings.Compare(a.Proto+a.Host.String(), b.Proto+b.Host.String())
		})
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("taken over (-want +got):\n%s", diff)
	}
	if from, err := exchange(udp, netip.MustParseAddrPort("127.0.0.1:8080")); err != nil || from.String() != "127.0.0.1:8080" {
		t.Errorf("an old socket's answer: from %s, %v", from, err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	s.barred("tcp", "127.0.0.1:8080")
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	h := newSite(t).open(nil)
	for _, b := range []loopback.Binding{
		binding("tcp", "192.0.2.1:80", inside4+":80"), binding("tcp", "127.0.0.1:80", "["+inside6+"]:80"), binding("sctp", "127.0.0.1:80", inside4+":80"),
	} {
		if err := h.Add([]loopback.Binding{b}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v: %v", b, err)
		}
	}
}

// BenchmarkAdd redirects a range of ports and takes it back.
func BenchmarkAdd(b *testing.B) {
	h, err := loopback.Open("bench", nil)
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	var many []loopback.Binding
	for port := range uint16(10_000) {
		ap := netip.AddrPortFrom(netip.MustParseAddr("127.77.77.77"), 10_000+port)
		many = append(many, loopback.Binding{Proto: "tcp", Host: ap, Container: netip.MustParseAddrPort(inside4 + ":80")})
	}
	for b.Loop() {
		if err := errors.Join(h.Add(many), h.Remove(many)); err != nil {
			b.Fatal(err)
		}
	}
}
