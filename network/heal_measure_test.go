package network

import (
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead/fairlead/kernel/link"
)

// idleIn runs a process in the namespace, "" for one of its own, and returns its ID.
func idleIn(tb testing.TB, path string) int {
	tb.Helper()
	cmd := exec.Command("nsenter", "--net="+path, "sleep", "600")
	if path == "" {
		cmd = exec.Command("unshare", "--net", "sleep", "600")
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// schedulerLag says how long this process waited at most, for a processor and for the
// lock that all network namespaces of the machine share (rtnl_mutex), until the test's
// end: on a loaded machine that can be seconds.
func schedulerLag(tb testing.TB) func() time.Duration {
	tb.Helper()
	links, err := link.Open(nil)
	if err != nil {
		tb.Fatal(err)
	}
	var most atomic.Int64
	done := make(chan struct{})
	go func() {
		const nap = 5 * time.Millisecond
		for {
			begun := time.Now()
			select {
			case <-done:
				return
			case <-time.After(nap):
			}
			_ = links.LoopbackUp()
			if late := time.Since(begun) - nap; late > time.Duration(most.Load()) {
				most.Store(int64(late))
			}
		}
	}()
	tb.Cleanup(func() { close(done); _ = links.Close() })
	return func() time.Duration { return time.Duration(most.Load()) }
}
