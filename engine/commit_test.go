package engine

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	apievents "github.com/moby/moby/api/types/events"
)

// shell runs a command in a container to its end, and returns the container.
func (f *fixture) shell(script string) string {
	f.t.Helper()
	id := f.create(nil, "sh", "-c", script)
	f.ok(f.Start(f.t.Context(), id))
	eventually(f.t, "it ends", func() bool { return !f.state(id).Running })
	if code := f.state(id).ExitCode; code != 0 {
		f.t.Fatalf("exit code %d: %s", code, f.output(id))
	}
	return id
}

// TestContainerChanges: a container that has done nothing has changed nothing; of
// another it is told what it did, while it runs too.
func TestContainerChanges(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	shown := func(id string) string {
		t.Helper()
		list, err := f.Changes(t.Context(), id)
		f.ok(err)
		var out []string
		for _, c := range list {
			out = append(out, c.Kind.String()+" "+c.Path)
		}
		return strings.Join(out, ", ")
	}
	if got := shown(f.create(nil, "true")); got != "" {
		t.Errorf("never started: %s", got)
	}
	if got := shown(f.shell("cat /etc/hosts")); got != "" {
		t.Errorf("only read: %s", got)
	}
	id := f.create(nil, "sh", "-c", "mkdir /new; echo x > /new/file; rm /etc/group; chmod 700 /root; echo done; sleep 60")
	f.ok(f.Start(t.Context(), id))
	eventually(t, "it has done it", func() bool { return f.output(id) == "done\n" })
	if got, want := shown(id), "C /etc, D /etc/group, A /new, A /new/file, C /root"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestExport packs a container's root, running or not, without what is mounted.
func TestExport(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.create(func(r *CreateRequest) { r.HostConfig.Tmpfs = map[string]string{"/scratch": ""} },
		"sh", "-c", "echo x > /root/file; echo y > /scratch/file; echo done; sleep 60")
	f.ok(f.Start(t.Context(), id))
	eventually(t, "it has done it", func() bool { return f.output(id) == "done\n" })
	for _, when := range []string{"running", "ended"} {
		var b bytes.Buffer
		f.ok(f.Export(t.Context(), id, func() io.Writer { return &b }))
		files := map[string]string{}
		for r := tar.NewReader(&b); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			f.ok(err)
			raw, err := io.ReadAll(r)
			f.ok(err)
			files[h.Name] = string(raw)
		}
		if _, shown := files["scratch/file"]; shown || files["root/file"] != "x\n" || files["etc/passwd"] == "" {
			t.Errorf("%s: %d files, %q", when, len(files), files["root/file"])
		}
		if when == "running" {
			f.ok(f.Kill(t.Context(), id, "KILL"))
			eventually(t, "it ends", func() bool { return !f.state(id).Running })
		}
	}
}

