package engine

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestStartOfAProcess(t *testing.T) {
	t.Parallel()
	if age := time.Since(startOf(os.Getpid())); age < 0 || age > time.Hour {
		t.Errorf("this process is %s old", age)
	}
	if age := time.Since(startOf(1 << 30)); age > time.Minute {
		t.Errorf("one that is not there is %s old", age)
	}
}

// told is a log that may be read.
type told struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *told) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *told) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// TestNetRawOfBefore: a daemon that keeps CAP_NET_RAW from all names those that run and
// have it, and no others.
func TestNetRawOfBefore(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	has := f.create(func(r *CreateRequest) { r.Name = "has" }, "sleep", "3600")
	lacks := f.create(func(r *CreateRequest) { r.Name, r.HostConfig.CapDrop = "lacks", []string{"NET_RAW"} }, "sleep", "3600")
	f.ok(f.Start(t.Context(), has))
	f.ok(f.Start(t.Context(), lacks))
	for _, kept := range []bool{false, true} {
		f.crash()
		log := &told{}
		f.cfg.NoNetRaw, f.cfg.Log = kept, slog.New(slog.NewTextHandler(log, nil))
		f.begin()
		if got := log.text(); strings.Contains(got, "containers=[has]") != kept {
			t.Errorf("--no-net-raw=%v: the log says %s", kept, got)
		}
	}
}
