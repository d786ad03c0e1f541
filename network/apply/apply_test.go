package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/network/plan"
)

// fakeKernel holds which steps are done, in order.
type fakeKernel struct {
	done     []string
	calls    []string
	failDo   string // name of the step that cannot be done
	failUndo string
	// recovers is how many failures there are before all goes well.
	recovers int
}

func label(s plan.Step) string { return strings.Join(s.Commands(), ";") }

func (k *fakeKernel) Do(_ context.Context, steps []plan.Step) error {
	k.calls = append(k.calls, fmt.Sprintf("do %d", len(steps)))
	for _, s := range steps {
		if k.failDo != "" && label(s) == k.failDo {
			k.relent()
			return errors.New("kernel says no")
		}
		if !slices.Contains(k.done, label(s)) {
			k.done = append(k.done, label(s))
		}
	}
	return nil
}

func (k *fakeKernel) Undo(_ context.Context, steps []plan.Step) error {
	var errs []error
	for i := len(steps) - 1; i >= 0; i-- {
		k.calls = append(k.calls, "undo "+label(steps[i]))
		if k.failUndo != "" && label(steps[i]) == k.failUndo {
			k.relent()
			errs = append(errs, errors.New("cannot undo"))
			continue
		}
		for j, d := range k.done {
			if d == label(steps[i]) {
				k.done = append(k.done[:j], k.done[j+1:]...)
				break
			}
		}
	}
	return errors.Join(errs...)
}

// relent counts a failure.
func (k *fakeKernel) relent() {
	if k.recovers--; k.recovers == 0 {
		k.failDo, k.failUndo = "", ""
	}
}

// fakeRecord writes down the life of the record.
type fakeRecord struct {
	log        []string
	failCommit bool
}

func (r *fakeRecord) Begin() error { r.log = append(r.log, "begin"); return nil }
func (r *fakeRecord) Abort() error { r.log = append(r.log, "abort"); return nil }

func (r *fakeRecord) Commit() error {
	r.log = append(r.log, "commit")
	if r.failCommit {
		return errors.New("disk full")
	}
	return nil
}

func steps() []plan.Step {
	return []plan.Step{
		plan.Sysctl{Key: "a", Value: "1"},
		plan.Sysctl{Key: "b", Value: "1"},
		plan.ForgetFlows{},
		plan.Sysctl{Key: "c", Value: "1"},
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		kernel     fakeKernel
		failCommit bool
		done       string
		record     string
		err        string
	}{
		{name: "all goes well", done: "sysctl -w a=1|sysctl -w b=1||sysctl -w c=1", record: "begin commit"},
		{name: "the last step fails", kernel: fakeKernel{failDo: "sysctl -w c=1"}, record: "begin abort", err: "kernel says no"},
		{name: "the commit fails", failCommit: true, record: "begin commit abort", err: "disk full"},
		{
			name: "a step cannot be undone", kernel: fakeKernel{failDo: "sysctl -w c=1", failUndo: "sysctl -w a=1"},
			done: "sysctl -w a=1", record: "begin", err: "cannot undo",
		},
	} {
		rec := &fakeRecord{failCommit: c.failCommit}
		err := Run(t.Context(), &c.kernel, rec, "test", steps())
		if got := strings.Join(c.kernel.done, "|"); got != c.done {
			t.Errorf("%s: done %q, want %q", c.name, got, c.done)
		}
		if got := strings.Join(rec.log, " "); got != c.record {
			t.Errorf("%s: record %q, want %q", c.name, got, c.record)
		}
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.err)
		}
	}
}

func TestAdjacentStepsOfAKindGoTogether(t *testing.T) {
	t.Parallel()
	var k fakeKernel
	if err := Run(t.Context(), &k, &fakeRecord{}, "test", steps()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(k.calls, ", "); got != "do 2, do 1, do 1" {
		t.Errorf("calls: %s", got)
	}
}

func TestUndoAndFinishGoOnPastErrors(t *testing.T) {
	t.Parallel()
	k := fakeKernel{done: []string{"sysctl -w a=1", "sysctl -w b=1", "sysctl -w c=1"}, failUndo: "sysctl -w b=1"}
	if err := Undo(t.Context(), &k, "test", steps()); err == nil {
		t.Error("no error")
	}
	if got := strings.Join(k.done, "|"); got != "sysctl -w b=1" {
		t.Errorf("left %q", got)
	}
	k = fakeKernel{failDo: "sysctl -w b=1"}
	if err := Finish(t.Context(), &k, "test", steps()); err == nil {
		t.Error("no error")
	}
	if got := strings.Join(k.done, "|"); got != "sysctl -w a=1||sysctl -w c=1" {
		t.Errorf("did %q", got)
	}
}

// TestTriesAgain: what fails once on the way back, or at the end, is done after all.
func TestTriesAgain(t *testing.T) {
	t.Parallel()
	k := fakeKernel{failDo: "sysctl -w b=1", recovers: tries - 1}
	if err := Finish(t.Context(), &k, "test", steps()); err != nil {
		t.Error(err)
	}
	k.failUndo, k.recovers = "sysctl -w b=1", tries-1
	if err := Undo(t.Context(), &k, "test", steps()); err != nil || len(k.done) > 0 {
		t.Errorf("left %q: %v", k.done, err)
	}
}

// TestLeft: the error says that something is left, and is one line.
func TestLeft(t *testing.T) {
	t.Parallel()
	k := fakeKernel{failDo: "sysctl -w c=1", failUndo: "sysctl -w b=1"}
	err := Run(t.Context(), &k, &fakeRecord{}, "test", steps())
	var left *LeftError
	if !errors.As(err, &left) || left.Left == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
}
