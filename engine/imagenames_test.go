package engine

import (
	"bytes"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/moby/moby/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestNamesLikeIDs: no image gets a name by which another is asked for.
func TestNamesLikeIDs(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	id := f.must(f.ImageImport(ctx, bytes.NewReader(host.image), "meant", nil, "", ""))
	f.must(f.ImageImport(ctx, bytes.NewReader(host.image), "other", []string{"ENV A=2"}, "", ""))
	c := f.create(func(r *CreateRequest) { r.Config.Image = "meant" }, "true")
	for what, give := range map[string]func(name string) error{
		"tag": func(name string) error { return f.ImageTag(ctx, "other", name) },
		"import": func(name string) error {
			_, err := f.ImageImport(ctx, bytes.NewReader(host.image), name, nil, "", "")
			return err
		},
		"commit": func(name string) error { _, err := f.Commit(ctx, c, CommitOptions{Name: name}); return err },
		"pull":   func(name string) error { return f.ImagePull(ctx, PullRequest{Ref: name}) },
	} {
		if err := give(id); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "ambiguous tag") {
			t.Errorf("%s: %v", what, err)
		}
	}
	store := f.runtime.Client().ImageService()
	other, err := store.Get(ctx, "docker.io/library/other:latest")
	f.ok(err)
	for _, name := range []string{"docker.io/library/" + id, "docker.io/library/meant@" + id, "fairlead.local/nameless@" + id} {
		var saved bytes.Buffer
		f.ok(f.runtime.Client().Export(ctx, &saved, archive.WithManifest(other.Target, name)))
		if err := f.ImageLoad(ctx, LoadRequest{Archive: &saved}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("load as %s: %v", name, err)
		}
	}
	// One that came by other hands is not taken for the ID.
	_, err = store.Create(ctx, images.Image{Name: "docker.io/library/" + id, Target: other.Target})
	f.ok(err)
	if _, err := f.ImageInspect(ctx, id[len("sha256:"):][:3], ImageInspectOptions{}); !errdefs.IsNotFound(err) {
		t.Errorf("three digits are taken for an ID: %v", err)
	}
	for _, ref := range []string{id, strings.TrimPrefix(id, "sha256:")} {
		if r, err := f.ImageInspect(ctx, ref, ImageInspectOptions{}); err != nil || r.ID != id {
			t.Errorf("%s is %s, %v", ref, r.ID, err)
		}
	}
	if r, err := f.Create(ctx, CreateRequest{Config: &container.Config{Image: id, Cmd: []string{"true"}}}); err != nil || f.inspect(r.ID).Image != id {
		t.Errorf("a container of %s: %+v %v", id, r, err)
	}
}

// TestLayersArePacked: what is imported or committed goes to registries as it is kept.
func TestLayersArePacked(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	id := f.shell("dd if=/dev/zero of=/root/file bs=1024 count=1024 2>/dev/null")
	_, err := f.Commit(ctx, id, CommitOptions{Name: "mine"})
	f.ok(err)
	mine, err := f.runtime.Client().ImageService().Get(ctx, "docker.io/library/mine:latest")
	f.ok(err)
	m, err := images.Manifest(ctx, f.runtime.Client().ContentStore(), mine.Target, platforms.All)
	f.ok(err)
	limits := []int64{int64(len(host.image)), 100 << 10}
	for i, l := range m.Layers {
		if l.MediaType != ocispec.MediaTypeImageLayerGzip || l.Size >= limits[i] {
			t.Errorf("layer %d: %+v, want less than %d bytes", i, l, limits[i])
		}
	}
	if said, code := f.run(func(r *CreateRequest) { r.Config.Image = "mine" }, "wc", "-c", "/root/file"); code != 0 || !strings.HasPrefix(said, "1048576 ") {
		t.Errorf("exit code %d, %s", code, said)
	}
}
