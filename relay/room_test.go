package relay

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// leaveRoom lowers a process's limit so that it may open n more files beside what gaps
// its table has, until the function it returns is called.
func leaveRoom(t *testing.T, pid, n int) (raise func()) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old); err != nil {
		t.Fatal(err)
	}
	free := 0 // the lowest descriptor it does not have: no room but what it gives up
	for ; ; free++ {
		if _, err := os.Lstat(fmt.Sprintf("/proc/%d/fd/%d", pid, free)); err != nil {
			break
		}
	}
	tight := unix.Rlimit{Cur: uint64(free + n), Max: old.Max}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &tight, nil); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &old, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNoRoomForPorts: ports for which the process may not open files are refused with
// the cause and the way out, none of them is held, and the connection goes on.
func TestNoRoomForPorts(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	target := echoTCP(t)
	ports := make([]Binding, 30)
	for i := range ports {
		ip := []string{"127.0.0.1", "::1"}[i%2]
		host, f := bind(t, "tcp", ip)
		ports[i] = Binding{Owner: "range", Proto: "tcp", Host: host, Backend: target, Proxy: true, File: f}
	}
	raise := leaveRoom(t, c.PID(), 10)
	err := c.Hold(t.Context(), ports)
	if !errdefs.IsResourceExhausted(err) || !strings.Contains(err.Error(), fmt.Sprintf("prlimit --pid %d --nofile=", c.PID())) {
		t.Errorf("without room: %v", err)
	}
	if held, err := c.List(t.Context()); err != nil || len(held) != 0 {
		t.Errorf("%d ports are held, %v", len(held), err)
	}
	raise()
	if err := c.Hold(t.Context(), ports); err != nil {
		t.Fatal(err)
	}
	for _, p := range ports[:2] {
		say(t, dial(t, "tcp", p.Host), "held")
	}
}
