package engine

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
)

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

// TestAnonymousVolumes: those that an image declares, or --volume alone, go with
// `rm -v` and with a container that removes itself, and stay otherwise.
func TestAnonymousVolumes(t *testing.T) {
	t.Parallel()
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

// TestVolumesAfterCrashes: anonymous volumes of a container that a crash kept from being
// are gone, and so are those that were going with one; those that were to stay do.
func TestVolumesAfterCrashes(t *testing.T) {
	t.Parallel()
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
