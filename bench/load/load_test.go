package load

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// served starts a server on loopback and returns where it is.
func served(t *testing.T) netip.AddrPort {
	t.Helper()
	s, err := listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(s.listener)
	if err != nil {
		t.Fatal(err)
	}
	go func() { t.Error("the server ended: ", s.run()) }()
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*unix.SockaddrInet4).Port))
}

func TestLoads(t *testing.T) {
	t.Parallel()
	to := served(t)
	const length = 50 * time.Millisecond
	once, err := connections(to, 0, 1)
	if err != nil || once.Rate <= 0 || once.P50 <= 0 {
		t.Errorf("one connection: %+v, %v", once, err)
	}
	many, err := connections(to, length, 8)
	if err != nil || many.Rate <= 8/length.Seconds() || many.P50 > many.P99 {
		t.Errorf("connections: %+v, %v", many, err)
	}
	asked, err := requests(to, length)
	if err != nil || asked.Rate <= 1 || asked.P50 <= 0 || asked.P50 > asked.P99 {
		t.Errorf("requests: %+v, %v", asked, err)
	}
	streamed, err := stream(to, length)
	if err != nil || streamed.Rate < 128<<10 {
		t.Errorf("stream: %+v, %v", streamed, err)
	}
}

// TestLoadsFail sees that a client tells of a server that is not there, and of one that
// answers something else.
func TestLoadsFail(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	hasty := netip.MustParseAddrPort(l.Addr().String())
	closed := netip.MustParseAddrPort("127.0.0.1:1")
	for name, load := range map[string]func(netip.AddrPort) (Sample, error){
		"connections": func(to netip.AddrPort) (Sample, error) { return connections(to, time.Millisecond, 4) },
		"requests":    func(to netip.AddrPort) (Sample, error) { return requests(to, time.Millisecond) },
		"stream":      func(to netip.AddrPort) (Sample, error) { return stream(to, time.Millisecond) },
	} {
		for _, to := range []netip.AddrPort{hasty, closed} {
			if s, err := load(to); err == nil {
				t.Errorf("%s to %s: %+v and no error", name, to, s)
			}
		}
	}
}

func TestSegments(t *testing.T) {
	t.Parallel()
	const text = "Ip: Forwarding\nIp: 1\nTcp: RtoAlgorithm OutSegs RetransSegs InErrs\nTcp: 1 4711 12 0\nUdp: InDatagrams\nUdp: 7\n"
	if got, err := parseSegments(text); err != nil || got != (sent{4711, 12}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, broken := range []string{"", strings.ReplaceAll(text, "RetransSegs", "Others"), strings.ReplaceAll(text, "4711", "many"), strings.ReplaceAll(text, " 0\nUdp", "\nUdp")} {
		if got, err := parseSegments(broken); err == nil {
			t.Errorf("%q: %+v and no error", broken, got)
		}
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	var times []time.Duration
	for i := 100; i > 0; i-- {
		times = append(times, time.Duration(i))
	}
	for q, want := range map[float64]time.Duration{0.5: 50, 0.99: 99, 0: 1} {
		if got := quantile(times, q); got != want {
			t.Errorf("%v: %d, want %d", q, got, want)
		}
	}
}
