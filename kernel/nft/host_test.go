package nft_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/ruleset"
)

// host is a network namespace of the test's own, gone when the test is.
type host struct {
	ns   *os.File
	conn *nft.Conn
	sock *os.File
}

func newHost(tb testing.TB) *host {
	tb.Helper()
	h := &host{ns: newNamespace(tb)}
	h.open(tb)
	return h
}

func (h *host) open(tb testing.TB) {
	tb.Helper()
	h.do(tb, func() {
		var err error
		if h.sock, err = nft.NewSocket(); err != nil {
			tb.Error(err)
		}
	})
	if tb.Failed() {
		tb.FailNow()
	}
	var err error
	if h.conn, err = nft.Open(h.sock); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { h.conn.Close() })
}

func newNamespace(tb testing.TB) *os.File {
	tb.Helper()
	var ns *os.File
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Never unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			ns, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		}
	}()
	<-done
	if err != nil {
		tb.Fatalf("make a network namespace: %v (tests need root)", err)
	}
	tb.Cleanup(func() { ns.Close() })
	return ns
}

// do runs f inside the namespace.
func (h *host) do(tb testing.TB, f func()) {
	tb.Helper()
	inNamespace(tb, h.ns, f)
}

func inNamespace(tb testing.TB, ns *os.File, f func()) {
	tb.Helper()
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err == nil {
			f()
		}
	}()
	<-done
	if err != nil {
		tb.Fatalf("enter the network namespace: %v", err)
	}
}

func (h *host) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), h.ns.Fd()) }

func (h *host) try(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + h.path(), name}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (h *host) run(tb testing.TB, name string, args ...string) string {
	tb.Helper()
	out, err := h.try(tb.Context(), name, args...)
	if err != nil {
		tb.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func (h *host) nftScript(tb testing.TB, script string) {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), "nsenter", "--net="+h.path(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("nft -f -: %v\n%s", err, out)
	}
}

func (h *host) apply(tb testing.TB, changes ...ruleset.Change) {
	tb.Helper()
	if err := h.conn.Apply(tb.Context(), changes); err != nil {
		tb.Fatal(err)
	}
}
