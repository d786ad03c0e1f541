package engine

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
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

// TestNamedVolume: what one container writes another reads, and it stays when both are
// gone.
func TestNamedVolume(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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

// TestVolumeEvents: who listens is told of volumes when they are made, needed and gone.
func TestVolumeEvents(t *testing.T) {
	t.Parallel()
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

// TestVolumesFrom: later ones go over earlier ones, and their own over both.
func TestVolumesFrom(t *testing.T) {
	t.Parallel()
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

func TestVolumeFilters(t *testing.T) {
	t.Parallel()
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
