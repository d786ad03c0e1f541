package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/faultpoint"
)

// failing is a crashing site whose daemon's calls fail when they are told to.
type failing struct {
	*crashing
	file, passed string
}

// newFailing starts the site's daemon anew so that calls can fail.
func newFailing(t *testing.T) *failing {
	t.Helper()
	dir := t.TempDir()
	f := &failing{crashing: newCrashing(t, nftables), file: filepath.Join(dir, "fault"), passed: filepath.Join(dir, "passed")}
	f.Stop()
	f.fail("none")
	f.Start(faultpoint.FileEnv+"="+f.file, faultpoint.LogEnv+"="+f.passed)
	return f
}

// fail has a call fail from now on; "none" has none.
func (f *failing) fail(fault string) {
	f.t.Helper()
	if err := os.WriteFile(f.file, []byte(fault), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// calls are those to containerd, to the store and to helpers that do makes, each with the
// time that it is the one of its name.
func (f *failing) calls(do func()) (out []string) {
	f.t.Helper()
	before, _ := os.ReadFile(f.passed)
	do()
	after, err := os.ReadFile(f.passed)
	if err != nil {
		f.t.Fatal(err)
	}
	count := map[string]int{}
	for name := range strings.FieldsSeq(string(after[len(before):])) {
		kind, _, _ := strings.Cut(name, ".")
		if !slices.Contains([]string{"containerd", "store", "helper"}, kind) {
			continue // those are tried in package network
		}
		count[name]++
		out = append(out, fmt.Sprintf("%s=ENOBUFS@%d", name, count[name]))
	}
	return out
}

// TestFaultCalls: each call to containerd, to the store and to a helper that an operation on
// a container makes fails, before it is made or when it has been: the operation succeeds all
// the same, or fails with one line and leaves nothing; it works the next time, and a
// bystander is not touched. In short one of 24 does, of each operation at least one.
func TestFaultCalls(t *testing.T) {
	t.Parallel()
	f := newFailing(t)
	exists := func(name string) bool {
		return slices.Contains(strings.Fields(f.Must("ps", "-a", "--format", "{{.Names}}")), name)
	}
	running := func() bool { return f.inspect("victim").State.Running }
	short := []string{"run", "-d", "--name", "short", "-p", "9000:80", "-v", "/data", "demo", "sleep", "3600"}
	stop := func() {
		if running() {
			f.CLI("kill", "victim")
		}
		eventually(t, "the victim has ended", func() bool { return !running() })
	}
	operations := []struct {
		name   string
		do     []string
		before func()
		// after takes away what do made, whether it succeeded or not.
		after func(succeeded bool)
	}{
		{
			name: "run", do: short, before: func() {},
			after: func(succeeded bool) {
				if exists("short") != succeeded && succeeded {
					t.Error("it was run, and is not there")
				}
				if exists("short") {
					f.Must("rm", "-f", "-v", "short")
				}
			},
		},
		{
			name: "rm", do: []string{"rm", "-f", "-v", "short"}, before: func() { f.Must(short...) },
			after: func(succeeded bool) {
				if exists("short") {
					if succeeded {
						t.Error("it was removed, and is there")
					}
					f.Must("rm", "-f", "-v", "short")
				}
			},
		},
		{
			name: "start", do: []string{"start", "victim"}, before: func() {},
			after: func(succeeded bool) {
				if succeeded && !running() {
					t.Error("it was started, and does not run")
				}
				stop()
			},
		},
		{
			name: "kill", do: []string{"kill", "victim"}, before: func() { f.Must("start", "victim") },
			after: func(bool) { stop() },
		},
		{
			name: "exec", do: []string{"exec", "bystander", "true"}, before: func() {}, after: func(bool) {},
		},
		{
			name: "rename", do: []string{"rename", "victim", "other"}, before: func() {},
			after: func(succeeded bool) {
				if exists("other") != succeeded || exists("victim") == succeeded {
					t.Errorf("renamed: %v; there as other: %v", succeeded, exists("other"))
				}
				if exists("other") {
					f.Must("rename", "other", "victim")
				}
			},
		},
	}
	tried := 0
	for _, o := range operations {
		undisturbed := func() (calls []string) {
			o.before()
			calls = f.calls(func() { f.Must(o.do...) })
			o.after(true)
			return calls
		}
		undisturbed() // what is done but once
		calls := undisturbed()
		eventually(t, o.name+" leaves nothing", func() bool { return f.present() == f.quiet })
		if len(calls) == 0 {
			t.Fatalf("%s makes no call", o.name)
		}
		without := tried
		for i, call := range calls {
			what := o.name + " with " + call
			if last := i == len(calls)-1; !full() && !byChance(24, what) && (!last || tried > without) {
				continue
			}
			tried++
			o.before()
			f.fail(call)
			_, stderr, code := f.CLI(o.do...)
			f.fail("none")
			if code != 0 {
				f.oneLine(what, stderr)
			}
			o.after(code == 0)
			f.mended(what)
			f.undisturbed(what)
			eventually(t, what+": nothing is left", func() bool { return f.present() == f.quiet })
			if !t.Failed() {
				undisturbed()
				eventually(t, what+": nothing is left the next time", func() bool { return f.present() == f.quiet })
			}
			if t.Failed() {
				t.Fatalf("%s: exit status %d: %s\n%s\n%s", what, code, stderr, changes(f.quiet, f.present()), f.LogTail(30))
			}
		}
	}
	t.Logf("%d faults", tried)
}
