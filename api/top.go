package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/traffic"
)

// Meters read counters of traffic. Views that have it answer /fairlead/v1/top.
type Meters interface {
	// Meter begins to count. Nothing is to be ended.
	Meter() Meter
}

// Meter is one client's.
type Meter interface {
	// Sample is what has been counted until now.
	Sample(ctx context.Context) (traffic.Sample, error)
}

// The bounds of the time between two samples, and what it is by itself. A connection to a
// published port that is over is seen for ten seconds.
const (
	minInterval     = 100 * time.Millisecond
	maxInterval     = 10 * time.Minute
	defaultInterval = 2 * time.Second
)

// top answers GET /fairlead/v1/top with samples, one line of JSON each: the first at
// once, then one every interval, until the client goes or there were count of them.
func (s *server) top(w http.ResponseWriter, r *http.Request) error {
	meters, ok := s.options.Views.(Meters)
	if !ok {
		return fmt.Errorf("this daemon counts no traffic: %w", errdefs.ErrNotImplemented)
	}
	interval, count, err := topRequest(r.URL.Query())
	if err != nil {
		return err
	}
	meter := meters.Meter()
	sample, err := meter.Sample(r.Context())
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	out, flush := json.NewEncoder(w), http.NewResponseController(w).Flush
	for n := 1; ; n++ {
		if out.Encode(sample) != nil || flush() != nil || n == count {
			return nil // the client has gone, or has what it wanted
		}
		select {
		case <-r.Context().Done():
			return nil
		case <-tick.C:
		}
		if sample, err = meter.Sample(r.Context()); err != nil {
			s.log.WarnContext(r.Context(), "traffic cannot be counted any more", "operation", "top", "err", err)
			return nil
		}
	}
}

func topRequest(q url.Values) (interval time.Duration, count int, err error) {
	interval = defaultInterval
	if text := q.Get("interval"); text != "" {
		if interval, err = time.ParseDuration(text); err != nil || interval < minInterval || interval > maxInterval {
			return 0, 0, invalid("interval %q: want %v to %v, such as 2s", text, minInterval, maxInterval)
		}
	}
	if text := q.Get("count"); text != "" {
		if count, err = strconv.Atoi(text); err != nil || count < 0 {
			return 0, 0, invalid("count %q: want a number of samples, or 0 for no end", text)
		}
	}
	return interval, count, nil
}
