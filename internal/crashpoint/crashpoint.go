// Package crashpoint marks the places where a test may kill the process, so that
// recovery is proven at every step rather than hoped for. It must not be used
// for anything else.
//
// A point does nothing unless FAIRLEAD_CRASHPOINT names it.
package crashpoint

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// Env names the point at which the process kills itself with SIGKILL. A suffix
// "@N" waits for the N-th time the point is reached.
const Env = "FAIRLEAD_CRASHPOINT"

var (
	armed, countdown = parse(os.Getenv(Env))
	hits             atomic.Int64
)

func parse(v string) (string, int64) {
	name, n, found := strings.Cut(v, "@")
	if !found {
		return name, 1
	}
	k, err := strconv.ParseInt(n, 10, 64)
	if err != nil || k < 1 {
		return name, 1
	}
	return name, k
}

// Here marks the point name. SIGKILL, not exit: no deferred call runs, as in a
// real crash.
func Here(name string) {
	if armed == "" || armed != name {
		return
	}
	if hits.Add(1) == countdown {
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		select {}
	}
}
