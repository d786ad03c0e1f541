// Package netns makes, pins and enters network namespaces.
//
// A namespace is kept alive by a pin: a bind mount of its nsfs file at a path of
// the caller's choice, as ip-netns(8) does. Everything in the project that has to
// run inside another namespace goes through Do, the one place that switches a
// thread.
//
// Links, addresses and sysctls inside a namespace are the business of
// kernel/link and kernel/sysctl, and nothing here knows what a namespace is for.
package netns

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/faultpoint"
	"github.com/fairlead/fairlead/internal/openfiles"
)

// threadNS is the calling thread's own namespace. /proc/self would be the main
// thread's, whichever thread asks.
const threadNS = "/proc/thread-self/ns/net"

// Current opens the calling thread's network namespace.
func Current() (*os.File, error) {
	f, err := os.Open(threadNS)
	if why := openfiles.Why(err); why != "" {
		return nil, fmt.Errorf("open the current network namespace: %s: %w", why, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open the current network namespace: %w", err)
	}
	return f, nil
}

// Open opens the namespace at path: a pin, or a file such as /proc/PID/ns/net.
// As long as the file is open the namespace, and with it every link in it, lives
// on, so close it soon. A path that is absent gives errdefs.ErrNotFound; one that
// is no network namespace, such as a pin whose mount is gone, gives
// errdefs.ErrFailedPrecondition.
func Open(path string) (*os.File, error) {
	if err := faultpoint.Here("netns.open"); err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("no network namespace at %s: %w", path, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	// NS_GET_NSTYPE of ioctl_ns(2), Linux 4.11: ENOTTY on any other file.
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		return nil, errors.Join(fmt.Errorf("%s is not a network namespace: %w", path, errdefs.ErrFailedPrecondition), f.Close())
	}
	return f, nil
}

// Do runs f inside the namespace, on a thread of its own, and returns what f
// returns. Only code on f's goroutine is inside: goroutines that f starts are
// not. A nil ns runs f where the calling goroutine is.
//
// The thread goes back to the namespace it came from; should that fail, it is
// thrown away rather than let other goroutines run in the wrong namespace.
func Do(ns *os.File, f func() error) error {
	if ns == nil {
		return f()
	}
	return onThread(func(back *os.File) (bool, error) {
		err := faultpoint.Here("netns.enter")
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err != nil {
			return true, fmt.Errorf("enter network namespace %s: %w", ns.Name(), err)
		}
		err = f()
		if e := unix.Setns(int(back.Fd()), unix.CLONE_NEWNET); e != nil {
			return false, errors.Join(err, fmt.Errorf("leave network namespace %s: %w", ns.Name(), e))
		}
		return true, err
	})
}

// onThread runs f on a goroutine locked to a thread, with that thread's
// namespace. f says whether the thread is fit for further use: if not, or if f
// panics or exits, the lock is kept and the runtime ends the thread with it.
func onThread(f func(back *os.File) (fit bool, err error)) error {
	result := make(chan error, 1)
	go serve(f, result)
	return <-result
}

func serve(f func(back *os.File) (fit bool, err error), result chan<- error) {
	err := errors.New("the function left its goroutine")
	defer func() { result <- err }()
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		// The main thread's namespace is the process's own to everybody who looks
		// (/proc/PID/ns/net), and the runtime cannot end it. While it is locked here
		// another serves.
		err = onThread(f)
		runtime.UnlockOSThread()
		return
	}
	back, e := Current()
	if e != nil {
		runtime.UnlockOSThread()
		err = e
		return
	}
	fit, e := f(back)
	err = errors.Join(e, back.Close())
	if fit {
		runtime.UnlockOSThread()
	}
}
