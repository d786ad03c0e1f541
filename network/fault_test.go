package network

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/faultpoint"
	"github.com/fairlead/fairlead/kernel/netns"
)

// errnos are what calls are made to fail with.
var errnos = []syscall.Errno{syscall.ENOBUFS, syscall.EEXIST, syscall.EINTR, syscall.ENOENT, syscall.ENOSPC, syscall.EBUSY}

// facts are errors that are no failure but an answer: they say that what is to be taken
// away is not there, or that the kernel has no such thing. What believes them is right
// to, and a test that lies proves nothing.
var facts = map[string][]syscall.Errno{
	"netns.unmount":    {syscall.ENOENT},
	"netns.unlink":     {syscall.ENOENT},
	"netns.open":       {syscall.ENOENT},
	"journal.remove":   {syscall.ENOENT},
	"journal.read":     {syscall.ENOENT},
	"sysctl.read":      {syscall.ENOENT},
	"sysctl.write":     {syscall.ENOENT},
	"conntrack.flush":  {syscall.ENOENT},
	"nft.refused":      {syscall.ENOENT},
	"nft.send":         {syscall.ENOENT},
	"nft.unheard":      {syscall.ENOENT},
	"nft.socket":       {syscall.ENOENT},
	"link.newlink":     {}, // EEXIST is none: the name is somebody else's, and stays so
	"helper.resolve":   {},
	"firewalld.call":   {},
	"firewalld.config": {},
}

// bySpeed are points that are passed where the kernel is slow alone.
var bySpeed = map[string]bool{"link.dellink": true, "link.dellink.unheard": true}

// full says that every fault is to be tried, not a part of them.
func full() bool { return os.Getenv("FAIRLEAD_FULL_MATRIX") != "" }

// operation under test: before readies the host for do, after takes back what do did if
// it succeeded. All three leave the host as it was, together.
type faulted struct {
	name   string
	before func(t *testing.T, h *host)
	do     func(ctx context.Context, h *host) error
	after  func(t *testing.T, h *host)
	// takesAway says that do is right when it is repeated after a failure, and that its
	// end is as if it had succeeded.
	takesAway bool
}

// site is one call, the nth of its name, in an operation.
type site struct {
	point string
	nth   int
}

func (s site) String() string { return fmt.Sprintf("%s@%d", s.point, s.nth) }

// sites are the calls that a run of the operation made.
func sites(passed []string) (out []site) {
	count := map[string]int{}
	for _, name := range passed {
		count[name]++
		out = append(out, site{name, count[name]})
	}
	return out
}

// chosen are the errnos to try at the site: all of them, or one by chance that is the
// same in every run.
func chosen(op string, s site) []syscall.Errno {
	possible := slices.DeleteFunc(slices.Clone(errnos), func(e syscall.Errno) bool { return slices.Contains(facts[s.point], e) })
	if full() {
		return possible
	}
	return possible[chance(op, s)%uint32(len(possible)):][:1]
}

// picture is what an operation could leave behind, as text: links, pins, records, what
// the relay holds, tables. Names made by chance are in none of it.
func (h *host) picture(tb testing.TB) string {
	tb.Helper()
	var out []string
	links, err := h.links.Links()
	if err != nil {
		tb.Fatal(err)
	}
	for _, l := range links {
		name, alias := l.Name, l.Alias
		if l.Kind == "veth" {
			name, alias = "veth", ""
		}
		out = append(out, fmt.Sprintf("link %s %s %q %v %v", name, l.Kind, alias, l.Up, l.Addrs))
	}
	slices.Sort(out)
	for _, dir := range []string{"netns", "state/journal", "state/leases"} {
		names, err := os.ReadDir(filepath.Join(h.cfg.ExecRoot, dir))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			tb.Fatal(err)
		}
		for _, n := range names {
			out = append(out, fmt.Sprintf("%s %.20s pinned:%v", dir, n.Name(), netns.IsPinned(filepath.Join(h.cfg.ExecRoot, dir, n.Name()))))
		}
	}
	h.journal.Settle()
	held, _ := h.relay.List(context.Background())
	out = append(out, fmt.Sprintf("held %d, resolvers %d", len(held), len(h.relay.resolvers)))
	tables, err := h.fw.Tables()
	if err != nil {
		tb.Fatal(err)
	}
	for _, table := range tables {
		out = append(out, fmt.Sprintf("table %s %s", table.Family, table.Name))
	}
	for _, a := range h.Attachments() {
		out = append(out, fmt.Sprintf("attachment %s of %d endpoints, %d ports", a.Sandbox.Name, len(a.Endpoints), len(a.Ports)))
	}
	for _, n := range h.Networks() {
		out = append(out, "network "+n.Name)
	}
	raw, _ := os.ReadFile(filepath.Join(h.cfg.ExecRoot, "state", "sysctls.json"))
	return strings.Join(append(out, "sysctls "+string(raw)), "\n")
}

