package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/kernel/socket"
)

// A backend that takes nothing in, and one that reads nothing, keep nobody else
// waiting; a client of the former who gives up leaves nothing behind.
func TestSlowBackendsStallNobody(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	_, silent := bindSilent(t)
	deaf, err := net.Listen("tcp", "127.0.0.1:0") // it is connected to and never read from
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = deaf.Close() })
	stuck := hold(t, c, "a", "tcp", "127.0.0.1", silent)
	full := hold(t, c, "a", "tcp", "127.0.0.1", deaf.Addr().(*net.TCPAddr).AddrPort())
	fine := hold(t, c, "b", "tcp", "127.0.0.1", echoTCP(t))
	var conns []net.Conn
	for range 200 {
		conns = append(conns, dial(t, "tcp", stuck), dial(t, "tcp", full))
	}
	for i := 1; i < len(conns); i += 2 {
		_ = conns[i].SetWriteDeadline(time.Now().Add(5 * time.Millisecond))
		_, _ = conns[i].Write(make([]byte, 1<<20))
	}
	begun := time.Now()
	for range 50 {
		conn := dial(t, "tcp", fine)
		say(t, conn, "hello")
		_ = conn.Close()
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("50 connections took %s beside stuck ones", took)
	}
	open := descriptors(t, c)
	for _, conn := range conns {
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}
	if err := c.Release(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if left := descriptors(t, c); left > open-400 {
		t.Errorf("%d descriptors are open, %d before 400 connections were closed", left, open)
	}
}

// bindSilent is an address where connections are never completed.
func bindSilent(t *testing.T) (*socket.Port, netip.AddrPort) {
	t.Helper()
	ap, f := bind(t, "tcp", "127.0.0.1")
	if err := errors.Join(socket.Drop(int(f.Fd())), socket.Open("tcp", int(f.Fd()))); err != nil {
		t.Fatal(err)
	}
	return f, ap
}

// descriptors is how many the process has open.
func descriptors(t *testing.T, c *Client) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(c.PID()), "fd"))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// Many short connections at once all are served, and leave nothing behind.
func TestManyShortConnections(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	host := hold(t, c, "a", "tcp", "127.0.0.1", echoTCP(t))
	before := descriptors(t, c)
	const workers, each = 16, 200
	failed := make(chan error, workers*each)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				failed <- func() error {
					conn, err := net.Dial("tcp", host.String())
					if err != nil {
						return err
					}
					defer conn.Close()
					_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
					text := fmt.Sprintf("%d/%d", w, i)
					if _, err := io.WriteString(conn, text); err != nil {
						return err
					}
					if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
						return err
					}
					if got, err := io.ReadAll(conn); err != nil || string(got) != text+"bye" {
						return fmt.Errorf("said %s, heard %q: %w", text, got, err)
					}
					return nil
				}()
			}
		})
	}
	wg.Wait()
	close(failed)
	for err := range failed {
		if err != nil {
			t.Fatal(err)
		}
	}
	// Pipes that were spliced through are kept for the next until memory is cleaned
	// up (internal/poll's splicePipePool), four descriptors for each connection that
	// was open at once: more than the workers, since a client does not wait for the
	// relay's end of it.
	const most = workers * each / 4
	for begun := time.Now(); descriptors(t, c) > before+most; time.Sleep(20 * time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			t.Fatalf("%d descriptors are open, %d before %d connections", descriptors(t, c), before, workers*each)
		}
	}
}

// Clients wait in the kernel's queue while the loop is busy elsewhere, as many as
// the kernel allows (net.core.somaxconn).
func TestBacklog(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c := ensure(t, root, "command")
	host := hold(t, c, "a", "tcp", "127.0.0.1", echoTCP(t))
	if err := lab.Signal(c.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	var failure error
	for range 600 { // more than listen(2)'s traditional 128, and than 511
		conn, err := net.DialTimeout("tcp", host.String(), 2*time.Second)
		if err != nil {
			failure = errors.Join(failure, err)
			break
		}
		conns = append(conns, conn)
	}
	if err := errors.Join(failure, lab.Signal(c.PID(), syscall.SIGCONT)); err != nil {
		t.Fatalf("after %d connections: %v", len(conns), err)
	}
	for _, conn := range conns {
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		say(t, conn, "hello")
		_ = conn.Close()
	}
}

// TestAStoppedRelayIsNamed: who waits for it in vain is told which process it is and how
// to go on.
func TestAStoppedRelayIsNamed(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c := ensure(t, root, "command")
	if err := lab.Signal(c.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := Ensure(ctx, Options{ExecRoot: root, Env: environ("command")})
	if again := lab.Signal(c.PID(), syscall.SIGCONT); again != nil {
		t.Fatal(again)
	}
	if err == nil || !errdefs.IsUnavailable(err) {
		t.Fatalf("while the relay is stopped: %v", err)
	}
	for _, says := range []string{"start relay: ", "process %d is stopped", "kill -CONT %d", "kill -9 %d"} {
		if says = strings.ReplaceAll(says, "%d", strconv.Itoa(c.PID())); !strings.Contains(err.Error(), says) {
			t.Errorf("%q is not said: %v", says, err)
		}
	}
	if again := ensure(t, root, "command"); again.PID() != c.PID() {
		t.Errorf("it is process %d now, and was %d", again.PID(), c.PID())
	}
}
