package timetable

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestInOrderOfTime(t *testing.T) {
	t.Parallel()
	table := New()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { table.Run(ctx, func(f func()) { f() }) })
	ran := make(chan int, 100)
	for _, n := range []int{30, 10, 20, 40} {
		table.After(time.Duration(n)*time.Millisecond, func() { ran <- n })
	}
	never := table.After(25*time.Millisecond, func() { ran <- 25 })
	if !never.Cancel() || never.Cancel() {
		t.Error("an entry is cancelled once")
	}
	var got []int
	for range 4 {
		got = append(got, <-ran)
	}
	if !slices.Equal(got, []int{10, 20, 30, 40}) {
		t.Errorf("ran %v", got)
	}
	late := table.After(0, func() { ran <- 0 })
	<-ran
	if late.Cancel() {
		t.Error("what has run was cancelled")
	}
	cancel()
	done.Wait()
}

// TestManyWait: those that wait have no goroutines.
func TestManyWait(t *testing.T) {
	table := New()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { table.Run(ctx, func(f func()) { f() }) })
	before := runtime.NumGoroutine()
	for range 10000 {
		table.After(time.Minute, func() { t.Error("it ran") })
	}
	if now := runtime.NumGoroutine(); now > before+2 {
		t.Errorf("%d goroutines, %d before", now, before)
	}
	cancel()
	done.Wait()
}
