package socket_test

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/socket"
)

// cpu is how long this process has had a processor, in nanoseconds, which others on
// the machine do not change.
func cpu(b *testing.B) int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkHold holds a port, opens it and lets it go.
func BenchmarkHold(b *testing.B) {
	for _, proto := range []string{"tcp", "udp"} {
		b.Run(proto, func(b *testing.B) {
			ns := namespace(b)
			in(b, ns, func() error {
				port, begun := uint16(0), cpu(b)
				defer func() { b.ReportMetric(float64(cpu(b)-begun)/float64(b.N), "cpu-ns/op") }()
				for b.Loop() {
					port = port%50000 + 1
					f, err := socket.Bind(proto, netip.AddrPortFrom(netip.IPv4Unspecified(), 10000+port))
					if err != nil {
						return err
					}
					if err := socket.Open(proto, int(f.Fd())); err != nil {
						return err
					}
					if err := f.Close(); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
}
