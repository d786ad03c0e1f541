package network

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/tally"
	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/network/spec"
)

// What another program changes of ours while the daemon runs is put back. The kernel
// tells of changes (network/watch.go), a survey finds what differs (network/survey.go),
// and each finding knows its mend (network/heal_mend.go). Two goroutines do it, for
// firewalld may take seconds to answer: one for the packet filters of all programs
// (network/heal_policy.go), one for everything else.

const (
	// quiet is how long other programs must have changed nothing in the packet
	// filters before we look: a reload is many changes. impatience is for those that
	// never stop, and pause is between two looks.
	quiet, impatience, pause = 100 * time.Millisecond, 300 * time.Millisecond, 200 * time.Millisecond
	// After a look that took longer than longLook the pause is restShare times as long as
	// that, maxRest at most.
	longLook, restShare, maxRest = 200 * time.Millisecond, 5, 10 * time.Second
	// The same of links and the rest. With no end of events, as while containers come
	// and go, the pause is at least fivefold what the last look took.
	quietHost, impatientHost, pauseHost = 20 * time.Millisecond, 100 * time.Millisecond, 50 * time.Millisecond
	maxPauseHost                        = 250 * time.Millisecond
	// busyAgain is when a thing is looked at again that an operation was at.
	busyAgain = 100 * time.Millisecond
	// everyLook is between looks at what nothing tells of, and everyGlance at that of
	// bridges: a look at each takes some 50 µs.
	everyLook, everyGlance = 10 * time.Second, 700 * time.Millisecond
	// legacyEvery is between two looks at legacy iptables, which has no events, and
	// legacyOwnEvery where our own rules are there.
	legacyEvery, legacyOwnEvery = 2 * time.Second, 300 * time.Millisecond
	// keptMends is how many mends are remembered one by one.
	keptMends = 50
)

// healer is what is known of what was put back. The zero value is ready.
type healer struct {
	noticed notice

	mu      sync.Mutex
	paused  time.Time // zero when it is not
	counts  map[string]uint64
	last    []spec.Mend // newest last
	budgets map[string]*budget
	// revived is how often each held port is known to listen again; nil until the first
	// look, which may find a relay that is older than the daemon.
	revived map[string]uint64

	surveys tally.Durations
	blind   bool // the last look failed

	stop func()
}

// startHealing puts back what other programs change, until stopHealing.
func (c *Controller) startHealing() {
	c.stopHealing()
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	if c.cfg.Firewall != FirewallNone {
		ended.Go(func() { c.healPolicy(ctx, c.foreign.changed) })
	}
	c.watchHost(ctx, &ended)
	ended.Go(func() { c.healHost(ctx) })
	if c.fast.path != nil {
		ended.Go(func() { c.runFastPath(ctx) })
	} else {
		ended.Go(func() { c.forgetFastPath(ctx) })
	}
	c.healer.stop = func() {
		cancel()
		ended.Wait()
	}
}

// stopHealing ends what startHealing began.
func (c *Controller) stopHealing() {
	if c.healer.stop != nil {
		c.healer.stop()
		c.healer.stop = nil
	}
}

// healHost looks at the host whenever something has changed.
func (c *Controller) healHost(ctx context.Context) {
	tick := time.NewTicker(everyLook)
	defer tick.Stop()
	glance := time.NewTicker(everyGlance)
	defer glance.Stop()
	again := time.NewTimer(everyLook)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-glance.C:
			if !c.bridgesDiffer() && !c.pinsDiffer() {
				continue
			}
			c.healer.noticed.add(aspectLinks|aspectFiles, time.Now())
		case <-c.healer.noticed.wake:
			c.healer.noticed.settle(ctx, quietHost, impatientHost)
		case <-tick.C:
			c.trimLeases(ctx)
			c.sayDropped()
			c.healer.noticed.add(everything, time.Time{})
		case <-again.C:
		}
		what, since := c.healer.noticed.take()
		if c.isPaused() || ctx.Err() != nil {
			continue // to go on is to look at everything
		}
		wait, took := c.mendHost(ctx, what, since)
		if wait > 0 {
			again.Reset(wait)
		}
		sleep(ctx, min(max(pauseHost, 5*took), maxPauseHost))
	}
}

// bridgesDiffer looks at bridges alone. Of most of their sysctls the kernel does not tell.
func (c *Controller) bridgesDiffer() bool {
	return !c.isPaused() && c.differingBridge(func(_ link.Link, err error) bool { return err == nil }) != ""
}

