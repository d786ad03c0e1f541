package network

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/spawn"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/network/spec"
)

// The size of a large host, in networks and endpoints.
const (
	scaleNetworks  = 20
	scaleEndpoints = 1000
)

// populate attaches that many sandboxes, each with a published port, to networks of
// both families, evenly.
func populate(tb testing.TB, h *host, networks, endpoints int) []spec.Attachment {
	tb.Helper()
	for i := range networks {
		h.network(tb, spec.NetworkRequest{Name: fmt.Sprintf("net%d", i), IPv6: true})
	}
	out := make([]spec.Attachment, endpoints)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := worker; i < endpoints; i += 4 {
				var err error
				if out[i], err = h.Attach(tb.Context(), attachRequest(i, fmt.Sprintf("net%d", i%networks), tcp(0, 80))); err != nil {
					tb.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if tb.Failed() {
		tb.FailNow()
	}
	return out
}

// TestRestoreOfAThousand: after each fault a daemon's start brings a thousand endpoints
// on twenty networks back in less than a second of this process's time on the
// processors; the time on the clock, which is the machine's too, is told.
func TestRestoreOfAThousand(t *testing.T) {
	if err := spawn.RaiseFileLimit(1 << 20); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, func(c *Config) { c.Log = slog.New(slog.DiscardHandler) })
	all := populate(t, h, scaleNetworks, scaleEndpoints)
	one, other := all[0], all[scaleNetworks]
	for _, fault := range []struct {
		name string
		do   func()
	}{
		{"nothing", func() {}},
		{"the rules are gone", func() { command(t, "nft", "delete", "table", "inet", "fairlead") }},
		{"bridges are down and without addresses", func() {
			for i := range scaleNetworks {
				bridge := all[i].Endpoints[0].Bridge
				command(t, "sh", "-c", "ip addr flush dev "+bridge+"; ip link set "+bridge+" down")
			}
		}},
		{"the helper is gone", func() { h.relay.lost(t) }},
		{"the machine was booted", nil},
	} {
		if err := errors.Join(h.Close(), h.store.Close()); err != nil {
			t.Fatal(err)
		}
		if fault.name == "the rules are gone" {
			// The table is its owner's, and nobody else's to delete.
			if err := h.relay.firewall.Close(); err != nil {
				t.Fatal(err)
			}
			h.relay.firewall = nil
		}
		if fault.do == nil {
			boot(t, h)
		} else {
			fault.do()
		}
		cpu, began := processorTime(t), time.Now()
		h.start(t)
		took, used := time.Since(began), processorTime(t)-cpu
		began = time.Now()
		h.clean(t)
		load, _ := os.ReadFile("/proc/loadavg")
		t.Logf("%s: restored in %s, %s of processor time; checked in %s; load %.5s", fault.name, took, used, time.Since(began), load)
		limit := time.Second * slowness
		if strings.Contains(fault.name, "helper") {
			limit *= 5 // each sandbox is entered: its resolver has to be there
		}
		if used > limit {
			t.Errorf("%s: the start took %s of processor time", fault.name, used)
		}
		if fault.do != nil && !ping(one, other.Endpoints[0].Addr4.Addr().String()) {
			t.Errorf("%s: containers do not reach each other", fault.name)
		}
	}
	if n := len(h.Attachments()); n != 0 {
		t.Errorf("after a boot %d endpoints are there", n)
	}
}

// lost is the end of the relay, with all that it held.
func (r *fakeRelay) lost(t *testing.T) {
	t.Helper()
	errs := []error{r.firewall.Close()}
	for _, b := range r.held {
		errs = append(errs, b.File.Close())
	}
	for _, one := range r.resolvers {
		errs = append(errs, one.UDP.Close(), one.TCP.Close())
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	*r = fakeRelay{}
}

// boot is what a reboot makes of the host: nothing is left of the kernel's state, and
// the records of it are of an earlier boot.
func boot(t *testing.T, h *host) {
	t.Helper()
	h.relay.lost(t)
	for _, table := range []string{"inet", "bridge"} {
		command(t, "nft", "delete", "table", table, "fairlead")
	}
	names, err := netns.List(filepath.Join(h.dir, "exec", "netns"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := netns.Remove(filepath.Join(h.dir, "exec", "netns", name)); err != nil {
			t.Fatal(err)
		}
	}
	command(t, "ip", "link", "del", "group", fmt.Sprint(Group))
	if err := os.WriteFile(filepath.Join(h.dir, "exec", "state", "boot_id"), []byte("an earlier one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// processorTime is what this process has used.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &use); err != nil {
		t.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// BenchmarkRestore is the start of a daemon on a large host where nothing has to be
// mended, and its check.
func BenchmarkRestore(b *testing.B) {
	if err := spawn.RaiseFileLimit(1 << 20); err != nil {
		b.Fatal(err)
	}
	h := newHost(b, func(c *Config) { c.Log = slog.New(slog.DiscardHandler) })
	populate(b, h, scaleNetworks, scaleEndpoints)
	var check time.Duration
	for b.Loop() {
		h.restart(b)
		b.StopTimer()
		begun := time.Now()
		lines, err := h.Check(b.Context())
		if err != nil || len(lines) > 0 {
			b.Fatal(strings.Join(lines, "\n"), err)
		}
		check += time.Since(begun)
		b.StartTimer()
	}
	b.ReportMetric(float64(check.Milliseconds())/float64(b.N), "check-ms")
}
