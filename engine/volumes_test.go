package engine

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	apivolume "github.com/moby/moby/api/types/volume"
)

// withVolumes has a container created with --volume and --volumes-from.
func withVolumes(list []string, from ...string) func(*CreateRequest) {
	return func(r *CreateRequest) { r.HostConfig.Binds, r.HostConfig.VolumesFrom = list, from }
}

func (f *fixture) volumeNames(filters map[string][]string) string {
	f.t.Helper()
	list, err := f.VolumeList(f.t.Context(), filters)
	f.ok(err)
	var out []string
	for _, v := range list {
		if len(v.Name) == 64 {
			v.Name = "anonymous"
		}
		out = append(out, v.Name)
	}
	return strings.Join(out, " ")
}

// volumeImage is an image with files where it declares a volume.
func (f *fixture) volumeImage() {
	f.t.Helper()
	f.must(f.ImageImport(f.t.Context(), bytes.NewReader(host.image), "vol", []string{`CMD ["sh"]`, "VOLUME /home", "VOLUME /new/deep"}, "", ""))
}

func withImage(name string, more func(*CreateRequest)) func(*CreateRequest) {
	return func(r *CreateRequest) {
		r.Config.Image = name
		if more != nil {
			more(r)
		}
	}
}

// TestNamedVolume: what one container writes another reads, and it stays when both are
// gone.
func TestNamedVolume(t *testing.T) {
	f := newFixture(t)
	if out, code := f.run(withVolumes([]string{"data:/data"}), "sh", "-c", "echo kept >/data/f"); code != 0 {
		t.Fatal(out)
	}
	reader := f.create(withVolumes([]string{"data:/in:ro"}), "sh", "-c", "exec 2>&1; cat /in/f; echo x >/in/g")
	f.crash()
	f.begin()
	f.ok(f.Start(t.Context(), reader))
	eventually(t, "the reader ends", func() bool { return !f.state(reader).Running })
	if out := f.output(reader); !strings.HasPrefix(out, "kept\n") || !strings.Contains(out, "Read-only file system") {
		t.Errorf("%q", out)
	}
	err := f.VolumeRemove(t.Context(), "data", true)
	if !errdefs.IsConflict(err) || !strings.Contains(err.Error(), reader) {
		t.Errorf("the volume of a stopped container, after a crash: %v", err)
	}
	got, err := f.Inspect(t.Context(), reader, false)
	f.ok(err)
	want := container.MountPoint{
		Type: "volume", Name: "data", Source: filepath.Join(f.cfg.DataRoot, "volumes/data/_data"), Destination: "/in", Driver: "local", Mode: "ro",
	}
	if len(got.Mounts) != 1 || got.Mounts[0] != want {
		t.Errorf("%+v", got.Mounts)
	}
	for _, c := range []string{reader} {
		f.ok(f.Remove(t.Context(), c, RemoveOptions{Volumes: true}))
	}
	if got := f.volumeNames(nil); got != "data" {
		t.Errorf("after rm -v: %s", got)
	}
	f.removeAll()
	f.ok(f.VolumeRemove(t.Context(), "data", false))
	f.ok(f.VolumeRemove(t.Context(), "data", true))
	if err := f.VolumeRemove(t.Context(), "data", false); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	f.clean()
}

// removeAll removes every container, without its volumes.
func (f *fixture) removeAll() {
	f.t.Helper()
	for _, c := range f.registry.all() {
		f.ok(f.Remove(f.t.Context(), c.id, RemoveOptions{Force: true}))
	}
}

// TestVolumeIsFilled: an empty volume gets what the image has, owners and all; one with
// files, and one with nocopy, do not.
func TestVolumeIsFilled(t *testing.T) {
	f := newFixture(t)
	all := "stat -c '%a %u %g %s %n' /etc/group; stat -c '%a %u %g ' /etc; cat /etc/group"
	want, _ := f.run(nil, "sh", "-c", all)
	if got, code := f.run(withVolumes([]string{"conf:/etc"}), "sh", "-c", all+"; echo mine >/etc/group"); code != 0 || got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, _ := f.run(withVolumes([]string{"conf:/etc"}), "cat", "/etc/group"); got != "mine\n" {
		t.Errorf("filled again: %q", got)
	}
	if got, _ := f.run(withVolumes([]string{"bare:/home:nocopy", "no:/nosuch", "link:/tmp"}), "sh", "-c", "ls -A /home /nosuch; stat -c %a /nosuch /tmp"); got != "/home:\n\n/nosuch:\n755\n1777\n" {
		t.Errorf("%q", got)
	}
	req := CreateRequest{Config: &container.Config{Image: "demo", Cmd: []string{"sh"}}, HostConfig: &container.HostConfig{Binds: []string{"over:/etc/passwd"}}}
	if _, err := f.Create(t.Context(), req); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "cannot mount volume over existing file") {
		t.Error(err)
	}
	f.clean()
}

