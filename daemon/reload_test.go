package daemon

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestReloadable(t *testing.T) {
	t.Parallel()
	cfg, err := parseAs(t, asDockerd, `{"labels": ["a=1"], "mtu": 1400, "registry-mirrors": ["https://m"]}`)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := parseAs(t, asDockerd, `{"labels": ["a=2"], "live-restore": true, "debug": true, "shutdown-timeout": 3, "mtu": 1300,
		"insecure-registries": ["r:5000"], "max-concurrent-uploads": 9, "icc": false}`)
	if err != nil {
		t.Fatal(err)
	}
	if waiting := cfg.adopt(fresh); !slices.Equal(waiting, []string{"icc", "mtu"}) {
		t.Errorf("what waits for a start: %q", waiting)
	}
	s := cfg.engineSettings()
	if !s.LiveRestore || !s.Debug || s.ShutdownTimeout != 3*time.Second || !slices.Equal(s.Labels, []string{"a=2"}) ||
		len(s.Registries.Mirrors) != 0 || s.Registries.MaxUploads != 9 {
		t.Errorf("settings after it: %+v", s)
	}
	if cfg.MTU != 1400 || !cfg.ICC || cfg.LogLevel != "debug" {
		t.Errorf("configuration after it: %+v", cfg)
	}
	got := cfg.reloaded()
	for key, want := range map[string]string{
		"labels": `["a=2"]`, "debug": "true", "live-restore": "true", "shutdown-timeout": "3", "registry-mirrors": "[]",
		"insecure-registries": `["r:5000"]`, "max-concurrent-uploads": "9", "max-concurrent-downloads": "3", "default-runtime": "runc",
	} {
		if got[key] != want {
			t.Errorf("the event says %s=%s, want %s", key, got[key], want)
		}
	}
}

func TestEndDoesNotWaitForAReload(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	asked, read := make(chan struct{}), make(chan struct{})
	defer close(read)
	d := &daemon{load: func() (Config, error) {
		close(asked)
		<-read
		return Config{}, nil
	}}
	hangup := make(chan os.Signal, 2)
	hangup <- unix.SIGHUP
	hangup <- unix.SIGHUP
	ended := make(chan error)
	go func() { ended <- d.untilEnd(ctx, nil, hangup) }()
	<-asked
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the end waits for the configuration")
	}
}

func TestConfigurationIsARegularFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "daemon.json")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readRegular(path); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a FIFO: %v", err)
	}
	if _, err := readRegular(os.DevNull); err != nil {
		t.Error(err)
	}
}
