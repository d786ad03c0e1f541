package path

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/fairlead/fairlead/bench/engine"
	"github.com/fairlead/fairlead/bench/load"
	"github.com/fairlead/fairlead/doctor"
)

// telling is how many frames of a connection with outside a container's port has to have seen
// until the connection takes the fast path (kernel/fastpath).
const telling = 32

// takenWithin is how long it may take until one does.
const takenWithin = 10 * time.Second

// fairleadFastPath starts it with the fast path, and sees that connections take it: the daemon
// does without where the kernel has none, or somebody else has a say on what is routed.
func fairleadFastPath(ctx context.Context, h *host, _ int) error {
	h.proxy = isRelay
	e, err := h.engine(ctx, "fairlead", "--fast-path")
	if err != nil {
		return err
	}
	h.fast = func(ctx context.Context) error {
		_, err := fastFlows(ctx, e)
		return err
	}
	return h.seeFast(ctx, e)
}

// seeFast has a long connection to the published port, and sees that it takes the fast path.
func (h *host) seeFast(ctx context.Context, e *engine.Engine) error {
	talking, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	var over error
	go func() {
		defer close(ended)
		w := h.ways[wayPublished]
		_, over = w.from.Measure(talking, load.Requests, w.to, takenWithin)
	}()
	defer func() { stop(); <-ended }()
	for {
		n, err := fastFlows(ctx, e)
		if n > 0 && err == nil {
			return nil
		}
		select {
		case <-ended:
			return errors.Join(fmt.Errorf("no connection from outside took the fast path in %s", takenWithin), over, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// fastFlows is how many connections with outside take the fast path. It is an error that some
// cannot, or not all containers.
func fastFlows(ctx context.Context, e *engine.Engine) (int, error) {
	out, err := e.Run(ctx, "doctor", "--format", "json")
	var r doctor.Report
	if broken := json.Unmarshal([]byte(out), &r); broken != nil {
		return 0, errors.Join(err, fmt.Errorf("the report of fairlead doctor: %w", broken))
	}
	return flowsOf(r) // that there are other problems is no matter
}

// flowsOf reads it from a doctor's report.
func flowsOf(r doctor.Report) (flows int, err error) {
	said := false
	var errs []error
	for _, f := range r.Findings {
		switch {
		case f.Check != "fastpath":
		case f.Level != doctor.OK:
			errs = append(errs, fmt.Errorf("the fast path is not taken: %s", f.What))
		default:
			if n, _ := fmt.Sscanf(f.What, "connections with outside that take the fast path: %d", &flows); n == 1 {
				said = true
			}
		}
	}
	if !said && len(errs) == 0 {
		errs = append(errs, errors.New("fairlead doctor does not say how many connections take the fast path"))
	}
	return flows, errors.Join(errs...)
}
