package network

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/spawn"
	"github.com/fairlead/fairlead/network/spec"
)

// BenchmarkAttach is one attachment with one published port, journal and sockets
// included; the relay is in the process.
func BenchmarkAttach(b *testing.B) {
	for _, there := range []int{0, 500} {
		b.Run(fmt.Sprintf("there=%d", there), func(b *testing.B) {
			h := newHost(b)
			for i := range there {
				ports := make([]spec.PortRequest, 10)
				for p := range ports {
					ports[p] = tcp(0, uint16(80+p))
				}
				h.attach(b, 100000+i, "bridge", ports...)
			}
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				a := h.attach(b, i, "bridge", tcp(0, 80))
				b.StopTimer()
				if err := h.Detach(b.Context(), a.Sandbox.ID); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkAttachPorts attaches and detaches a sandbox that publishes a range of
// ports on every address of both families: up to as many as fit under a limit of
// 20,000 descriptors, since every port has two sockets and each a copy.
func BenchmarkAttachPorts(b *testing.B) {
	for _, n := range []int{1, 1000, 4000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			if err := spawn.RaiseFileLimit(1 << 20); err != nil {
				b.Fatal(err)
			}
			h := newHost(b, func(c *Config) { c.Log = slog.New(slog.DiscardHandler) })
			var ports []spec.PortRequest
			for i := range n {
				ports = append(ports, spec.PortRequest{Proto: spec.TCP, Port: uint16(20000 + i), HostPort: uint16(20000 + i)})
			}
			var detach time.Duration
			for b.Loop() {
				req := spec.AttachRequest{ID: newID(), Name: "c", Endpoints: []spec.EndpointRequest{{Network: "bridge"}}, Ports: ports}
				a, err := h.Attach(context.Background(), req)
				if err != nil {
					b.Fatal(err)
				}
				begun := time.Now()
				b.StopTimer()
				if err := h.Detach(context.Background(), a.Sandbox.ID); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				detach += time.Since(begun)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "attach-µs/port")
			b.ReportMetric(float64(detach.Microseconds())/float64(b.N*n), "detach-µs/port")
		})
	}
}

// BenchmarkConnect is one connect, and one disconnect, of a sandbox with a published
// port that moves each time.
func BenchmarkConnect(b *testing.B) {
	h := newHost(b)
	h.network(b, spec.NetworkRequest{Name: "second"})
	a := h.attach(b, 1, "bridge", tcp(8080, 80))
	var connecting, disconnecting time.Duration
	for b.Loop() {
		started := time.Now()
		h.connect(b, a, spec.EndpointRequest{Network: "second", GwPriority: 1})
		connecting += time.Since(started)
		started = time.Now()
		h.disconnect(b, a, "second")
		disconnecting += time.Since(started)
	}
	b.ReportMetric(float64(connecting.Milliseconds())/float64(b.N), "connect-ms")
	b.ReportMetric(float64(disconnecting.Milliseconds())/float64(b.N), "disconnect-ms")
}

// BenchmarkLook looks at the host for what other programs changed: at links alone, as
// while containers come and go, and at all there is, as now and then.
func BenchmarkLook(b *testing.B) {
	for _, there := range []int{0, 200, 900} {
		b.Run(fmt.Sprintf("there=%d", there), func(b *testing.B) {
			h := newHost(b, func(c *Config) { c.Log = slog.New(slog.DiscardHandler) })
			for i := range there {
				h.attach(b, 100000+i, "bridge")
			}
			h.stopHealing()
			for name, what := range map[string]aspect{"links": aspectLinks, "everything": everything} {
				b.Run(name, func(b *testing.B) {
					for b.Loop() {
						if again, _ := h.mendHost(b.Context(), what, time.Time{}); again > 0 {
							b.Fatal("something was found")
						}
					}
				})
			}
		})
	}
}
