package network

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/relay"
)

// silentRelay is a fakeRelay that does not say what it holds while it has an error.
type silentRelay struct {
	*fakeRelay
	err error
}

func (r *silentRelay) List(ctx context.Context) ([]relay.Binding, error) {
	if r.err != nil {
		return nil, r.err
	}
	return r.fakeRelay.List(ctx)
}

// TestHealBlind: a look at the host that fails is said once, and made again for the same
// things after a while, not at once and for ever.
func TestHealBlind(t *testing.T) {
	var silent *silentRelay
	var log bytes.Buffer
	h := newHost(t, func(c *Config) {
		silent = &silentRelay{fakeRelay: c.Relay.(*fakeRelay)}
		c.Relay, c.Log = silent, slog.New(slog.NewTextHandler(&log, nil))
	})
	h.stopHealing()
	h.healer.noticed.take()
	const told = "cannot be looked at"
	for times := 1; times <= 2; times++ {
		silent.err = errors.New("no answer")
		for range 3 {
			if again, _ := h.mendHost(t.Context(), everything, time.Time{}); again < time.Second {
				t.Errorf("it is to be looked at again in %s", again)
			}
			select {
			case <-h.healer.noticed.wake:
				t.Error("it is looked at again at once")
			default:
			}
			if what, _ := h.healer.noticed.take(); what != everything {
				t.Errorf("the next look is at %b", what)
			}
		}
		silent.err = nil
		if again, _ := h.mendHost(t.Context(), everything, time.Time{}); again != 0 {
			t.Errorf("with an answer it is to be looked at again in %s", again)
		}
		if got := strings.Count(log.String(), told); got != times {
			t.Errorf("it was said %d times, want %d:\n%s", got, times, &log)
		}
	}
}
