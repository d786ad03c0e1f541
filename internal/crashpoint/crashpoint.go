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
)

// Env names the point at which the process kills itself with SIGKILL. A suffix
// "@N" waits for the N-th time the point is reached, and ":PID" kills that process
// instead, and goes on: one that this one relies on.
const Env = "FAIRLEAD_CRASHPOINT"

// HelperEnv is Env for the processes that this one starts.
const HelperEnv = "FAIRLEAD_CRASHPOINT_HELPER"

// LogEnv names a file to which every point that is reached is appended, a line
// each: how a test knows that it has not forgotten one.
const LogEnv = "FAIRLEAD_CRASHPOINT_LOG"

var (
	armed, countdown, other = parse(os.Getenv(Env))
	hits                    atomic.Int64
	logFile                 = open(os.Getenv(LogEnv))
)

// parse gives the point, the time at which it counts, and the process to kill, 0 for
// this one.
func parse(v string) (name string, n int64, pid int) {
	name, who, found := strings.Cut(v, ":")
	if found {
		pid, _ = strconv.Atoi(who)
	}
	name, times, _ := strings.Cut(name, "@")
	n, err := strconv.ParseInt(times, 10, 64)
	if err != nil || n < 1 {
		n = 1
	}
	return name, n, max(pid, 0)
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
	if hits.Add(1) != countdown {
		return
	}
	if other == 0 {
		kill(os.Getpid())
		select {}
	}
	kill(other)
}

func kill(pid int) {
	if p, err := os.FindProcess(pid); err == nil {
		_ = p.Kill()
	}
}
