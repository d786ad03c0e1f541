package daemon

import (
	"slices"
	"testing"
	"time"
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
