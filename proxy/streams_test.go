package proxy

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"
)

// much is random bytes, many times what is read at once.
func much(seed uint64) []byte {
	b := make([]byte, 6<<20)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = r.Read(b)
	return b
}

// What is much goes both ways at once, and nothing of it is lost or mixed up though each end
// reads slowly.
func TestMuch(t *testing.T) {
	t.Parallel()
	client, backend, done := through(t, new(Group))
	up, down := much(1), much(2)
	var all sync.WaitGroup
	for _, one := range []struct {
		from, to *net.TCPConn
		data     []byte
	}{{client, backend, up}, {backend, client, down}} {
		all.Go(func() {
			if _, err := one.from.Write(one.data); err != nil {
				t.Error(err)
			}
			if err := one.from.CloseWrite(); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			// In small pieces, so that the sender has to wait.
			got, err := io.ReadAll(iotest.HalfReader(one.to))
			if err != nil || !bytes.Equal(got, one.data) {
				t.Errorf("%d of %d bytes, or others: %v", len(got), len(one.data), err)
			}
		})
	}
	all.Wait()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// pair is two connected sockets that do not block; the first takes few bytes at once.
func pair(t *testing.T) (a, b int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_SNDBUF, 4096)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.Close(fds[0]), unix.Close(fds[1]) })
	return fds[0], fds[1]
}

// What the receiver has no room for is kept until it has, and the end comes after it.
func TestLeftOver(t *testing.T) {
	t.Parallel()
	sent := much(4)[:20000]
	src, client := pair(t)
	dst, backend := pair(t)
	if n, err := unix.Write(client, sent); n != len(sent) || err != nil {
		t.Fatal(n, err)
	}
	if err := unix.Shutdown(client, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	h := half{src: &src, dst: &dst, readable: true, writable: true, hung: true}
	c := &carrier{scratch: make([]byte, scratchSize)}
	var got []byte
	kept := 0
	for range 1000 {
		if _, err := h.copy(c); err != nil {
			t.Fatal(err)
		}
		if len(h.left) > 0 {
			kept++
		}
		n, err := unix.Read(backend, c.scratch)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		got = append(got, c.scratch[:n]...)
		h.writable = true
	}
	if !h.done || kept == 0 || h.carried != int64(len(sent)) || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes, kept %d times, done %t", len(got), len(sent), kept, h.done)
	}
}

// A pipe takes over from where much is read at once, and is kept for the next.
func TestPipesAreKept(t *testing.T) {
	t.Parallel()
	front, back := listen(t), listen(t)
	var streams Streams
	defer streams.Close()
	go func() {
		for {
			c, err := back.AcceptTCP()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, c); _ = c.Close() }()
		}
	}()
	for range 3 {
		go func() {
			c, err := net.Dial("tcp", front.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = c.Write(much(3))
			_ = c.Close()
		}()
		c, err := front.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		var traffic Traffic
		done := make(chan error, 1)
		streams.Carry(new(Group), descriptor(t, c), back.Addr().(*net.TCPAddr).AddrPort(), &traffic, func(err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := traffic.Read(); got.In != 6<<20 || got.Begun != 1 || got.Ended != 1 || got.Failed != 0 {
			t.Errorf("counted %+v", got)
		}
		if n := len(streams.pipes.spare); n != 1 {
			t.Errorf("%d pipes are kept, want the one", n)
		}
	}
}

// Who cannot reach the backend, or nobody carries, is reset, and counted as failed.
func TestUnreached(t *testing.T) {
	t.Parallel()
	gone := listen(t)
	refusing := gone.Addr().(*net.TCPAddr).AddrPort()
	_ = gone.Close()
	var streams, ended Streams
	silentStreams := Streams{patience: 50 * time.Millisecond}
	ended.Close()
	defer streams.Close()
	defer silentStreams.Close()
	var withdrawn Group
	withdrawn.End()
	for name, c := range map[string]struct {
		streams *Streams
		group   *Group
		backend netip.AddrPort
		want    error
	}{
		"nothing listens":     {&streams, new(Group), refusing, unix.ECONNREFUSED},
		"nobody answers":      {&silentStreams, new(Group), silent(t), unix.ETIMEDOUT},
		"the proxy has ended": {&ended, new(Group), refusing, errClosed},
		"the port has gone":   {&streams, &withdrawn, refusing, errEnded},
	} {
		client, fd := accepted(t)
		var traffic Traffic
		done := make(chan error, 1)
		c.streams.Carry(c.group, fd, c.backend, &traffic, func(err error) { done <- err })
		if err := <-done; !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		_ = client.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: the client got %v, want a reset", name, err)
		}
		if got := traffic.Read(); got.Failed != 1 || got.Ended != 1 {
			t.Errorf("%s: counted %+v", name, got)
		}
		c.group.Wait()
	}
}

// accepted is a connection: its client, and the descriptor of the other end.
func accepted(t *testing.T) (client net.Conn, fd int) {
	t.Helper()
	front := listen(t)
	client, err := net.Dial("tcp", front.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	c, err := front.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	return client, descriptor(t, c)
}

// silent is an address that does not answer: a queue that is full.
func silent(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*unix.SockaddrInet4).Port))
	first, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = first.Close() })
	return at
}

// What a short connection does without is set for one that goes on: small segments are sent
// at once, and peers that vanish are found.
func TestOptionsOfOldConnections(t *testing.T) {
	t.Parallel()
	back := listen(t)
	streams := Streams{patience: 50 * time.Millisecond}
	defer streams.Close()
	client, fd := accepted(t)
	// Package net has set both.
	if err := errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 0), unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0)); err != nil {
		t.Fatal(err)
	}
	var group Group
	streams.Carry(&group, fd, back.Addr().(*net.TCPAddr).AddrPort(), nil, func(error) {})
	defer group.Wait()
	defer group.End()
	backend, err := back.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	option := func(level, name int) bool {
		v, err := unix.GetsockoptInt(fd, level, name)
		return err == nil && v == 1
	}
	for i := range 2 {
		if option(unix.IPPROTO_TCP, unix.TCP_NODELAY) {
			t.Errorf("TCP_NODELAY is set after %d words", i)
		}
		if _, err := backend.Write([]byte("word")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(client, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
	}
	if !option(unix.IPPROTO_TCP, unix.TCP_NODELAY) {
		t.Error("TCP_NODELAY is not set before the second word")
	}
	for end := time.Now().Add(20 * time.Second); !option(unix.SOL_SOCKET, unix.SO_KEEPALIVE); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody looks whether the client is still there")
		}
	}
	streams.mu.Lock()
	defer streams.mu.Unlock()
	if streams.young.Len() != 0 {
		t.Error("is looked at again")
	}
}

// The end of what a client sends is no byte of it.
func TestKernelBytes(t *testing.T) {
	t.Parallel()
	client, fd := accepted(t)
	defer unix.Close(fd)
	if _, err := client.Write([]byte("word")); err != nil {
		t.Fatal(err)
	}
	if err := client.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 8)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if in, _ := kernelBytes(fd); in > 4 {
			t.Fatalf("%d bytes of 4", in)
		}
		if n, err := unix.Read(fd, buf); n == 0 && err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the end does not come")
		}
	}
	if in, _ := kernelBytes(fd); in != 4 {
		t.Errorf("%d bytes of 4", in)
	}
}
