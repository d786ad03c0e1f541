package engine

import (
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	apivolume "github.com/moby/moby/api/types/volume"
)

// TestVolumeOptions: the local driver mounts what mount(8) can while somebody needs it,
// also across a crash.
func TestVolumeOptions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	v, err := f.VolumeCreate(ctx, apivolume.CreateRequest{Name: "ram", DriverOpts: map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=1000"}})
	f.ok(err)
	on := func() bool { return strings.Contains(leftBehind(f.cfg.DataRoot), v.Mountpoint) }
	id := f.create(withVolumes([]string{"ram:/ram"}), "sh", "-c", "echo shared >/ram/f; sleep 300")
	if on() {
		t.Error("mounted before it is needed")
	}
	f.ok(f.Start(ctx, id))
	eventually(t, "it is written to", func() bool { _, err := os.Stat(v.Mountpoint + "/f"); return err == nil })
	if out, _ := f.run(withVolumes([]string{"ram:/in"}), "sh", "-c", "cat /in/f; stat -c %u /in; df /in | tail -1"); !strings.HasPrefix(out, "shared\n1000\n") || !strings.Contains(out, "1024") {
		t.Errorf("%q", out)
	}
	f.crash()
	f.begin()
	if out, _ := f.run(withVolumes([]string{"ram:/in"}), "cat", "/in/f"); out != "shared\n" {
		t.Errorf("after a crash: %q", out)
	}
	f.ok(f.Kill(ctx, id, "KILL"))
	eventually(t, "it is unmounted", func() bool { return !on() })
	bad, err := f.VolumeCreate(ctx, apivolume.CreateRequest{Name: "bad", DriverOpts: map[string]string{"type": "none", "o": "bind", "device": "/nosuch"}})
	f.ok(err)
	req := CreateRequest{Config: &container.Config{Image: "demo", Cmd: []string{"sh"}}, HostConfig: &container.HostConfig{Binds: []string{"bad:/bad"}}}
	if _, err := f.Create(ctx, req); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "failed to mount local volume "+bad.Name) {
		t.Error(err)
	}
}

// TestSubpath: a part of a volume is mounted, by a way that nobody can change, and that
// stays in the volume.
func TestSubpath(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	script := "mkdir -p /v/a/b; echo deep >/v/a/b/f; ln -s a /v/in; ln -s /etc /v/out; ln -s ../../../../etc /v/up"
	if out, code := f.run(withVolumes([]string{"data:/v"}), "sh", "-c", script); code != 0 {
		t.Fatal(out)
	}
	part := func(subpath string) func(*CreateRequest) {
		return func(r *CreateRequest) {
			r.HostConfig.Mounts = []mount.Mount{{Type: "volume", Source: "data", Target: "/p", VolumeOptions: &mount.VolumeOptions{Subpath: subpath}}}
		}
	}
	for subpath, want := range map[string]string{"a/b": "deep\n", "in/b": "deep\n"} {
		if out, _ := f.run(part(subpath), "cat", "/p/f"); out != want {
			t.Errorf("%s: %q", subpath, out)
		}
	}
	if out, _ := f.run(part("a/b/f"), "cat", "/p"); out != "deep\n" {
		t.Errorf("a file: %q", out)
	}
	for _, subpath := range []string{"out", "up", "nosuch", "out/passwd"} {
		if err := f.Start(t.Context(), f.create(part(subpath), "true")); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), subpath) {
			t.Errorf("%s: %v", subpath, err)
		}
	}
	if left := leftBehind(f.cfg.ExecRoot + "/mounts"); left != "" {
		t.Errorf("left mounted: %s", left)
	}
	id := f.create(part("a"), "sleep", "300")
	f.ok(f.Start(t.Context(), id))
	f.crash()
	f.ok(f.killOutside(id))
	f.begin()
	eventually(t, "what the container had mounted is gone", func() bool { return leftBehind(f.cfg.ExecRoot+"/mounts") == "" })
}

// killOutside ends a container while no engine looks.
func (f *fixture) killOutside(id string) error {
	var pid int
	for _, c := range f.registry.all() {
		if c.id == id {
			pid = c.record().State.PID
		}
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return p.Kill()
}
