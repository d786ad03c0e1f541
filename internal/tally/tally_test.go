package tally_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/tally"
)

func TestBounds(t *testing.T) {
	t.Parallel()
	if !slices.IsSorted(tally.Bounds[:]) {
		t.Errorf("the bounds are not in order: %v", tally.Bounds)
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	var d tally.Durations
	for _, took := range []time.Duration{-time.Second, 0, 50 * time.Microsecond, 51 * time.Microsecond, time.Millisecond, 10 * time.Second, time.Minute} {
		d.Observe(took)
	}
	got := d.Read()
	if want := 70*time.Second + 1101*time.Microsecond; got.Sum != want {
		t.Errorf("sum %v, want %v", got.Sum, want)
	}
	upTo := got.UpTo()
	for bound, want := range map[time.Duration]uint64{50 * time.Microsecond: 3, 100 * time.Microsecond: 4, 500 * time.Microsecond: 4, time.Millisecond: 5, 5 * time.Second: 5, 10 * time.Second: 6} {
		if upTo[bound] != want {
			t.Errorf("%d took no longer than %v, want %d", upTo[bound], bound, want)
		}
	}
	if got.Count() != 7 {
		t.Errorf("%d were counted, want 7", got.Count())
	}
	raw, err := json.Marshal(got)
	var again tally.Observed
	if err != nil || json.Unmarshal(raw, &again) != nil || !reflect.DeepEqual(got, again) {
		t.Errorf("%s is %+v, want %+v (%v)", raw, again, got, err)
	}
	if none := (tally.Observed{}); none.Count() != 0 || none.UpTo()[time.Second] != 0 {
		t.Errorf("of nothing there is %+v", none.UpTo())
	}
}

// TestDurationsAtOnce: nothing is lost where many count.
func TestDurationsAtOnce(t *testing.T) {
	t.Parallel()
	var d tally.Durations
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				d.Observe(time.Millisecond)
			}
		})
	}
	wg.Wait()
	if got := d.Read(); got.Count() != 8000 || got.Sum != 8*time.Second {
		t.Errorf("%d in %v", got.Count(), got.Sum)
	}
}
