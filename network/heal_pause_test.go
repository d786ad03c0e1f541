package network

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/network/spec"
)

func (h *healed) healing(tb testing.TB) spec.Healing {
	tb.Helper()
	s, err := h.Healing(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// TestHealPause: while healing is paused nothing is put back, status says what differs,
// and containers come and go; what was changed meanwhile is put back when it goes on,
// and at a start whether it was paused or not.
func TestHealPause(t *testing.T) {
	for _, end := range []string{"resume", "restart"} {
		t.Run(end, func(t *testing.T) {
			h := newHealed(t)
			h.PauseHealing()
			h.PauseHealing()
			for _, do := range []string{"ip link set VETH nomaster", "ip addr del 10.9.0.1/24 dev BRIDGE", "sysctl -qw net.ipv4.ip_forward=0", "rm LEASE"} {
				h.script(t, do)
			}
			c := h.attach(t, 3, "dual")
			if end == "resume" {
				time.Sleep(1500 * time.Millisecond) // without the pause a mend takes less than a second
			}
			s := h.healing(t)
			if !s.Paused || s.Since.IsZero() || total(s.Counts) != 0 || len(s.Pending) != 4 || !slices.Contains(h.Warnings(), healingPaused) {
				t.Errorf("paused, status is %+v", s)
			}
			for _, says := range []string{"is no port of bridge", "lacks address 10.9.0.1/24", "ip_forward", "lease"} {
				if !strings.Contains(strings.Join(s.Pending, "\n"), says) {
					t.Errorf("status says nothing of %q: %q", says, s.Pending)
				}
			}
			if ping(h.a, h.b.Endpoints[0].Addr4.Addr().String()) {
				t.Error("a port that was taken off its bridge is back")
			}
			if err := h.Detach(t.Context(), c.Sandbox.ID); err != nil {
				t.Error(err)
			}
			if end == "restart" {
				h.script(t, "ip link set VETH nomaster || true")
				if err := h.journal.Renew(h.a.Sandbox.ID, record{Attachment: &h.a}); err != nil {
					t.Fatal(err) // without a lease it would be nobody's
				}
				h.restart(t)
			} else {
				h.ResumeHealing()
				h.mended(t, s.Since, kindVeth, "is no port of bridge")
			}
			h.works(t, end)
			if now := h.healing(t); now.Paused || len(now.Pending) > 0 {
				t.Errorf("after it, status is %+v", now)
			}
		})
	}
}

// TestPausedIsSaid: an operation that cannot be done for want of a bridge that healing
// would put back says so, and does not once it is back.
func TestPausedIsSaid(t *testing.T) {
	h := newHealed(t)
	h.PauseHealing()
	h.script(t, "ip link del BRIDGE")
	req := spec.AttachRequest{ID: strings.Repeat("3", 64), Name: "c3", Endpoints: []spec.EndpointRequest{{Network: "dual"}}}
	if _, err := h.Attach(t.Context(), req); err == nil || !strings.Contains(err.Error(), "heal resume") {
		t.Errorf("an attach says %v", err)
	}
	since := time.Now()
	h.ResumeHealing()
	h.mended(t, since, kindBridge, "is missing")
	if _, err := h.Attach(t.Context(), req); err != nil {
		t.Error(err)
	}
	if got := h.Warnings(); slices.Contains(got, healingPaused) {
		t.Errorf("after it, the warnings are %q", got)
	}
}

// TestHealNeverFights: what another program changes again and again is put back so and
// so often, then slowly, and said once; other things are mended as ever.
func TestHealNeverFights(t *testing.T) {
	h := newHealed(t)
	before := time.Now()
	stop := make(chan struct{})
	var changes int
	var fight sync.WaitGroup
	fight.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				if l, err := h.links.Link(h.a.Endpoints[0].HostIf); err == nil && l.Up {
					changes++
					_ = h.links.SetMaster(h.a.Endpoints[0].HostIf, "")
				}
			}
		}
	})
	count := func() (n int) { return int(h.healing(t).Counts[kindVeth]) }
	for deadline := time.Now().Add(time.Minute); count() < burst && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	first := count()
	h.script(t, "bridge link set dev "+h.b.Endpoints[0].HostIf+" isolated on")
	h.mendedDespite(t, before)
	time.Sleep(2 * time.Second)
	if now := count(); first < burst || now > first+2 {
		t.Errorf("%d times put back, and %d two seconds later", first, now)
	}
	if s := h.healing(t); !slices.ContainsFunc(s.Pending, func(line string) bool { return strings.Contains(line, "no port of bridge") }) {
		t.Errorf("status does not say what differs: %q", s.Pending)
	}
	close(stop)
	fight.Wait()
	h.mended(t, time.Now(), kindVeth, "no port of bridge")
	h.works(t, "the fight")
	t.Logf("%d changes, %d mends", changes, count())
}