// descriptors counts the open files of this process.
func descriptors(tb testing.TB) int {
	tb.Helper()
	runtime.GC() // which closes those that the fakes forgot
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		tb.Fatal(err)
	}
	return len(files)
}

// rest is how long to wait before a host is looked at again. It grows: what is tried
// again by itself is so after a second, and to look takes more time than to wait.
type rest time.Duration

const firstRest, longestRest = rest(5 * time.Millisecond), rest(100 * time.Millisecond)

func (r *rest) take() {
	time.Sleep(time.Duration(*r))
	*r = min(*r*2, longestRest)
}

// settled waits until the host is as it was, and says how it is not.
func (h *host) settled(tb testing.TB, want string) (diff string) {
	tb.Helper()
	for deadline, rest := time.Now().Add(10*time.Second), firstRest; ; rest.take() {
		lines, err := h.Check(tb.Context())
		if err != nil {
			lines = append(lines, err.Error())
		}
		now := h.picture(tb)
		if now == want && len(lines) == 0 {
			return ""
		}
		if time.Now().After(deadline) {
			return strings.Join(lines, "\n") + "\n" + cmp.Diff(want, now)
		}
	}
}

// wrong waits until all is as it should be, and says what is not.
func (h *host) wrong(tb testing.TB) (lines []string) {
	tb.Helper()
	for deadline, rest := time.Now().Add(10*time.Second), firstRest; ; rest.take() {
		lines, err := h.Check(tb.Context())
		if err != nil {
			lines = append(lines, err.Error())
		}
		if len(lines) == 0 || time.Now().After(deadline) {
			return lines
		}
	}
}

// oneLine says whether the error is one that a person can read: one line, with what
// failed and why.
func oneLine(err error, cause syscall.Errno) bool {
	text := err.Error()
	return !strings.Contains(text, "\n") && strings.Contains(text, cause.Error()) && strings.Contains(text, ": ")
}

// try runs the operation with the fault, and then looks.
func (f faulted) try(t *testing.T, h *host, want string, fault faultpoint.Fault) {
	t.Helper()
	what := fmt.Sprintf("%s, %s@%d fails with %v", f.name, fault.Point, fault.Nth, fault.Errno)
	f.before(t, h)
	disarm := faultpoint.Arm(fault)
	err := f.do(context.Background(), h)
	hit := disarm()
	switch {
	case !hit && fault.Nth == 1 && !bySpeed[fault.Point]:
		t.Errorf("%s: the point was not passed", what)
	case err == nil:
	case !oneLine(err, fault.Errno):
		t.Errorf("%s: not one clear line:\n%v", what, err)
	}
	if err != nil && f.takesAway {
		if err = f.do(context.Background(), h); err != nil {
			t.Errorf("%s: and once more: %v", what, err)
		}
	}
	if err == nil {
		if lines := h.wrong(t); len(lines) > 0 {
			t.Errorf("%s, and it says that all is done:\n%s", what, strings.Join(lines, "\n"))
		}
		f.after(t, h)
	}
	if diff := h.settled(t, want); diff != "" {
		t.Errorf("%s (error: %v): the host is not as it was:\n%s", what, err, diff)
		h.restart(t)
		h.stopHealing()
		if diff := h.settled(t, want); diff != "" {
			t.Fatalf("%s: nor is it after a restart:\n%s", what, diff)
		}
	}
}

