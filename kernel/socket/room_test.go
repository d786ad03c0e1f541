package socket

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// TestNoRoomForSockets: a process that may open no more files is named with the way out,
// and only what holds a host's port is called so. It is not parallel: the limit is that of
// every test.
func TestNoRoomForSockets(t *testing.T) {
	free := netip.MustParseAddrPort("127.0.0.1:20037")
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	lowest, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	full := unix.Rlimit{Cur: uint64(lowest.Fd()), Max: old.Max}
	_ = lowest.Close()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &full); err != nil {
		t.Fatal(err)
	}
	port, holdErr := Bind("tcp", free)
	f, _, listenErr := ListenOpen("udp", netip.AddrPortFrom(free.Addr(), 0))
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if holdErr == nil || listenErr == nil {
		t.Fatalf("there was room: %v, %v", port, f)
	}
	for what, err := range map[string]error{"failed to bind host port 127.0.0.1:20037/tcp: ": holdErr, "failed to listen on 127.0.0.1:0/udp: ": listenErr} {
		if !errdefs.IsResourceExhausted(err) || !errors.Is(err, unix.EMFILE) {
			t.Errorf("%v is of another class", err)
		}
		way := fmt.Sprintf("may have %d; raise that with prlimit --pid %d ", full.Cur, os.Getpid())
		if text := err.Error(); !strings.HasPrefix(text, what+"too many open files: process ") || !strings.Contains(text, way) {
			t.Errorf("%q, want one that begins %q and says %q", text, what, way)
		}
	}
}

// TestNoRoomOnTheMachine: the machine's limit is not the process's.
func TestNoRoomOnTheMachine(t *testing.T) {
	t.Parallel()
	err := explain(toHold("tcp", netip.MustParseAddrPort("[::]:80")), unix.ENFILE)
	if text := err.Error(); !errdefs.IsResourceExhausted(err) || !strings.HasPrefix(text, "failed to bind host port [::]:80/tcp: ") || !strings.Contains(text, "fs.file-max") || strings.Contains(text, "prlimit") {
		t.Errorf("%q", text)
	}
}
