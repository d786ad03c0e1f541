// Package faultpoint marks the places where a test may have a call to the kernel, to
// a file or to a helper process fail, so that every way back is walked rather than
// hoped for. It must not be used for anything else.
//
// A point does nothing, and costs one load of a pointer, unless a test in the same
// process armed it or FAIRLEAD_FAULTPOINT names it. What has a point in front of the
// call fails without having been done; a point behind it, its name ends in
// ".unheard", fails though it was done: the answer is lost.
package faultpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Env names a fault: POINT=ERRNO, as in link.newlink=ENOBUFS. A suffix "@N" waits for
// the N-th time that the point is passed, and "@N+" has every later one fail as well.
const Env = "FAIRLEAD_FAULTPOINT"

// FileEnv names a file whose text is as that of Env. It is read whenever a point is
// passed: another text is another fault, whose times are counted from then on, and none
// makes nothing fail.
const FileEnv = "FAIRLEAD_FAULTPOINT_FILE"

// LogEnv names a file to which every point that is passed is appended, a line each:
// how a test knows that it has not forgotten one.
const LogEnv = "FAIRLEAD_FAULTPOINT_LOG"

// Fault is what is to go wrong.
type Fault struct {
	// Point is the name; "" is every point, which only counts with Lasting.
	Point string
	Errno syscall.Errno
	// Nth is the time at which it fails, from 1 on; 0 is the first.
	Nth int
	// Lasting has all later times fail too.
	Lasting bool
}

// Error is what an armed point returns.
type Error struct {
	Point string
	Errno syscall.Errno
}

// Error reads as the kernel's own error would.
func (e *Error) Error() string { return e.Errno.Error() }

// Unwrap gives the errno.
func (e *Error) Unwrap() error { return e.Errno }

// state is what is armed, and what was passed.
type state struct {
	log  *os.File
	path string // of FileEnv

	mu     sync.Mutex
	fault  Fault
	text   string // of the file
	passes int
	hit    bool
	trace  []string
}

// armed is nil but in tests.
var armed atomic.Pointer[state]

func init() {
	if s := fromEnvironment(os.Getenv(Env), os.Getenv(LogEnv), os.Getenv(FileEnv)); s != nil {
		armed.Store(s)
	}
}

// fromEnvironment is nil where nothing is asked for, or nothing that can be read: the
// program must not fail because of what is for tests.
func fromEnvironment(fault, log, file string) *state {
	s := &state{path: file}
	if log != "" {
		if f, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err == nil {
			s.log = f
		}
	}
	if f, err := Parse(fault); err == nil {
		s.fault = f
	} else if s.log == nil && s.path == "" {
		return nil
	}
	return s
}

// Parse reads a fault as Env has it.
func Parse(text string) (Fault, error) {
	point, rest, ok := strings.Cut(text, "=")
	name, when, counted := strings.Cut(rest, "@")
	f := Fault{Point: point, Nth: 1}
	if f.Errno = errno(name); !ok || point == "" || f.Errno == 0 {
		return Fault{}, fmt.Errorf("fault %q: want POINT=ERRNO, as in link.newlink=ENOBUFS@2", text)
	}
	if !counted {
		return f, nil
	}
	when, f.Lasting = strings.CutSuffix(when, "+")
	n, err := strconv.Atoi(when)
	if err != nil || n < 1 {
		return Fault{}, fmt.Errorf("fault %q: %q is no count from 1 on", text, when)
	}
	f.Nth = n
	return f, nil
}

// errno finds an error number by its name, 0 for none.
func errno(name string) syscall.Errno {
	if name == "" {
		return 0
	}
	const last = 133 // EHWPOISON
	for e := syscall.Errno(1); e <= last; e++ {
		if unix.ErrnoName(e) == name {
			return e
		}
	}
	return 0
}

// Armed says whether any point may do anything: for places where even to find the
// point's name would cost something.
func Armed() bool { return armed.Load() != nil }

// Here marks the point name. The error, if any, wraps the errno of the fault.
func Here(name string) error {
	s := armed.Load()
	if s == nil {
		return nil
	}
	return s.pass(name)
}

func (s *state) pass(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.path != "" {
		s.reread()
	}
	if s.log != nil {
		_, _ = s.log.WriteString(name + "\n") // whoever reads it misses what is not there
	} else {
		s.trace = append(s.trace, name)
	}
	if s.fault.Errno == 0 || s.fault.Point != "" && s.fault.Point != name {
		return nil
	}
	s.passes++
	nth := max(s.fault.Nth, 1)
	if s.passes != nth && (!s.fault.Lasting || s.passes < nth) {
		return nil
	}
	s.hit = true
	return &Error{Point: name, Errno: s.fault.Errno}
}

// reread takes the fault of the file, if it is another than before.
func (s *state) reread() {
	raw, err := os.ReadFile(s.path)
	if text := strings.TrimSpace(string(raw)); err == nil && text != s.text {
		s.text, s.passes = text, 0
		s.fault, _ = Parse(text) // none where it says none
	}
}

// Arm has the fault happen in this process until disarm, which says whether it did.
// The zero Fault makes nothing fail. Only one can be armed at a time.
func Arm(f Fault) (disarm func() (hit bool)) {
	s := &state{fault: f}
	if !armed.CompareAndSwap(nil, s) {
		panic("faultpoint: armed twice")
	}
	return func() bool {
		armed.Store(nil)
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.hit
	}
}

// Trace notes the points that are passed in this process until stop, which returns
// them in order, each as often as it was passed.
func Trace() (stop func() []string) {
	s := &state{}
	if !armed.CompareAndSwap(nil, s) {
		panic("faultpoint: armed twice")
	}
	return func() []string {
		armed.Store(nil)
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.trace
	}
}
