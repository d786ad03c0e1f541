package relay

import (
	"io"
	"net"
	"net/netip"
	"testing"
)

// paths are a server as it is and through the relay.
func paths(b *testing.B, serve func(net.Conn)) map[string]netip.AddrPort {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	direct := l.Addr().(*net.TCPAddr).AddrPort()
	c := ensure(b, b.TempDir(), "command")
	return map[string]netip.AddrPort{"direct": direct, "relay": hold(b, c, "a", "tcp", "127.0.0.1", direct)}
}

// BenchmarkThroughput sends to a server that discards.
func BenchmarkThroughput(b *testing.B) {
	to := paths(b, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	for name, ap := range to {
		b.Run(name, func(b *testing.B) {
			c := dial(b, "tcp", ap)
			chunk := make([]byte, 1<<20)
			b.SetBytes(int64(len(chunk)))
			for b.Loop() {
				if _, err := c.Write(chunk); err != nil {
					b.Fatal(err)
				}
			}
			_ = c.Close()
		})
	}
}

// BenchmarkConnect makes a connection, exchanges a byte and closes it.
func BenchmarkConnect(b *testing.B) {
	to := paths(b, func(c net.Conn) { _, _ = io.Copy(c, c); _ = c.Close() })
	for name, ap := range to {
		b.Run(name, func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				buf := make([]byte, 1)
				for pb.Next() {
					c, err := net.Dial("tcp", ap.String())
					if err != nil {
						b.Error(err)
						return
					}
					if _, err = c.Write(buf); err == nil {
						_, err = io.ReadFull(c, buf)
					}
					if err != nil {
						b.Error(err)
					}
					_ = c.Close()
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "conns/s")
		})
	}
}

// BenchmarkRequest exchanges 100 bytes on one connection.
func BenchmarkRequest(b *testing.B) {
	to := paths(b, func(c net.Conn) { _, _ = io.Copy(c, c); _ = c.Close() })
	for name, ap := range to {
		b.Run(name, func(b *testing.B) {
			c := dial(b, "tcp", ap)
			buf := make([]byte, 100)
			for b.Loop() {
				if _, err := c.Write(buf); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Fatal(err)
				}
			}
			_ = c.Close()
		})
	}
}
