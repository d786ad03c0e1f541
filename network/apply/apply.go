// Package apply runs the steps of a plan: it journals the intent, does the steps
// in order, adjacent ones of a kind together, and on failure undoes in reverse
// what was done. It knows neither kernel nor store: both are given to it.
package apply

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/crashpoint"
	"github.com/fairlead/fairlead/network/plan"
)

// Kernel does and undoes a run of steps of one type.
//
// Do leaves nothing behind of a step that failed; where it has to, the error is a
// LeftError. Undo is right for a step that
// was done, half done or never done, and goes on past errors, which it joins.
type Kernel interface {
	Do(ctx context.Context, steps []plan.Step) error
	Undo(ctx context.Context, steps []plan.Step) error
}

// Record is the journal's view of one operation. Begin is on record before the
// first step; Commit after the last; Abort when nothing was left of it.
type Record interface {
	Begin() error
	Commit() error
	Abort() error
}

// Run does the steps of the operation called op. When it returns an error, what
// was done has been undone; what could not be undone stays on record, and the error
// is a LeftError.
//
// Crash points: op.begin, op.STEP after each run of steps, op.commit.
func Run(ctx context.Context, k Kernel, rec Record, op string, steps []plan.Step) error {
	if err := rec.Begin(); err != nil {
		return err
	}
	crashpoint.Here(op + ".begin")
	runs := split(steps)
	for i, run := range runs {
		if err := k.Do(ctx, run); err != nil {
			return giveUp(ctx, k, rec, runs[:i], named(run, err))
		}
		crashpoint.Here(op + "." + name(run[0]))
	}
	if err := rec.Commit(); err != nil {
		return giveUp(ctx, k, rec, runs, err)
	}
	crashpoint.Here(op + ".commit")
	return nil
}

func giveUp(ctx context.Context, k Kernel, rec Record, done [][]plan.Step, cause error) error {
	// What was asked for may have been cancelled; the way back may not.
	err := undo(context.WithoutCancel(ctx), k, "", done)
	var left *LeftError
	if errors.As(cause, &left) { // of the step that failed
		cause, err = left.Cause, errors.Join(left.Left, err)
	}
	if err == nil {
		err = Again(rec.Abort)
	}
	if err != nil {
		return &LeftError{Cause: cause, Left: err}
	}
	return cause
}

// named says which step failed.
func named(run []plan.Step, err error) error {
	var left *LeftError
	if errors.As(err, &left) {
		return &LeftError{Cause: fmt.Errorf("%s: %w", name(run[0]), left.Cause), Left: left.Left}
	}
	return fmt.Errorf("%s: %w", name(run[0]), err)
}

// LeftError is a failed operation of which something is left: it stays on record.
type LeftError struct {
	// Cause is why it failed, Left why it could not be undone.
	Cause, Left error
}

func (e *LeftError) Error() string {
	return strings.ReplaceAll(fmt.Sprintf("%v; and it could not be undone yet: %v", e.Cause, e.Left), "\n", "; ")
}

// Unwrap gives the cause first.
func (e *LeftError) Unwrap() []error { return []error{e.Cause, e.Left} }

// tries bounds how often what takes away is tried in a row, and pause is between two
// tries: what there is no memory for now may be done in a moment.
const (
	tries = 3
	pause = 2 * time.Millisecond
)

// Again calls f until it succeeds, a few times.
func Again(f func() error) (err error) {
	for n := range tries {
		if err = f(); err == nil {
			return nil
		}
		if n < tries-1 {
			time.Sleep(pause << (2 * n))
		}
	}
	return err
}

// Undo undoes the steps of the operation called op in reverse, whether they were
// done or not, past errors, which it joins. What fails is tried again a few times.
func Undo(ctx context.Context, k Kernel, op string, steps []plan.Step) error {
	return undo(ctx, k, op, split(steps))
}

func undo(ctx context.Context, k Kernel, op string, runs [][]plan.Step) error {
	var errs []error
	for i := len(runs) - 1; i >= 0; i-- {
		if err := Again(func() error { return k.Undo(ctx, runs[i]) }); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name(runs[i][0]), err))
		}
		if op != "" {
			crashpoint.Here(op + "." + name(runs[i][0]))
		}
	}
	return errors.Join(errs...)
}

// Finish does steps that only take away: every one is tried, a few times, errors are
// joined, and nothing is undone. It is how an operation that had begun is ended after a
// crash, too.
func Finish(ctx context.Context, k Kernel, op string, steps []plan.Step) error {
	var errs []error
	for _, run := range split(steps) {
		if err := Again(func() error { return k.Do(ctx, run) }); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name(run[0]), err))
		}
		crashpoint.Here(op + "." + name(run[0]))
	}
	return errors.Join(errs...)
}

// split cuts the steps where their type changes.
func split(steps []plan.Step) [][]plan.Step {
	var runs [][]plan.Step
	for i, s := range steps {
		if i > 0 && reflect.TypeOf(s) == reflect.TypeOf(steps[i-1]) {
			runs[len(runs)-1] = append(runs[len(runs)-1], s)
			continue
		}
		runs = append(runs, []plan.Step{s})
	}
	return runs
}

// name is the step's type in lower case: what crash points and errors call it.
func name(s plan.Step) string { return strings.ToLower(reflect.TypeOf(s).Name()) }
