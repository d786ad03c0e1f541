package proxy

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// through has one connection carried, and returns the client's side, the backend's side
// and the outcome.
func through(t *testing.T, group *Group) (client, backend *net.TCPConn, done <-chan error) {
	t.Helper()
	front, back := listen(t), listen(t)
	out := make(chan error, 1)
	go func() {
		c, err := front.AcceptTCP()
		if err != nil {
			out <- err
			return
		}
		var streams Streams
		defer streams.Close()
		carried := make(chan error, 1)
		streams.Carry(group, descriptor(t, c), back.Addr().(*net.TCPAddr).AddrPort(), nil, func(err error) { carried <- err })
		out <- <-carried
	}()
	c, err := net.Dial("tcp", front.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := back.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{c, b} {
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	}
	return c.(*net.TCPConn), b, out
}

// descriptor takes a connection's socket out of package net.
func descriptor(t *testing.T, c *net.TCPConn) int {
	t.Helper()
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := unix.Dup(int(f.Fd()))
	if err = errors.Join(err, c.Close(), unix.SetNonblock(fd, true)); err != nil {
		t.Fatal(err)
	}
	return fd
}

func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// Each side may end first; the other direction goes on.
func TestHalfClose(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"client", "backend"} {
		client, backend, done := through(t, new(Group))
		a, b := client, backend
		if first == "backend" {
			a, b = backend, client
		}
		_, _ = io.WriteString(a, "question")
		if err := a.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(b); string(got) != "question" || err != nil {
			t.Errorf("%s first: %q, %v", first, got, err)
		}
		_, _ = io.WriteString(b, "answer")
		_ = b.Close()
		if got, err := io.ReadAll(a); string(got) != "answer" || err != nil {
			t.Errorf("%s first: back came %q, %v", first, got, err)
		}
		if err := <-done; err != nil {
			t.Errorf("%s first: %v", first, err)
		}
	}
}

func TestResetIsPassedOn(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"client", "backend"} {
		client, backend, done := through(t, new(Group))
		a, b := client, backend
		if first == "backend" {
			a, b = backend, client
		}
		_, _ = io.WriteString(b, "x")
		_, _ = io.ReadFull(a, make([]byte, 1))
		_ = a.SetLinger(0)
		_ = a.Close()
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s reset, the other side saw %v", first, err)
		}
		if err := <-done; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s reset: %v", first, err)
		}
	}
}

func TestGroupEnds(t *testing.T) {
	t.Parallel()
	var group Group
	client, backend, done := through(t, &group)
	group.End()
	for _, c := range []net.Conn{client, backend} {
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("read: %v", err)
		}
	}
	if err := <-done; !errors.Is(err, errEnded) {
		t.Errorf("got %v", err)
	}
	group.Wait()
}

// udpBackend answers "from: text".
func udpBackend(t *testing.T, port int) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, maxDatagram)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			_, _ = c.WriteToUDPAddrPort(fmt.Appendf(nil, "%d: %s", from.Port(), b[:min(n, 1000)]), from)
		}
	})
	t.Cleanup(func() {
		_ = c.Close()
		wg.Wait()
	})
	return c
}

// front is a proxied socket with a loop that polls it.
func front(t *testing.T, backend netip.AddrPort, idle time.Duration) (*UDP, netip.AddrPort) {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4zero})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var u *UDP
	if err := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		u = NewUDP(int(fd), backend, slog.New(slog.DiscardHandler), nil)
		u.idle = idle
	}); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for raw.Read(func(uintptr) bool { u.Readable(); return false }) == nil {
		}
	})
	t.Cleanup(func() {
		_ = c.SetReadDeadline(time.Unix(1, 0)) // ends the loop; the socket is still in use
		wg.Wait()
		u.Close()
		_ = c.Close()
	})
	return u, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), c.LocalAddr().(*net.UDPAddr).AddrPort().Port())
}

func udpClient(t *testing.T, to netip.AddrPort) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func ask(t *testing.T, c *net.UDPConn, text string) (port int, answer string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2000)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(string(b[:n]), "%d: %s", &port, &answer); err != nil {
		t.Fatalf("%q: %v", b[:n], err)
	}
	return port, answer
}

// A flow ends when it has been silent, and not before.
func TestFlowExpires(t *testing.T) {
	t.Parallel()
	back := udpBackend(t, 0)
	const idle = 400 * time.Millisecond
	u, to := front(t, back.LocalAddr().(*net.UDPAddr).AddrPort(), idle)
	c := udpClient(t, to)
	first, _ := ask(t, c, "a")
	for range 4 { // together longer than idle
		time.Sleep(idle / 3)
		if port, answer := ask(t, c, "b"); port != first || answer != "b" {
			t.Fatalf("answer %q by port %d, was %d", answer, port, first)
		}
	}
	if n := u.Flows(); n != 1 {
		t.Errorf("%d flows", n)
	}
	for begun := time.Now(); u.Flows() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			t.Fatal("the flow does not end")
		}
	}
	ask(t, c, "again")
}

// A backend that is not there yet costs datagrams, not the flow.
func TestBackendComesLater(t *testing.T) {
	t.Parallel()
	probe, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	at := probe.LocalAddr().(*net.UDPAddr).AddrPort()
	_ = probe.Close()
	u, to := front(t, at, flowIdle)
	c := udpClient(t, to)
	for range 3 {
		if _, err := c.Write([]byte("lost")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	udpBackend(t, int(at.Port()))
	// The refusal of an earlier datagram does not cost this one. One that was passed on late
	// may be answered first.
	_, answer := ask(t, c, "heard")
	for range 3 {
		if answer == "lost" {
			_, answer = ask(t, c, "heard")
		}
	}
	if answer != "heard" {
		t.Errorf("got %q", answer)
	}
	if n := u.Flows(); n != 1 {
		t.Errorf("%d flows", n)
	}
}

// Past the limit the flow that was silent longest makes room.
func TestFlowsAreBounded(t *testing.T) {
	t.Parallel()
	u, to := front(t, udpBackend(t, 0).LocalAddr().(*net.UDPAddr).AddrPort(), flowIdle)
	oldest, kept := udpClient(t, to), udpClient(t, to)
	first, _ := ask(t, oldest, "x")
	port, _ := ask(t, kept, "x")
	for range maxFlows - 2 {
		ask(t, udpClient(t, to), "x")
	}
	ask(t, kept, "x")
	ask(t, udpClient(t, to), "one more")
	if n := u.Flows(); n != maxFlows {
		t.Errorf("%d flows, want %d", n, maxFlows)
	}
	if again, _ := ask(t, kept, "x"); again != port {
		t.Error("a flow in use had to go")
	}
	if again, _ := ask(t, oldest, "x"); again == first {
		t.Error("the oldest flow is still there")
	}
}

// The longest datagram there is goes through whole.
func TestLongDatagram(t *testing.T) {
	t.Parallel()
	back, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	_, to := front(t, back.LocalAddr().(*net.UDPAddr).AddrPort(), flowIdle)
	c := udpClient(t, to)
	_ = c.SetWriteBuffer(1 << 20)
	b := make([]byte, 65_507)
	for i := range b {
		b[i] = byte(i)
	}
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	_ = back.SetReadDeadline(time.Now().Add(10 * time.Second))
	got := make([]byte, 70_000)
	n, _, err := back.ReadFromUDP(got)
	if err != nil || string(got[:n]) != string(b) {
		t.Errorf("%d bytes, %v", n, err)
	}
}
