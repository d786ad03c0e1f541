// Package panics turns a panic into an error, so that what one request or one
// container leads to does not end the process, and with it what others have.
package panics

import (
	"errors"
	"log/slog"
	"runtime/debug"
)

// ErrPanic says to those who asked that it was our fault; the log has the rest.
var ErrPanic = errors.New("internal error; the daemon's log has the details")

// Catch is deferred: if the function panics, it sets *err to ErrPanic, and writes
// the panic and where it was to the log. A goroutine needs its own.
func Catch(err *error) {
	cause := recover()
	if cause == nil {
		return
	}
	slog.Error("panic", "panic", cause, "stack", string(debug.Stack()))
	*err = ErrPanic
}