// TestAnonymousVolumes: those that an image declares, or --volume alone, go with
// `rm -v` and with a container that removes itself, and stay otherwise.
func TestAnonymousVolumes(t *testing.T) {
	f := newFixture(t)
	f.volumeImage()
	ctx := t.Context()
	id := f.create(withImage("vol", withVolumes([]string{"/own", "named:/named"})), "sh", "-c", "ls -A /home; stat -c %U /new/deep")
	if got := f.volumeNames(nil); got != "anonymous anonymous anonymous named" && strings.Count(got, "anonymous") != 3 {
		t.Errorf("made: %s", got)
	}
	other := f.create(withVolumes(nil, id), "true")
	got, err := f.Inspect(ctx, other, false)
	f.ok(err)
	var at []string
	for _, m := range got.Mounts {
		at = append(at, m.Destination)
	}
	if !slices.Equal(at, []string{"/home", "/named", "/new/deep", "/own"}) {
		t.Errorf("inherited: %v", at)
	}
	f.ok(f.Remove(ctx, id, RemoveOptions{Volumes: true}))
	if got := f.volumeNames(map[string][]string{"dangling": {"true"}}); got != "" {
		t.Errorf("another has them: %s", got)
	}
	f.ok(f.Remove(ctx, other, RemoveOptions{Volumes: true}))
	if got := f.volumeNames(nil); got != "named" {
		t.Errorf("after rm -v: %s", got)
	}
	f.ok(f.Remove(ctx, f.create(withImage("vol", nil), "true"), RemoveOptions{}))
	if got := f.volumeNames(map[string][]string{"dangling": {"1"}, "label": {"com.docker.volume.anonymous"}}); got != "anonymous anonymous" {
		t.Errorf("after rm: %s", got)
	}
	report, err := f.VolumePrune(ctx, nil)
	if err != nil || len(report.VolumesDeleted) != 2 {
		t.Errorf("prune: %+v %v", report, err)
	}
	id = f.create(withImage("vol", func(r *CreateRequest) { r.HostConfig.AutoRemove = true }), "true")
	gone, err := f.Wait(ctx, id, container.WaitConditionRemoved)
	f.ok(err)
	f.ok(f.Start(ctx, id))
	<-gone
	if got := f.volumeNames(nil); got != "named" {
		t.Errorf("after run --rm: %s", got)
	}
	// One that could not be made leaves none behind.
	f.store.err = errdefs.ErrUnavailable
	req := CreateRequest{Config: &container.Config{Image: "vol"}, HostConfig: &container.HostConfig{}}
	if _, err := f.Create(ctx, req); err == nil {
		t.Error("no error")
	}
	if got := f.volumeNames(nil); got != "named" {
		t.Errorf("after a create that failed: %s", got)
	}
	left, err := os.ReadDir(filepath.Join(f.cfg.DataRoot, "volumes"))
	if err != nil || len(left) != 1 {
		t.Errorf("%v %v", left, err)
	}
}

// TestVolumeEvents: who listens is told of volumes when they are made, needed and gone.
func TestVolumeEvents(t *testing.T) {
	f := newFixture(t)
	f.volumeImage()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l := f.events.Listen()
	id := f.create(withImage("vol", withVolumes([]string{"data:/data:ro"})), "true")
	gone, err := f.Wait(ctx, id, container.WaitConditionNextExit)
	f.ok(err)
	f.ok(f.Start(ctx, id))
	<-gone
	f.ok(f.Remove(ctx, id, RemoveOptions{Volumes: true}))
	f.ok(f.VolumeRemove(ctx, "data", false))
	_, err = f.VolumePrune(ctx, nil)
	f.ok(err)
	var named, all []string
	for len(all) == 0 || all[len(all)-1] != "prune" {
		messages, _, err := l.Next(ctx)
		f.ok(err)
		for _, m := range messages {
			if m.Type != "volume" {
				continue
			}
			all = append(all, string(m.Action))
			if m.Actor.ID == "data" {
				named = append(named, string(m.Action)+" "+strings.ReplaceAll(fmt.Sprint(m.Actor.Attributes), id, "ID"))
			}
		}
	}
	want := []string{
		"create map[driver:local]", "mount map[container:ID destination:/data driver:local propagation: read/write:false]",
		"unmount map[container:ID driver:local]", "destroy map[driver:local]",
	}
	if !slices.Equal(named, want) {
		t.Errorf("%q, want %q", named, want)
	}
	slices.Sort(all)
	if got := strings.Join(slices.Compact(all), " "); got != "create destroy mount prune unmount" || len(all) != 13 {
		t.Errorf("%d: %s", len(all), got)
	}
}

