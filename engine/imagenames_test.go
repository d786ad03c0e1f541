package engine

import (
	"bytes"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
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
