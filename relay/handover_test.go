package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/internal/fdpass"
	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/kernel/socket"
)

// exited waits for a process that was replaced, up to the time given.
func exited(pid int, within time.Duration) bool {
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || bytes.Contains(b, []byte(") Z ")) {
			return true
		}
	}
	return false
}

// connectAgainAndAgain reports every connection that is not served.
func connectAgainAndAgain(t *testing.T, to netip.AddrPort, stop <-chan struct{}) {
	exchange := func() error {
		conn, err := net.Dial("tcp", to.String())
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(conn, "hello"); err != nil {
			return err
		}
		_, err = io.ReadFull(conn, make([]byte, 5))
		return err
	}
	for made := 0; ; made++ {
		select {
		case <-stop:
			t.Logf("%d connections", made)
			return
		default:
		}
		if err := exchange(); err != nil {
			t.Errorf("connection %d: %v", made, err)
			return
		}
	}
}

// Clients that connect again and again notice nothing of two replacements; a
// live connection and a UDP flow go on; the firewall's socket stays the same.
func TestHandover(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c := ensure(t, root, "one")
	backend := echoTCP(t)
	tcp := hold(t, c, "a", "tcp", "127.0.0.1", backend)
	udp := hold(t, c, "a", "udp", "127.0.0.1", echoUDP(t))
	firewall := netlinkSocket(t)
	if err := c.KeepFirewallSocket(t.Context(), firewall); err != nil {
		t.Fatal(err)
	}
	live, flow := dial(t, "tcp", tcp), dial(t, "udp", udp)
	say(t, live, "x")
	port := ask(t, flow)

	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { connectAgainAndAgain(t, tcp, stop) })
	first := c
	for _, build := range []string{"two", "three"} {
		time.Sleep(50 * time.Millisecond)
		next := ensure(t, root, build)
		if next.Build() != build || next.PID() == c.PID() {
			t.Errorf("build %s answers, process %d", next.Build(), next.PID())
		}
		<-c.Done()
		say(t, live, "still the same connection")
		if now := ask(t, flow); now != port {
			t.Errorf("the flow came from %s and now from %s", port, now)
		}
		c = next
	}
	close(stop)
	wg.Wait()
	got, err := c.FirewallSocket(t.Context())
	if err != nil || got == nil {
		t.Fatalf("firewall socket: %v, %v", got, err)
	}
	defer got.Close()
	if cookie(t, got) != cookie(t, firewall) {
		t.Error("another firewall socket")
	}

	// The first process has the live connection; Release finds it there.
	if exited(first.PID(), 100*time.Millisecond) {
		t.Error("the process with the live connection is gone")
	}
	if err := c.Release(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := live.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the live connection was not closed: %v", err)
	}
	if !exited(first.PID(), 10*time.Second) {
		t.Error("the first process does not end")
		_ = lab.Signal(first.PID(), syscall.SIGKILL)
	}
	isFree(t, "tcp", tcp)
	isFree(t, "udp", udp)
}

// A successor that dies, before or after it has everything, leaves all as it
// was.
func TestHandoverFails(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c := ensure(t, root, "one")
	host := hold(t, c, "a", "tcp", "127.0.0.1", echoTCP(t))
	kept, err := Ensure(t.Context(), Options{ExecRoot: root, Env: environ("broken"), Build: "two", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if kept.PID() != c.PID() {
		t.Errorf("process %d answers, want %d", kept.PID(), c.PID())
	}
	_ = kept.Close()

	thief, err := Dial(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	fds, err := thief.rpc.Call(t.Context(), "handover", nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	waits := dial(t, "tcp", host) // in the backlog
	if err := c.Release(t.Context(), "a"); !errdefs.IsUnavailable(err) {
		t.Errorf("a change during a handover: %v", err)
	}
	fdpass.CloseFDs(fds)
	_ = thief.Close()
	say(t, waits, "served after all")
	again, err := Dial(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
}

// rss is the anonymous and the whole resident memory of a process, in KiB.
func rss(t *testing.T, pid int) (anon, all int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		switch f[0] {
		case "RssAnon:":
			anon, _ = strconv.Atoi(f[1])
		case "VmRSS:":
			all, _ = strconv.Atoi(f[1])
		}
	}
	return anon, all
}

// Ten thousand ports cost no goroutine, no thread and little memory each; a
// connection among them is served, and they are let go together.
func TestTenThousandPorts(t *testing.T) {
	root := t.TempDir()
	// The real binary if there is one: all that is linked into it counts.
	c := ensureOptions(t, Options{ExecRoot: root, Binary: os.Getenv("FAIRLEAD_BIN"), Env: environ("command"), Logger: slog.New(slog.DiscardHandler)})
	backend := echoTCP(t)
	// Of an address of their own, so that they are nobody else's.
	const ports = 10_000
	addr := netip.MustParseAddr("127.86.1.1")
	before, _ := rss(t, c.PID())
	var bindings []Binding
	var sample []netip.AddrPort
	for i := range ports {
		host := netip.AddrPortFrom(addr, uint16(20_000+i))
		f, err := socket.Bind("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		if i%1000 == 0 {
			sample = append(sample, host)
		}
		bindings = append(bindings, Binding{Owner: fmt.Sprintf("%064d", i/100), Proto: "tcp", Host: host, Backend: backend, Proxy: true, File: f})
		if len(bindings) == 1000 {
			if err := c.Hold(t.Context(), bindings); err != nil {
				t.Fatal(err)
			}
			for _, b := range bindings {
				_ = b.File.Close()
			}
			bindings = bindings[:0]
		}
	}
	for _, host := range sample {
		say(t, dial(t, "tcp", host), "here")
	}
	anon, all := rss(t, c.PID())
	threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", c.PID()))
	t.Logf("%d ports: %d KiB of anonymous memory (%d without), %d KiB resident, %d threads", ports, anon, before, all, len(threads))
	if !raceEnabled && (anon-before > 8<<10 || all > 20<<10) {
		t.Errorf("%d ports took %d KiB, in all %d", ports, anon-before, all)
	}
	begun := time.Now()
	c = ensure(t, root, "two")
	t.Logf("taken over by another process in %v", time.Since(begun))
	for _, host := range sample {
		say(t, dial(t, "tcp", host), "still here")
	}
	if got, err := c.List(t.Context()); err != nil || len(got) != ports {
		t.Errorf("%d listed, %v", len(got), err)
	}
	begun = time.Now()
	for i := range ports / 100 {
		if err := c.Release(context.Background(), fmt.Sprintf("%064d", i)); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("released in %v", time.Since(begun))
}

// A process without room for another descriptor refuses the connection, is not
// kept busy by it, and serves again when there is room.
func TestNoRoomForConnections(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	host := hold(t, c, "a", "tcp", "127.0.0.1", echoTCP(t))
	say(t, dial(t, "tcp", host), "x")
	raise := leaveRoom(t, c.PID(), 0)
	if err := refusal(host); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("without room: %v", err)
	}
	raise()
	say(t, dial(t, "tcp", host), "room again")
}