// TestVolumesAfterCrashes: anonymous volumes of a container that a crash kept from being
// are gone, and so are those that were going with one; those that were to stay do.
func TestVolumesAfterCrashes(t *testing.T) {
	f := newFixture(t)
	f.volumeImage()
	made := f.create(withImage("vol", withVolumes([]string{"named:/named"})), "true")
	going := f.create(withImage("vol", nil), "true")
	f.ok(f.Remove(t.Context(), f.create(withImage("vol", nil), "true"), RemoveOptions{}))
	// The record was not written yet, or is deleted already.
	f.ok(f.store.Delete(going))
	f.crash()
	f.begin()
	if got := f.volumeNames(map[string][]string{"dangling": {"true"}}); got != "anonymous anonymous" {
		t.Errorf("%s", got)
	}
	if got := f.volumeNames(map[string][]string{"dangling": {"false"}}); strings.Count(got, "anonymous") != 2 || !strings.Contains(got, "named") {
		t.Errorf("of a container: %s", got)
	}
	// Whose they are is not known while a record cannot be read.
	f.ok(f.Remove(t.Context(), made, RemoveOptions{Volumes: true}))
	lost := f.create(withImage("vol", nil), "true")
	f.store.spoil(lost)
	f.crash()
	f.begin()
	if got := f.volumeNames(nil); strings.Count(got, "anonymous") != 4 {
		t.Errorf("of a record that cannot be read: %s", got)
	}
	f.ok(f.store.Delete(lost))
	f.crash()
	f.begin()
}

// spoil makes a record unreadable.
func (s *memoryStore) spoil(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw[id] = []byte("{")
}

// TestVolumesFrom: later ones go over earlier ones, and their own over both.
func TestVolumesFrom(t *testing.T) {
	f := newFixture(t)
	say := func(volume, text string) {
		t.Helper()
		if out, code := f.run(withVolumes([]string{volume + ":/v"}), "sh", "-c", "echo "+text+" >/v/f"); code != 0 {
			t.Fatal(out)
		}
	}
	say("one", "1")
	say("two", "2")
	first := f.create(withVolumes([]string{"one:/v", "one:/only"}), "true")
	second := f.create(withVolumes([]string{"two:/v", "two:/mine"}), "true")
	out, _ := f.run(withVolumes([]string{"one:/mine"}, first, second+":ro"), "sh", "-c", "exec 2>&1; cat /v/f /only/f /mine/f; echo x >/only/g; echo x >/v/g")
	if !strings.HasPrefix(out, "2\n1\n1\n") || !strings.Contains(out, "/v/g: Read-only") || strings.Contains(out, "/only/g") {
		t.Errorf("%q", out)
	}
	req := CreateRequest{Config: &container.Config{Image: "demo", Cmd: []string{"sh"}}, HostConfig: &container.HostConfig{VolumesFrom: []string{"nosuch"}}}
	if _, err := f.Create(t.Context(), req); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
}

// TestVolumeOptions: the local driver mounts what mount(8) can while somebody needs it,
// also across a crash.
func TestVolumeOptions(t *testing.T) {
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

func TestVolumeFilters(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	for name, labels := range map[string]map[string]string{"alpha": {"a": "1"}, "beta": {"a": "2", "b": ""}, "gamma": nil} {
		_, err := f.VolumeCreate(ctx, apivolume.CreateRequest{Name: name, Labels: labels})
		f.ok(err)
	}
	f.create(withVolumes([]string{"gamma:/g"}), "true")
	for want, filters := range map[string]map[string][]string{
		"alpha beta gamma": {"driver": {"local"}}, "": {"driver": {"rexray"}}, "gamma": {"dangling": {"false"}}, "alpha beta": {"label": {"a"}},
		"alpha": {"label": {"a=1"}}, "beta": {"label": {"a", "b"}}, "beta gamma": {"name": {"bet", "^g"}},
	} {
		if got := f.volumeNames(filters); got != want {
			t.Errorf("%v: %s, want %s", filters, got, want)
		}
	}
	for _, filters := range []map[string][]string{{"colour": {"blue"}}, {"dangling": {"perhaps"}}, {"dangling": {"true", "false"}}, {"name": {"("}}} {
		if _, err := f.VolumeList(ctx, filters); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v: %v", filters, err)
		}
	}
	for _, filters := range []map[string][]string{{"dangling": {"true"}}, {"all": {"maybe"}}} {
		if _, err := f.VolumePrune(ctx, filters); !errdefs.IsInvalidArgument(err) {
			t.Errorf("prune %v: %v", filters, err)
		}
	}
	usage, err := f.VolumeUsage(ctx)
	if err != nil || len(usage) != 3 || usage[2].UsageData.RefCount != 1 || usage[0].UsageData.RefCount != 0 {
		t.Errorf("%+v %v", usage, err)
	}
	report, err := f.VolumePrune(ctx, map[string][]string{"all": {"1"}, "label!": {"b"}})
	if err != nil || !slices.Equal(report.VolumesDeleted, []string{"alpha"}) {
		t.Errorf("%+v %v", report, err)
	}
	report, err = f.VolumePrune(ctx, map[string][]string{"all": {"true"}, "label": {"b"}})
	if err != nil || !slices.Equal(report.VolumesDeleted, []string{"beta"}) {
		t.Errorf("%+v %v", report, err)
	}
}
