package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/mount"
)

// TestDamagedVolume: its container runs on; what its copy does not have either is said,
// by the check as well.
func TestDamagedVolume(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	losses := &memoryLosses{}
	f.cfg.Losses = losses
	id := f.create(func(r *CreateRequest) {
		r.HostConfig.Mounts = []mount.Mount{{Type: mount.TypeVolume, Source: "data", Target: "/data"}}
	}, "sleep", "3600")
	f.ok(f.Start(t.Context(), id))
	pid := f.state(id).Pid
	meta := filepath.Join(f.cfg.DataRoot, "volumes", "data", "volume.json")
	for _, spoiled := range [][]string{{meta}, {meta, meta + ".copy"}} {
		f.crash()
		for _, path := range spoiled {
			f.ok(os.Truncate(path, 5))
		}
		f.begin()
		if s := f.state(id); !s.Running || s.Pid != pid {
			t.Errorf("it does not run on: %+v, was process %d", s, pid)
		}
		lines, err := f.Check(t.Context())
		f.ok(err)
		if got := strings.Join(lines, "\n"); strings.Contains(got, "volume data: its labels") != (len(spoiled) > 1) || len(lines) > 1 {
			t.Errorf("%d are damaged: the check says %q", len(spoiled), got)
		}
	}
}
