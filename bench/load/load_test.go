package load

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// The ends are processes of their own here, too: they wait without telling the scheduler.
func TestMain(m *testing.M) {
	was, err := Staged()
	if !was {
		os.Exit(m.Run())
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// served starts a server on a free port and returns where it is.
func served(t *testing.T) netip.AddrPort {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", Name, serving, "0")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	var port uint16
	if _, err := fmt.Fscanf(out, ready, &port); err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
}

// asked is what a client of the kind says.
func asked(t *testing.T, kind Kind, to netip.AddrPort, length time.Duration) (Sample, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "/proc/self/exe", Name, string(kind), to.String(), length.String()).Output()
	if err != nil {
		t.Fatal(err)
	}
	var a answer
	if err := json.Unmarshal(out, &a); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if a.Error != "" {
		return a.Sample, errors.New(a.Error)
	}
	return a.Sample, nil
}

func TestLoads(t *testing.T) {
	t.Parallel()
	to := served(t)
	const length = 50 * time.Millisecond
	once, err := asked(t, Once, to, 0)
	if err != nil || once.Rate <= 0 || once.P50 <= 0 || once.Done != 1 || once.Work <= 0 {
		t.Errorf("one connection: %+v, %v", once, err)
	}
	many, err := asked(t, Connections, to, length)
	if err != nil || many.Rate <= Parallel/length.Seconds()/2 || many.P50 > many.P99 {
		t.Errorf("connections: %+v, %v", many, err)
	}
	requests, err := asked(t, Requests, to, length)
	if err != nil || requests.Rate <= 1 || requests.P50 <= 0 || requests.P50 > requests.P99 {
		t.Errorf("requests: %+v, %v", requests, err)
	}
	stream, err := asked(t, Stream, to, length)
	if err != nil || stream.Rate < 128<<10 || stream.Done < 128<<10 {
		t.Errorf("stream: %+v, %v", stream, err)
	}
}

// TestAlone: one thread is both ends, beside a server that has the port of every address.
func TestAlone(t *testing.T) {
	t.Parallel()
	to := served(t)
	here := Space{Name: "here", Path: fmt.Sprintf("/proc/%d/ns/net", os.Getpid())}
	for _, kind := range []Kind{Connections, Requests, Stream} {
		s, err := here.Alone(t.Context(), kind, to, here, to, 50*time.Millisecond)
		if err != nil || s.Done < 10 || s.Work <= 0 || s.Work > 50*time.Millisecond {
			t.Errorf("%s: %+v, %v", kind, s, err)
		}
	}
	if s, err := here.Alone(t.Context(), Once, to, here, to, time.Millisecond); err == nil {
		t.Errorf("what it cannot do: %+v and no error", s)
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
	for _, kind := range []Kind{Connections, Requests, Stream} {
		for _, to := range []netip.AddrPort{hasty, closed} {
			if s, err := asked(t, kind, to, time.Millisecond); err == nil {
				t.Errorf("%s to %s: %+v and no error", kind, to, s)
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