// differingBridge names a bridge of ours that is not as it is wanted, of those for which
// also says so.
func (c *Controller) differingBridge(also func(l link.Link, err error) bool) string {
	for _, n := range c.Networks() {
		want := c.plan.BridgeStep(n)
		if want.Foreign {
			continue
		}
		if l, err := c.looking.Link(want.Name); also(l, err) && (!l.Up || len(bridgeDifferences(want, l)) > 0) {
			return want.Name
		}
	}
	return ""
}

// pinsDiffer looks at pins alone: of some that are unmounted the kernel does not tell. A
// look at one takes some 3 µs.
func (c *Controller) pinsDiffer() bool {
	return !c.isPaused() && slices.ContainsFunc(c.Attachments(), func(a spec.Attachment) bool {
		noted, seen := c.pins.of(a.Sandbox.ID)
		now, pinned := netns.Inode(a.Sandbox.Path)
		return seen && (!pinned || now != noted)
	})
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// mendHost looks once and puts right what it finds. It returns when to look again
// though nothing tells, 0 for not, and how long the look took.
func (c *Controller) mendHost(ctx context.Context, what aspect, since time.Time) (again, look time.Duration) {
	begun := time.Now()
	s, err := c.newSurvey(what&aspectRoutes != 0)
	if err == nil {
		s.all()
		err = s.more(ctx, what)
	}
	if err != nil && ctx.Err() == nil {
		if !c.healer.blind {
			c.log.Error("the host cannot be looked at for what other programs changed; it is tried again", "operation", "heal", "err", err)
		}
		c.healer.noticed.keep(what, since)
		again = time.Second
	}
	c.healer.blind = err != nil
	look = time.Since(begun)
	c.healer.surveys.Observe(look)
	if s == nil {
		return again, look
	}
	for _, f := range gather(s.found) {
		if c.isPaused() {
			break // since it was looked; to go on is to look at everything
		}
		wait := c.mendOne(ctx, f, since)
		if wait > 0 {
			c.healer.noticed.keep(what, since)
			if again == 0 || wait < again {
				again = wait
			}
		}
	}
	c.healer.mu.Lock()
	for _, b := range c.healer.tidy(time.Now()) {
		c.sayEnded(b)
	}
	c.healer.mu.Unlock()
	return again, look
}

// sayEnded tells that nobody changes a thing again and again any more; times is how often
// it was put back since the log last told of it.
func (c *Controller) sayEnded(b *budget) {
	c.log.Info("nobody changes it again and again any more", "kind", b.kind, "what", b.what, "times", b.unsaid)
	c.cfg.Events.Tell("healing", "settle", b.on, "kind", b.kind)
}

// mostTold is how much of what was found on one thing is told one by one: a container
// can have thousands of ports.
const mostTold = 10

// gather makes one of all that was found on a thing, and leaves out what nobody can
// put right.
func gather(found []finding) (out []finding) {
	at := make(map[string]int)
	var more []int // of each, beside the first
	for _, f := range found {
		if f.mend == nil {
			continue
		}
		i, seen := at[f.kind+f.on]
		if !seen {
			at[f.kind+f.on] = len(out)
			out, more = append(out, f), append(more, 0)
			continue
		}
		if more[i]++; more[i] < mostTold {
			out[i].text += "; " + strings.TrimSpace(f.text[strings.LastIndex(f.text, f.on)+len(f.on):])
		}
	}
	for i, n := range more {
		if n >= mostTold {
			out[i].text += fmt.Sprintf("; and %d more", n-mostTold+1)
		}
	}
	return out
}

// mendOne puts one thing right, as far as its budget allows. It returns when to try
// again, 0 for not.
func (c *Controller) mendOne(ctx context.Context, f finding, since time.Time) (again time.Duration) {
	if wait := c.allowed(f); wait > 0 {
		return wait
	}
	err := f.mend(ctx)
	if errors.Is(err, errBusy) || ctx.Err() != nil {
		return busyAgain
	}
	return c.mended(f, since, err)
}

// allowed says how long the thing has to wait for its turn, and says so in the log
// when it comes to that.
func (c *Controller) allowed(f finding) time.Duration {
	c.healer.mu.Lock()
	defer c.healer.mu.Unlock()
	wait, exhausted := c.healer.budget(f).wait(time.Now())
	if exhausted {
		c.log.Warn("something is changed again and again by another program; it is put back more slowly", "kind", f.kind, "what", f.text, "every", refill,
			"hint", "fairlead heal pause leaves it, and all else that other programs change")
		c.cfg.Events.Tell("healing", "contend", f.on, "kind", f.kind, "what", f.text)
	}
	return wait
}

// mended notes what came of a mend: it is counted and said.
func (c *Controller) mended(f finding, since time.Time, err error) (again time.Duration) {
	c.healer.mu.Lock()
	defer c.healer.mu.Unlock()
	b, now := c.healer.budget(f), time.Now()
	if errors.Is(err, errRight) {
		b.fine()
		return 0
	}
	if err != nil {
		again, first := b.fail(now, err)
		if first {
			c.log.Error("what another program changed cannot be put back; it is tried again", "operation", "heal", "kind", f.kind, "what", f.text, "err", err)
			c.cfg.Events.Tell("healing", "fail", f.on, "kind", f.kind, "what", f.text, "error", err.Error())
		}
		return again
	}
	b.spend(now)
	m := spec.Mend{Time: now, Kind: f.kind, What: f.text}
	if !since.IsZero() {
		m.Took = now.Sub(since)
	}
	c.healer.count(m)
	c.tellMend(f.on, m)
	switch untold := b.unsaid; {
	case !b.quietly(m.Kind, m.What):
	case b.said:
		c.log.Warn("something is changed again and again still, and put back", "kind", m.Kind, "what", m.What, "times", untold+1)
	default:
		c.log.Warn("put back what another program had changed", "kind", m.Kind, "what", m.What, "duration", m.Took.Round(time.Microsecond))
	}
	return 0
}

// tellMend tells of one thing that was put back.
func (c *Controller) tellMend(on string, m spec.Mend) {
	c.cfg.Events.Tell("healing", "mend", on, "kind", m.Kind, "what", m.What, "took", m.Took.Round(time.Microsecond).String())
}

// errRight is a mend's word that there was nothing to put right any more.
var errRight = errors.New("it is as it should be")

func (h *healer) count(m spec.Mend) {
	if h.counts == nil {
		h.counts = make(map[string]uint64)
	}
	h.counts[m.Kind]++
	if h.last = append(h.last, m); len(h.last) > keptMends {
		h.last = slices.Delete(h.last, 0, len(h.last)-keptMends)
	}
}

func (c *Controller) isPaused() bool {
	c.healer.mu.Lock()
	defer c.healer.mu.Unlock()
	return !c.healer.paused.IsZero()
}

// whilePaused has an error of an operation tell the way out where it may come of what
// healing would put back: a bridge that is gone, or not as it is wanted.
func (c *Controller) whilePaused(err error) error {
	if err == nil || !c.isPaused() {
		return err
	}
	each := func(link.Link, error) bool { return true }
	if name := c.differingBridge(each); name != "" {
		return fmt.Errorf("%w (healing is paused, and bridge %s is not as it should be: fairlead heal resume puts it right)", err, name)
	}
	return err
}

// healingPaused is said wherever somebody looks for what is wrong.
const healingPaused = "healing is paused: what other programs change of the network stays so until `fairlead heal resume`"

// PauseHealing leaves what other programs change as it is, until ResumeHealing or the
// next Restore.
func (c *Controller) PauseHealing() {
	c.healer.mu.Lock()
	defer c.healer.mu.Unlock()
	if c.healer.paused.IsZero() {
		c.healer.paused = time.Now()
		c.log.Warn("healing is paused: what other programs change of ours stays so until fairlead heal resume, or the daemon's next start")
		c.cfg.Events.Tell("healing", "pause", "")
	}
}

// ResumeHealing goes on, with all that differs by now.
func (c *Controller) ResumeHealing() {
	c.healer.mu.Lock()
	was := c.healer.paused
	c.healer.paused, c.healer.budgets = time.Time{}, nil
	c.healer.mu.Unlock()
	if was.IsZero() {
		return
	}
	c.log.Info("healing goes on", "duration", time.Since(was).Round(time.Millisecond))
	c.cfg.Events.Tell("healing", "resume", "", "paused", time.Since(was).Round(time.Millisecond).String())
	c.healer.noticed.add(everything, time.Now())
	c.wakeWatcher()
}

// Healing says what was put back, and what differs now.
func (c *Controller) Healing(ctx context.Context) (spec.Healing, error) {
	pending, err := c.Check(ctx)
	if err != nil {
		return spec.Healing{}, fmt.Errorf("look for what differs: %w", err)
	}
	c.healer.mu.Lock()
	defer c.healer.mu.Unlock()
	out := spec.Healing{
		Paused: !c.healer.paused.IsZero(), Since: c.healer.paused, Counts: make(map[string]uint64),
		Last: slices.Clone(c.healer.last), Pending: slices.DeleteFunc(append([]string{}, pending...), func(line string) bool { return line == healingPaused }),
	}
	slices.Reverse(out.Last)
	for _, kind := range kinds {
		out.Counts[kind] = c.healer.counts[kind]
	}
	return out, nil
}
