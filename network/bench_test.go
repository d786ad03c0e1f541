package network

import (
	"fmt"
	"testing"

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
