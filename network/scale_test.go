package network

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/spawn"
	"github.com/fairlead/fairlead/network/spec"
)

// The size of a large host, in networks and endpoints.
const (
	scaleNetworks  = 20
	scaleEndpoints = 1000
)

// populate attaches that many sandboxes, each with a published port, to networks of
// both families, evenly.
func populate(tb testing.TB, h *host, networks, endpoints int) []spec.Attachment {
	tb.Helper()
	for i := range networks {
		h.network(tb, spec.NetworkRequest{Name: fmt.Sprintf("net%d", i), IPv6: true})
	}
	out := make([]spec.Attachment, 0, endpoints)
	for i := range endpoints {
		out = append(out, h.attach(tb, i, fmt.Sprintf("net%d", i%networks), tcp(0, 80)))
	}
	return out
}

// BenchmarkRestore is the start of a daemon on a large host where nothing has to be
// mended, and its check.
func BenchmarkRestore(b *testing.B) {
	if err := spawn.RaiseFileLimit(1 << 20); err != nil {
		b.Fatal(err)
	}
	h := newHost(b, func(c *Config) { c.Log = slog.New(slog.DiscardHandler) })
	populate(b, h, scaleNetworks, scaleEndpoints)
	var check time.Duration
	for b.Loop() {
		h.restart(b)
		b.StopTimer()
		begun := time.Now()
		lines, err := h.Check(b.Context())
		if err != nil || len(lines) > 0 {
			b.Fatal(strings.Join(lines, "\n"), err)
		}
		check += time.Since(begun)
		b.StartTimer()
	}
	b.ReportMetric(float64(check.Milliseconds())/float64(b.N), "check-ms")
}
