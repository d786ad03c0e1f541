package network

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// logged is a log that may be read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// take returns what was logged since the last time.
func (l *logged) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

func logTo(l *logged) func(*Config) {
	return func(c *Config) { c.Log = slog.New(slog.NewTextHandler(l, nil)) }
}

// A second daemon's rules are no other program's: each heeds the other by itself, and
// nothing is wrong with that.
func TestAnotherDaemonIsNoForeigner(t *testing.T) {
	var said logged
	one := newHost(t, logTo(&said))
	two := emptyHost(t, logTo(&said), func(c *Config) { c.Default.Bridge = "second0" })
	two.start(t)
	one.attach(t, 1, "bridge", tcp(8080, 80))
	b := two.attach(t, 2, "bridge", tcp(8081, 80))
	for _, h := range []*host{one, two, one} {
		if err := h.FirewallChanged(t.Context()); err != nil {
			t.Error(err)
		}
		h.clean(t)
	}
	if !ping(b, "172.18.0.1") {
		t.Error("no way to the gateway")
	}
	rules := command(t, "nft", "list", "ruleset")
	for _, tag := range []string{`"fairlead: from`, `"fairlead_second0: from`} {
		if strings.Contains(rules, tag) {
			t.Errorf("rules of one are in the other's table:\n%s", rules)
		}
	}
	err := errors.Join(two.Teardown(context.Background()), two.Close(), two.store.Close(), two.relay.firewall.Close(),
		unix.Unmount(filepath.Join(two.dir, "exec", "netns"), unix.MNT_DETACH))
	if err != nil {
		t.Error(err)
	}
	if err := one.FirewallChanged(t.Context()); err != nil {
		t.Error(err)
	}
	one.clean(t)
	log := said.take()
	for _, wrong := range []string{"cut off", "drops forwarded packets", "other program"} {
		if strings.Contains(log, wrong) {
			t.Errorf("it says %q:\n%s", wrong, log)
			break
		}
	}
}

// After the other back end nothing is left that another program could have made.
func TestNobodyForwardsAfterIPTables(t *testing.T) {
	var said logged
	h := newHost(t, byIPTables, logTo(&said))
	h.attach(t, 1, "bridge", tcp(8080, 80))
	h.cfg.Firewall = FirewallNFTables
	h.restart(t)
	if err := h.FirewallChanged(t.Context()); err != nil {
		t.Error(err)
	}
	h.clean(t)
	if log := said.take(); strings.Contains(log, "other programs") || strings.Contains(log, "drops forwarded packets") {
		t.Errorf("nobody else is there, and it says:\n%s", log)
	}
}
