package network

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fairlead/fairlead/network/firewall"
)

// TestRest: who rests is alone; nobody who has a turn, or wants one, is forgotten.
func TestRest(t *testing.T) {
	var all turns
	var under, resting atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 500 {
				done, err := all.take(t.Context(), fmt.Sprint((i+n)%5))
				if err != nil {
					t.Error(err)
					return
				}
				under.Add(1)
				if resting.Load() > 0 {
					t.Error("a turn is given during a rest")
				}
				under.Add(-1)
				done()
			}
		})
	}
	for range 3 {
		wg.Go(func() {
			for range 200 {
				done, err := all.rest(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if n := resting.Add(1); n != 1 || under.Load() != 0 {
					t.Errorf("a rest with %d turns and %d others that rest", under.Load(), n-1)
				}
				resting.Add(-1)
				done()
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	done, err := all.rest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := all.try("1"); ok {
		t.Error("a turn is given during a rest")
	}
	done()
	turn, ok := all.try("1")
	if !ok {
		t.Fatal("no turn after a rest")
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := all.rest(gone); err == nil {
		t.Error("a rest with a turn taken")
	}
	other, ok := all.try("2")
	if !ok {
		t.Fatal("a rest that was given up still keeps others out")
	}
	other()
	turn()
}

// TestRulesAreMadeAnewAmid: however often all rules are made anew while containers come
// and go, none of theirs is lost or left: not for a moment.
func TestRulesAreMadeAnewAmid(t *testing.T) {
	h := newHost(t)
	h.stopHealing()
	var on atomic.Bool
	on.Store(true)
	var wg sync.WaitGroup
	for n := range 6 {
		wg.Go(func() {
			for i := 0; on.Load() && !t.Failed(); i++ {
				req := attachRequest(1000*n+i, "bridge", tcp(uint16(9000+n), 80))
				if _, err := h.Attach(t.Context(), req); err != nil {
					t.Errorf("attach: %v", err)
					return
				}
				if err := h.Detach(t.Context(), req.ID); err != nil {
					t.Errorf("detach: %v", err)
				}
			}
		})
	}
	for range 20 {
		err := h.atRest(t.Context(), func(p firewall.Policy) error {
			lines, err := h.enforcer.Compare(t.Context(), p)
			if len(lines) > 0 {
				t.Errorf("the rules are not as they should be: %s", lines)
			}
			return errors.Join(err, h.enforcer.Replace(t.Context(), p))
		})
		if err != nil {
			t.Errorf("make the rules anew: %v", err)
		}
	}
	on.Store(false)
	wg.Wait()
	h.clean(t)
}
