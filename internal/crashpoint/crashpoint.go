// Package crashpoint marks the places where a test may kill the process, so that
// recovery is proven at every step rather than hoped for. It must not be used
// for anything else.
//
// A point does nothing unless FAIRLEAD_CRASHPOINT names it, or
// FAIRLEAD_CRASHPOINT_LOG a file to note it in.
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

// LogEnv names a file to which every point that is reached is appended, a line
// each: how a test knows that it has not forgotten one.
const LogEnv = "FAIRLEAD_CRASHPOINT_LOG"

var (
	armed, countdown = parse(os.Getenv(Env))
	hits             atomic.Int64
	logFile          = open(os.Getenv(LogEnv))
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

// open opens the log; without one, or if it cannot be opened, nothing is noted.
func open(path string) *os.File {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil
	}
	return f
}

// Here marks the point name. SIGKILL, not exit: no deferred call runs, as in a
// real crash.
func Here(name string) {
	if logFile != nil {
		_, _ = logFile.WriteString(name + "\n") // whoever reads it misses what is not there
	}
	if armed == "" || armed != name {
		return
	}
	if hits.Add(1) == countdown {
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		select {}
	}
}