// all tries every fault at every call of the operation whose name begins with kind.
func (f faulted) all(t *testing.T, h *host, kind string) {
	t.Helper()
	h.stopHealing() // its calls are not the operation's
	want := h.picture(t)
	f.undisturbed(t, h, want) // what is done but once, such as asking what the kernel can do
	passed := slices.DeleteFunc(sites(f.undisturbed(t, h, want)), func(s site) bool { return !strings.HasPrefix(s.point, kind) })
	if len(passed) == 0 {
		t.Fatalf("%s passes no point of %q", f.name, kind)
	}
	files := descriptors(t)
	tried := 0
	began := time.Now()
	for _, s := range passed {
		if s.nth > 1 && !full() && len(passed) > 8 && chance(f.name, s)%4 != 0 {
			continue
		}
		for _, errno := range chosen(f.name, s) {
			f.try(t, h, want, faultpoint.Fault{Point: s.point, Nth: s.nth, Errno: errno})
			tried++
		}
	}
	f.undisturbed(t, h, want)
	if now := descriptors(t); now > files+4 {
		t.Errorf("%s: %d files were open, and %d are", f.name, files, now)
	}
	t.Logf("%s: %d calls, %d faults, %v", f.name, len(passed), tried, time.Since(began).Round(time.Millisecond))
}

// undisturbed runs the operation, and returns the points that it passed.
func (f faulted) undisturbed(t *testing.T, h *host, want string) []string {
	t.Helper()
	f.before(t, h)
	stop := faultpoint.Trace()
	err := f.do(t.Context(), h)
	passed := stop()
	if err != nil {
		t.Fatalf("%s, undisturbed: %v", f.name, err)
	}
	f.after(t, h)
	if diff := h.settled(t, want); diff != "" {
		t.Fatalf("%s, undisturbed, does not leave the host as it was:\n%s", f.name, diff)
	}
	return passed
}

// outage has every call fail from the nth of the operation on, the way back included; and
// then none.
func (f faulted) outage(t *testing.T, h *host, want string, nth int) {
	t.Helper()
	f.before(t, h)
	disarm := faultpoint.Arm(faultpoint.Fault{Errno: syscall.ENOBUFS, Nth: nth, Lasting: true})
	err := f.do(context.Background(), h)
	disarm()
	if err != nil && f.takesAway {
		err = f.do(context.Background(), h)
	}
	// What is left is tried again by itself, after a second: here at once.
	for _, l := range h.unended.list() {
		if err := h.endOne(t.Context(), l); err != nil {
			t.Errorf("%s: what is left: %v", f.name, err)
		}
	}
	if err == nil {
		f.after(t, h)
	}
	if diff := h.settled(t, want); diff != "" {
		t.Fatalf("%s, nothing works from call %d on (error: %v): the host is not as it was:\n%s", f.name, nth, err, diff)
	}
}

// outages is outage at every call.
func (f faulted) outages(t *testing.T, h *host) {
	t.Helper()
	h.stopHealing()
	want := h.picture(t)
	f.undisturbed(t, h, want)
	calls := len(f.undisturbed(t, h, want))
	step := 9 // the first and the last are among them
	if full() {
		step = 1
	}
	files, tried := descriptors(t), 0
	for nth := 1; nth <= calls; nth += step {
		f.outage(t, h, want, nth)
		tried++
	}
	f.outage(t, h, want, calls)
	if now := descriptors(t); now > files+4 {
		t.Errorf("%s: %d files were open, and %d are", f.name, files, now)
	}
	t.Logf("%s: %d calls, %d outages", f.name, calls, tried+1)
}

// chance is a number that is the site's in every run.
func chance(op string, s site) uint32 {
	sum := fnv.New32a()
	fmt.Fprint(sum, op, s)
	return sum.Sum32()
}
