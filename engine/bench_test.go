package engine

import (
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
)

// BenchmarkRunRemove is `run --rm demo true` without the network and the API;
// its parts are reported beside the whole.
func BenchmarkRunRemove(b *testing.B) {
	f := newFixture(b)
	var create, start, end time.Duration
	for b.Loop() {
		t0 := time.Now()
		resp, err := f.Create(b.Context(), CreateRequest{
			Config: &container.Config{Image: "demo", Cmd: []string{"true"}}, HostConfig: &container.HostConfig{AutoRemove: true},
		})
		if err != nil {
			b.Fatal(err)
		}
		removed, err := f.Wait(b.Context(), resp.ID, container.WaitConditionRemoved)
		if err != nil {
			b.Fatal(err)
		}
		t1 := time.Now()
		if err := f.Start(b.Context(), resp.ID); err != nil {
			b.Fatal(err)
		}
		t2 := time.Now()
		<-removed
		create, start, end = create+t1.Sub(t0), start+t2.Sub(t1), end+time.Since(t2)
	}
	for unit, d := range map[string]time.Duration{"create-ms": create, "start-ms": start, "end-ms": end} {
		b.ReportMetric(float64(d.Microseconds())/1000/float64(b.N), unit)
	}
	f.work.Wait()
}
