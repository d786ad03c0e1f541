// Package load makes load between two network namespaces and says what came through: new
// connections, requests answered one by one, a stream of bytes.
//
// Both ends are processes of their own, one thread each, that a driver starts in the
// namespaces it compares, each on a processor of its own. They ask the kernel for as little
// as they can, so that what is between them is most of what is measured. Nothing here knows
// what that is.
package load

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/nowait"
)

// Name is the argument that makes a program an end of a measurement: see Staged.
const Name = "throwaway-load"

// Kind is what a client does.
type Kind string

// The kinds of load.
const (
	// Connections opens connections, sends a byte, waits for another and resets, so that
	// neither end keeps the pair of addresses and ports; Parallel of them at a time.
	Connections Kind = "connections"
	// Requests sends MessageSize bytes on one connection and waits for as many.
	Requests Kind = "requests"
	// Stream sends as much as it can on one connection.
	Stream Kind = "stream"
	// Once does what Connections does, once: it is to see that there is a way.
	Once Kind = "once"
)

// Sample is what one client found.
type Sample struct {
	// Rate is connections, requests, or bytes a second.
	Rate float64
	// P50 and P99 are quantiles of the time of a connection (from the call of connect to
	// the answer) or a request.
	P50, P99 time.Duration
	// Done is how many connections, requests, or bytes there were in all, those included
	// that come before the clock starts, and Work the processor time that the client took
	// for them, with what the kernel does in its name.
	Done uint64
	Work time.Duration
	// Retransmitted is how many segments of the client's namespace were sent again, in
	// 1 of those sent.
	Retransmitted float64
}

// answer is what a client prints.
type answer struct {
	Sample
	Error string `json:",omitempty"`
}

// Staged is an end of a measurement if the program was started as one, and says whether it
// was: with Name, and "serve" and a port, or what a client is to do.
func Staged() (was bool, err error) {
	if len(os.Args) < 4 || os.Args[1] != Name {
		return false, nil
	}
	// One thread that makes its system calls past the scheduler, and makes no garbage worth
	// collecting: what Go's runtime does in the meantime would be measured, too.
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	if os.Args[2] == serving {
		port, err := netip.ParseAddrPort("0.0.0.0:" + os.Args[3])
		if err != nil {
			return true, err
		}
		return true, serve(port)
	}
	do, args := client, os.Args[2:]
	if args[0] == alone {
		do, args = doAlone, args[1:]
	}
	s, err := do(args)
	a := answer{Sample: s}
	if err != nil {
		a.Error = err.Error()
	}
	return true, json.NewEncoder(os.Stdout).Encode(a)
}

// client runs one client.
func client(args []string) (s Sample, err error) {
	if len(args) != 3 {
		return s, fmt.Errorf("%d arguments, want a kind, an address and a time", len(args))
	}
	to, err := netip.ParseAddrPort(args[1])
	if err != nil {
		return s, err
	}
	length, err := time.ParseDuration(args[2])
	if err != nil {
		return s, err
	}
	before, err := segments()
	if err != nil {
		return s, err
	}
	idle, err := worked()
	if err != nil {
		return s, err
	}
	switch Kind(args[0]) {
	case Connections:
		s, err = connections(to, length, Parallel)
	case Once:
		s, err = connections(to, 0, 1)
	case Requests:
		s, err = requests(to, length)
	case Stream:
		s, err = stream(to, length)
	default:
		err = fmt.Errorf("no load %q", args[0])
	}
	if err != nil {
		return s, err
	}
	if s.Work, err = worked(); err != nil {
		return s, err
	}
	s.Work -= idle
	after, err := segments()
	if sent := after.sent - before.sent; sent > 0 {
		s.Retransmitted = float64(after.again-before.again) / float64(sent)
	}
	return s, err
}

// worked is the processor time that the calling thread has taken, which is to stay one. The kernel
// leaves out of it what the host of a virtual machine took from its processors
// (CONFIG_PARAVIRT_TIME_ACCOUNTING).
func worked() (time.Duration, error) {
	var t unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
	return time.Duration(t.Nano()), err
}

// What a connection's first byte asks of the server.
const (
	asksShort  = 'c' // one byte back
	asksEcho   = 'r' // every byte back
	asksTaking = 's' // at the end how many bytes came, eight bytes in big endian
)

// MessageSize is how many bytes a request has, and its answer.
const MessageSize = 64

// congestion is Linux's usual congestion control. Some machines have another, which sends at
// a pace of its own.
const congestion = "cubic"

// openSocket makes a TCP socket that sends small segments at once.
func openSocket(to netip.AddrPort, flags int) (fd int, err error) {
	family := unix.AF_INET
	if to.Addr().Is6() {
		family = unix.AF_INET6
	}
	if fd, err = nowait.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0); err != nil {
		return -1, err
	}
	// Where it is not there, or not ours to choose, both ends do without.
	if err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, congestion); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EPERM) {
		return -1, err
	}
	return fd, nowait.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
}

// sockaddr is an address as system calls take it.
func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// reset closes a connection so that neither end keeps anything of it.
func reset(fd int) error {
	if err := nowait.ResetOnClose(fd); err != nil {
		return err
	}
	return nowait.Close(fd)
}