// TestCommit: an image of a container is its image with the changes on top, and with
// what was asked for.
func TestCommit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	id := f.shell("echo changed > /root/file; rm /etc/group; mkdir -p /kept/dir; ln /root/file /kept/second; chown 5:6 /kept")
	listen := f.events.Listen()
	image, err := f.Commit(ctx, id, CommitOptions{
		Name: "mine:1", Author: "Ann", Message: "why", Pause: true,
		Changes: []string{`CMD ["sh","-c","cat /root/file /kept/second; ls /etc/group || stat -c %u:%g /kept; echo $MORE"]`, "ENV MORE=more", "LABEL made=here", "EXPOSE 80"},
	})
	f.ok(err)
	got, err := f.ImageInspect(ctx, "mine:1", ImageInspectOptions{})
	f.ok(err)
	if got.ID != image || got.Author != "Ann" || got.Comment != "why" || got.Config.Labels["made"] != "here" || len(got.RootFS.Layers) != 2 {
		t.Errorf("%+v %+v", got, got.Config)
	}
	if own := f.inspect(id).Config; own.Labels["made"] != "" || slices.Contains(own.Env, "MORE=more") {
		t.Errorf("the container has the image's changes: %+v", own)
	}
	if said, code := f.run(func(r *CreateRequest) { r.Config.Image = "mine:1" }); code != 0 || !strings.Contains(said, "changed\nchanged\n") || !strings.Contains(said, "5:6\nmore\n") {
		t.Errorf("exit code %d, %s", code, said)
	}
	var told []string
	messages, _ := listen.Ready()
	for _, m := range messages {
		if m.Action == apievents.ActionCommit && (m.Actor.Attributes["imageID"] != image || m.Actor.Attributes["comment"] != "why") {
			t.Errorf("event %+v", m)
		}
		told = append(told, string(m.Type)+" "+string(m.Action))
	}
	if !slices.Contains(told, "container commit") || !slices.Contains(told, "image tag") {
		t.Errorf("events %q", told)
	}
	// Of one that runs, twice, without a name; and of a container of such an image.
	runs := f.create(func(r *CreateRequest) { r.Config.Image = "mine:1" }, "sh", "-c", "echo again > /again; echo done; sleep 60")
	f.ok(f.Start(ctx, runs))
	eventually(t, "it has written", func() bool { return strings.Contains(f.output(runs), "done") })
	second, err := f.Commit(ctx, runs, CommitOptions{Pause: true, Config: &container.Config{Cmd: []string{"sh", "-c", "id -u; cat /again /root/file"}, User: "5"}})
	f.ok(err)
	if s := f.state(runs); s.Paused || !s.Running {
		t.Errorf("after the commit: %+v", s)
	}
	if said, code := f.run(func(r *CreateRequest) { r.Config.Image = second }); code != 0 || said != "5\nagain\nchanged\n" {
		t.Errorf("exit code %d, %s", code, said)
	}
	for _, bad := range []CommitOptions{{Name: "Bad Name"}, {Changes: []string{"RUN true"}}} {
		if _, err := f.Commit(ctx, id, bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// TestCommitWithoutImage: a container whose image is gone is committed whole.
func TestCommitWithoutImage(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.shell("echo kept > /root/file")
	if _, err := f.ImageRemove(t.Context(), "demo", true); err != nil {
		t.Fatal(err)
	}
	_, err := f.Commit(t.Context(), id, CommitOptions{Name: "whole"})
	f.ok(err)
	if said, code := f.run(func(r *CreateRequest) { r.Config.Image = "whole" }, "cat", "/root/file"); code != 0 || said != "kept\n" {
		t.Errorf("exit code %d, %s", code, said)
	}
}

// TestDiskUsage counts what is there once, and what can be had back.
func TestDiskUsage(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	all := DiskUsageOptions{Images: true, Containers: true, Volumes: true, BuildCache: true}
	got, err := f.DiskUsage(ctx, all)
	f.ok(err)
	size := got.ImageUsage.TotalSize
	if got.ImageUsage.TotalCount != 1 || size < 100000 || got.ImageUsage.Reclaimable != size || got.ContainerUsage.TotalCount != 0 || got.BuildCacheUsage.TotalSize != 0 {
		t.Errorf("an image alone: %+v", got.ImageUsage)
	}
	id := f.shell("dd if=/dev/zero of=/root/file bs=1024 count=2048 2>/dev/null")
	_, err = f.Commit(ctx, id, CommitOptions{Name: "more"})
	f.ok(err)
	f.create(func(r *CreateRequest) { r.Config.Volumes = map[string]struct{}{"/data": {}} }, "true")
	got, err = f.DiskUsage(ctx, all)
	f.ok(err)
	if u := got.ImageUsage; u.TotalCount != 2 || u.ActiveCount != 1 || u.TotalSize < size+2<<20 || u.TotalSize > size+3<<20 || u.Reclaimable != u.TotalSize-size {
		t.Errorf("two images of %d and more: %+v", size, u)
	}
	if u := got.ContainerUsage; u.TotalCount != 2 || u.ActiveCount != 0 || u.TotalSize < 2<<20 || u.Reclaimable != u.TotalSize {
		t.Errorf("containers: %+v", u)
	}
	if u := got.VolumeUsage; u.TotalCount != 1 || u.ActiveCount != 1 || u.Reclaimable != 0 {
		t.Errorf("volumes: %+v", u)
	}
	if got, err := f.DiskUsage(ctx, DiskUsageOptions{Volumes: true}); err != nil || got.ImageUsage != nil || got.VolumeUsage == nil {
		t.Errorf("volumes alone: %+v %v", got, err)
	}
}

func (f *fixture) inspect(id string) container.InspectResponse {
	f.t.Helper()
	got, err := f.Inspect(f.t.Context(), id, false)
	f.ok(err)
	return got
}
