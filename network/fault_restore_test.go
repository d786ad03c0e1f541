package network

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/faultpoint"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/store"
)

// breakAndDie does to the host what a Restore has to mend, and what another daemon leaves that
// died in the midst of its operations.
func (h *host) breakAndDie(t *testing.T) {
	t.Helper()
	a, _ := h.Attachment(victimID)
	ch, err := h.state.DecideConnect(victimID, spec.EndpointRequest{Network: "second"}, newID, nil)
	if err != nil {
		t.Fatal(err)
	}
	n := h.network(t, third)
	for _, err := range []error{
		h.journal.Begin("connect", victimID, record{Attachment: &ch.After}),
		h.journal.Begin("network-rm", n.ID, record{Network: &n}),
		h.networks.Delete(n.ID),
		h.relay.Release(context.Background(), victimID),
		h.links.Delete(a.Endpoints[0].HostIf),
		h.links.SetMaster(a.Endpoints[1].HostIf, ""),
		exec.Command("nft", "delete", "element", "inet", "fairlead", "bridges", "{ fairlead0 }").Run(),
		exec.Command("ip", "addr", "flush", "dev", "fairlead0").Run(),
	} {
		if err != nil && !errors.As(err, new(*exec.ExitError)) {
			t.Fatal(err)
		}
	}
	h.end(t)
}

// end ends the daemon, and leaves what it made.
func (h *host) end(t *testing.T) {
	t.Helper()
	if err := errors.Join(h.Close(), h.store.Close()); err != nil {
		t.Fatal(err)
	}
}

// begin is a start of the daemon that may fail, and then leaves no file open.
func (h *host) begin(ctx context.Context) error {
	st, err := store.Open(h.dir + "/data")
	if err != nil {
		return err
	}
	h.cfg.Store = st
	c, err := Open(ctx, h.cfg)
	if err != nil {
		return errors.Join(err, st.Close())
	}
	if err := c.Restore(ctx); err != nil {
		return errors.Join(err, c.Close(), st.Close())
	}
	h.Controller, h.store = c, st
	return nil
}

// TestFaultRestore: whatever call fails while a daemon starts that has much to mend, it
// starts all the same or ends with one clear line, and then the next one mends all.
func TestFaultRestore(t *testing.T) {
	h := newFaulty(t)
	attachVictim(t, h)
	h.stopHealing()
	want := h.picture(t)
	restart := func(fault faultpoint.Fault, what string) []string {
		t.Helper()
		h.breakAndDie(t)
		if fault.Point == "" {
			stop := faultpoint.Trace()
			err := h.begin(t.Context())
			passed := stop()
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			h.stopHealing()
			if diff := h.settled(t, want); diff != "" {
				t.Fatalf("%s: not restored:\n%s", what, diff)
			}
			return passed
		}
		disarm := faultpoint.Arm(fault)
		err := h.begin(context.Background())
		disarm()
		if err != nil {
			if !oneLine(err, fault.Errno) {
				t.Errorf("%s: not one clear line:\n%v", what, err)
			}
			if err = h.begin(t.Context()); err != nil {
				t.Fatalf("%s: nor does the next one start: %v", what, err)
			}
		}
		if diff := h.settled(t, want); diff != "" {
			t.Errorf("%s: not restored:\n%s", what, diff)
			h.restart(t)
		}
		h.stopHealing()
		return nil
	}
	restart(faultpoint.Fault{}, "undisturbed")
	passed := sites(restart(faultpoint.Fault{}, "undisturbed"))
	files := descriptors(t)
	tried := 0
	began := time.Now()
	for _, s := range passed {
		if !full() && s.nth > 2 && chance("restore", s)%16 != 0 {
			continue
		}
		for _, errno := range chosen("restore", s) {
			restart(faultpoint.Fault{Point: s.point, Nth: s.nth, Errno: errno}, fmt.Sprintf("restore, %s fails with %v", s, errno))
			tried++
		}
	}
	if now := descriptors(t); now > files+4 {
		t.Errorf("%d files were open, and %d are", files, now)
	}
	t.Logf("restore: %d calls, %d faults, %v", len(passed), tried, time.Since(began).Round(time.Millisecond))
}