// TestBudget: a thing is put back burst times in a row, then once each refill; what
// cannot be put back is tried ever more slowly, and each error is new once.
func TestBudget(t *testing.T) {
	now := time.Now()
	var b budget
	for range burst {
		if wait, _ := b.wait(now); wait != 0 {
			t.Fatalf("it waits %s", wait)
		}
		b.spend(now)
	}
	for i := range 3 {
		if wait, said := b.wait(now.Add(time.Second)); wait != refill-time.Second || said != (i == 0) {
			t.Errorf("look %d: it waits %s, told %v", i, wait, said)
		}
	}
	now = now.Add(refill)
	if wait, said := b.wait(now); wait != 0 || said {
		t.Errorf("after %s it waits %s, told %v", refill, wait, said)
	}
	b.spend(now)
	if wait, said := b.wait(now); wait != refill || said {
		t.Errorf("then it waits %s, told %v", wait, said)
	}
	now = now.Add((burst + 1) * refill)
	if _, said := b.wait(now); said {
		t.Error("full again, it is told")
	}
	for range burst {
		b.spend(now)
	}
	if _, said := b.wait(now); !said {
		t.Error("the next fight is not told")
	}
	for i := range 2 * summaryEvery {
		if told := b.quietly("veth", "x"); told != (i%summaryEvery == summaryEvery-1) {
			t.Errorf("mend %d in a fight: told %v", i, told)
		}
	}
	h := healer{budgets: map[string]*budget{"x": &b}}
	if ended := h.tidy(now.Add(refill)); len(ended) != 0 {
		t.Errorf("a fight is over: %v", ended)
	}
	if ended := h.tidy(now.Add((burst + 1) * refill)); len(ended) != 1 || len(h.budgets) != 0 {
		t.Errorf("a fight is not over: %v", ended)
	}
	b = budget{}
	for range 2 {
		if !b.quietly("veth", "x") {
			t.Error("a mend without a fight is not told")
		}
	}
	var waits []time.Duration
	for i := range 8 {
		again, first := b.fail(now, errors.New("no"))
		if first != (i == 0) {
			t.Errorf("failure %d: told %v", i, first)
		}
		if wait, _ := b.wait(now); wait != again {
			t.Errorf("failure %d: it waits %s, not %s", i, wait, again)
		}
		waits = append(waits, again)
	}
	if !slices.IsSorted(waits) || waits[0] != firstRetry || waits[7] != refill {
		t.Errorf("it is tried again after %s", waits)
	}
	if _, first := b.fail(now, errors.New("never")); !first {
		t.Error("another error is not told")
	}
	b.fine()
	if wait, _ := b.wait(now); wait != 0 {
		t.Errorf("once done, it waits %s", wait)
	}
}

// TestHealTwoDaemons: two daemons of one host do not put back what is the other's.
func TestHealTwoDaemons(t *testing.T) {
	h := newHealed(t)
	other := emptyHost(t, func(c *Config) { c.Default.Bridge = "second0" })
	other.start(t)
	b := other.attach(t, 9, "bridge")
	since := time.Now()
	h.script(t, "ip link set VETH nomaster; ip link set BRIDGE down; ip link set second0 down; ip link set "+b.Endpoints[0].HostIf+" nomaster")
	h.mended(t, since, kindVeth, "no port of bridge")
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if s, err := other.Healing(t.Context()); err == nil && s.Counts[kindVeth] > 0 && len(s.Pending) == 0 {
			break
		}
	}
	time.Sleep(time.Second)
	for name, c := range map[string]*Controller{"first": h.Controller, "second": other.Controller} {
		s, err := c.Healing(t.Context())
		if err != nil || len(s.Pending) > 0 || s.Counts[kindVeth] != 1 || s.Counts[kindBridge] != 1 || total(s.Counts) != 2 {
			t.Errorf("the %s daemon: %+v, %v", name, s, err)
		}
	}
	h.works(t, "both")
	if !ping(b, other.Networks()[0].Subnets[0].Gateway.String()) {
		t.Error("the second daemon's container does not reach its gateway")
	}
	err := errors.Join(other.Teardown(context.Background()), other.Close(), other.store.Close(), other.relay.firewall.Close(),
		unix.Unmount(filepath.Join(other.dir, "exec", "netns"), unix.MNT_DETACH))
	if err != nil {
		t.Error(err)
	}
}

// TestHealMany: with 200 endpoints present, and more coming and going, mends are as fast.
func TestHealMany(t *testing.T) {
	h := newHealed(t)
	for i := range 200 {
		h.attach(t, 100+i, "dual")
	}
	stop := make(chan struct{})
	var churn sync.WaitGroup
	churn.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			a, err := h.Attach(t.Context(), attachRequest(1000+i, "dual"))
			if err == nil {
				err = h.Detach(t.Context(), a.Sandbox.ID)
			}
			if err != nil && !errdefs.IsNotFound(err) { // while there is no bridge
				t.Error(err)
				return
			}
		}
	})
	lag := schedulerLag(t)
	for _, c := range []struct{ do, says string }{
		{"ip link set VETH nomaster", "no port of bridge"},
		{"ip link del VETH", "is missing"},
		{"ip addr flush dev BRIDGE", "lacks address"},
		{"bridge link set dev VETH isolated on", "isolated on"},
		{"ip link del BRIDGE", "is missing"},
	} {
		since := time.Now()
		h.script(t, c.do)
		var m spec.Mend
		for deadline := since.Add(30 * time.Second); m.Kind == "" && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			for _, one := range h.lastMends() {
				if one.Time.After(since) && strings.Contains(one.What, c.says) {
					m = one
				}
			}
		}
		t.Logf("%-40s %6s  %s", c.do, m.Took.Round(time.Millisecond), m.What)
		if allowed := time.Second + 20*lag(); m.Kind == "" || m.Took > allowed {
			t.Errorf("%q was put back after %s", c.do, m.Took)
		}
	}
	close(stop)
	churn.Wait()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		s := h.healing(t)
		if len(s.Pending) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it still differs: %q", s.Pending)
		}
	}
	h.works(t, "all")
	t.Log(fmt.Sprint("this process waited for up to ", lag()))
}

// lastMends are those of Healing, without its look at the host.
func (c *Controller) lastMends() []spec.Mend {
	c.healer.mu.Lock()
	defer c.healer.mu.Unlock()
	return slices.Clone(c.healer.last)
}

// total is how many mends there were of all kinds.
func total(counts map[string]uint64) (n uint64) {
	for _, of := range counts {
		n += of
	}
	return n
}
