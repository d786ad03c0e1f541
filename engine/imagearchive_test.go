package engine

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/zstd"
	apievents "github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	"github.com/ulikunitz/xz"

	"github.com/fairlead/fairlead/internal/lab"
)

// save is the archive of the images.
func (f *fixture) save(refs ...string) []byte {
	f.t.Helper()
	var out bytes.Buffer
	f.ok(f.ImageSave(f.t.Context(), refs, "", &out))
	return out.Bytes()
}

// load is what loading an archive tells.
func (f *fixture) load(archive []byte) string {
	f.t.Helper()
	s := &steps{}
	f.ok(f.ImageLoad(f.t.Context(), LoadRequest{Archive: bytes.NewReader(archive), Progress: s.take}))
	return s.streams()
}

func TestSaveAndLoad(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	r := newRegistry(t, lab.RegistryOptions{})
	f.ok(r.Write("app:1", app(t, lab.FileLayer("app", []byte("saved\n")))))
	f.pull(r.Image("app:1"))
	id := must(f.ImageInspect(ctx, r.Image("app:1"), ImageInspectOptions{})).ID
	f.ok(f.ImageTag(ctx, id, "app:2"))
	f.ok(f.ImageTag(ctx, id, "app:3"))
	archive := f.save("app", r.Image("app:1"), "app:2")
	// Older daemons of Docker's read it, as other tools do.
	opener := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil }
	manifest, err := tarball.LoadManifest(opener)
	f.ok(err)
	if len(manifest) != 1 || !slices.Equal(slices.Sorted(slices.Values(manifest[0].RepoTags)), []string{r.Image("app:1"), "app:2", "app:3"}) {
		t.Errorf("%+v", manifest)
	}
	other, err := tarball.Image(opener, nil)
	f.ok(err)
	if layers, err := other.Layers(); err != nil || len(layers) != 2 {
		t.Errorf("%d layers, %v", len(layers), err)
	}
	must(f.ImageRemove(ctx, id, true))
	if got := f.load(archive); !strings.Contains(got, "Loaded image: app:2\n") || !strings.Contains(got, "Loaded image: "+r.Image("app:1")+"\n") {
		t.Errorf("%q", got)
	}
	got := must(f.ImageInspect(ctx, "app:3", ImageInspectOptions{}))
	if got.ID != id || len(got.RepoTags) != 3 || len(got.RepoDigests) != 0 {
		t.Errorf("%+v, want %s", got, id)
	}
	if out, _ := f.run(func(q *CreateRequest) { q.Config.Image, q.Config.Cmd = "app:3", nil }); out != "saved\n" {
		t.Error(out)
	}
	for _, ref := range [][]string{nil, {"app:2", "nosuch"}, {"UPPER"}} {
		var out bytes.Buffer
		if err := f.ImageSave(ctx, ref, "", &out); err == nil || out.Len() > 0 {
			t.Errorf("%v: %v, and %d bytes", ref, err, out.Len())
		}
	}
	if err := f.ImageSave(ctx, []string{"app:2"}, "linux/s390x", io.Discard); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	// A reader that is gone ends it.
	broken := errors.New("nobody reads")
	if err := f.ImageSave(ctx, []string{"app:2"}, "", failing{broken}); !errors.Is(err, broken) {
		t.Error(err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// TestCompressedArchives: what is packed comes out as it was, and a part of it is refused.
// The archives are small: to pack them by xz under the race detector takes long.
func TestCompressedArchives(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	layer := lab.RandomLayer("file", 64<<10)
	img, err := lab.MakeImage(v1.Config{Labels: map[string]string{"k": "v"}}, layer)
	f.ok(err)
	r := newRegistry(t, lab.RegistryOptions{})
	f.ok(r.Write("small:1", img))
	f.pull(r.Image("small:1"))
	small := must(f.ImageInspect(t.Context(), r.Image("small:1"), ImageInspectOptions{}))
	saved := f.save(small.ID)
	for name, pack := range map[string]func(io.Writer) (io.WriteCloser, error){
		"gzip": func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		"xz":   func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) },
		"zstd": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
	} {
		must(f.ImageRemove(t.Context(), small.ID, true))
		for what, take := range map[string]struct {
			raw []byte
			as  func([]byte) (ref string, err error)
		}{
			"load": {saved, func(b []byte) (string, error) {
				return small.ID, f.ImageLoad(t.Context(), LoadRequest{Archive: bytes.NewReader(b)})
			}},
			"import": {layer, func(b []byte) (string, error) {
				return f.ImageImport(t.Context(), bytes.NewReader(b), name, nil, "", "")
			}},
		} {
			var packed bytes.Buffer
			w, err := pack(&packed)
			f.ok(err)
			_, err = w.Write(take.raw)
			f.ok(errors.Join(err, w.Close()))
			ref, err := take.as(packed.Bytes())
			if err != nil {
				t.Errorf("%s of %s: %v", what, name, err)
				continue
			}
			if got := must(f.ImageInspect(t.Context(), ref, ImageInspectOptions{})).RootFS.Layers; !slices.Equal(got, []string{digest.FromBytes(layer).String()}) {
				t.Errorf("%s of %s: layers %v", what, name, got)
			}
			if _, err := take.as(packed.Bytes()[:packed.Len()/2]); !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s of half of %s: %v", what, name, err)
			}
		}
	}
}

// TestImportOfBzip2: Go's library only reads this format, so one archive is given.
func TestImportOfBzip2(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const archive = "QlpoOTFBWSZTWUDSH7MAAG57gMmQAADAAE2AAAhiZJ4ACAggAFQ0p6mJhMmA01BFTUGgANAfUvIRCdaImPUpmWF1qCSCkGdQxITaEHP6PVWt7MJq6ntAiqsSIgPxdyRThQkEDSH7MA=="
	raw, err := base64.StdEncoding.DecodeString(archive)
	f.ok(err)
	f.must(f.ImageImport(t.Context(), bytes.NewReader(raw), "packed", []string{`CMD ["x"]`}, "", ""))
	if got := must(f.ImageInspect(t.Context(), "packed", ImageInspectOptions{})); len(got.RootFS.Layers) != 1 {
		t.Errorf("%+v", got)
	}
	if _, err := f.ImageImport(t.Context(), bytes.NewReader(raw[:len(raw)-9]), "torn", nil, "", ""); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
}

func TestSaveOfSeveralPlatforms(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	r := newRegistry(t, lab.RegistryOptions{})
	other, err := lab.MakeImageFor(v1.Platform{OS: "linux", Architecture: "s390x"}, v1.Config{}, lab.RandomLayer("s390x", 1<<10))
	f.ok(err)
	own := app(t, lab.RandomLayer("own", 1<<10))
	file, err := own.ConfigFile()
	f.ok(err)
	index, err := lab.MakeIndex(map[string]v1.Image{"linux/s390x": other, "linux/" + file.Architecture: own})
	f.ok(err)
	f.ok(r.Write("multi:1", index))
	ref := r.Image("multi:1")
	f.pull(ref)
	want, _ := index.Digest()
	archive := f.save(ref) // a part of it is not here
	must(f.ImageRemove(ctx, ref, true))
	f.load(archive)
	if got := must(f.ImageInspect(ctx, ref, ImageInspectOptions{Manifests: true})); got.ID != want.String() || len(got.Manifests) != 2 {
		t.Errorf("%+v, want %s", got, want)
	} else {
		for _, m := range got.Manifests {
			if own := m.Descriptor.Platform.Architecture == file.Architecture; m.Available != own || (m.Size.Total > 0) != own || m.Kind != "image" {
				t.Errorf("%+v", m)
			}
		}
	}
	f.ok(f.ImagePull(ctx, PullRequest{Ref: ref, Platform: "linux/s390x"}))
	var one bytes.Buffer
	f.ok(f.ImageSave(ctx, []string{ref}, "linux/s390x", &one))
	must(f.ImageRemove(ctx, ref, true))
	f.load(one.Bytes())
	d, _ := other.Digest()
	if got := must(f.ImageInspect(ctx, ref, ImageInspectOptions{})); got.ID != d.String() || got.Architecture != "s390x" {
		t.Errorf("%+v", got)
	}
	if _, err := f.ImageInspect(ctx, ref, ImageInspectOptions{Platform: "linux/riscv64"}); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := newRegistry(t, lab.RegistryOptions{})
	f.ok(r.Write("app:1", app(t, lab.RandomLayer("x", 1<<20))))
	f.pull(r.Image("app:1"))
	steps, err := f.ImageHistory(t.Context(), r.Image("app:1"), "")
	f.ok(err)
	if len(steps) != 2 || steps[0].CreatedBy != "layer 1" || steps[0].Size < 1<<20 || steps[1].Size < 1<<20 ||
		steps[1].ID != "<missing>" || !slices.Equal(steps[0].Tags, []string{r.Image("app:1")}) {
		t.Errorf("%+v", steps)
	}
	if _, err := f.ImageHistory(t.Context(), "nosuch", ""); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
}

func TestImagePrune(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	heard := f.events.Listen()
	layer := func(name string, labels ...string) string {
		return f.must(f.ImageImport(ctx, bytes.NewReader(lab.RandomLayer(name, 1<<20)), name, append(labels, `CMD ["x"]`), "", ""))
	}
	used, spare, keep := layer("used"), layer("spare"), layer("keep", "LABEL keep=yes")
	c := f.create(func(q *CreateRequest) { q.Config.Image = "used" })
	dangling := layer("again")
	layer("again")
	prune := func(filters map[string][]string) []string {
		t.Helper()
		r, err := f.ImagePrune(ctx, filters)
		f.ok(err)
		var out []string
		for _, d := range r.ImagesDeleted {
			if d.Deleted != "" {
				out = append(out, d.Deleted)
			}
		}
		if (r.SpaceReclaimed >= 1<<20*uint64(max(1, len(out)))) != (len(out) > 0) {
			t.Errorf("%d images of a MiB and more had %d bytes", len(out), r.SpaceReclaimed)
		}
		return out
	}
	if got := prune(map[string][]string{"until": {"1h"}}); got != nil {
		t.Errorf("older than an hour: %v", got)
	}
	if got := prune(nil); !slices.Equal(got, []string{dangling}) {
		t.Errorf("%v, want %s", got, dangling)
	}
	got := prune(map[string][]string{"dangling": {"false"}, "label!": {"keep"}, "until": {time.Now().Add(time.Hour).Format(time.RFC3339)}})
	if !slices.Contains(got, spare) || slices.Contains(got, used) || slices.Contains(got, keep) {
		t.Errorf("%v: spare is %s, used %s, keep %s", got, spare, used, keep)
	}
	for _, bad := range []map[string][]string{{"colour": {"red"}}, {"dangling": {"perhaps"}}, {"until": {"then"}}, {"until": {"1h", "2h"}}} {
		if _, err := f.ImagePrune(ctx, bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if _, err := f.ImageInspect(ctx, keep, ImageInspectOptions{}); err != nil {
		t.Error(err)
	}
	f.ok(f.Remove(ctx, c, RemoveOptions{}))
	messages, _ := heard.Ready()
	var kinds []string
	for _, m := range messages {
		if m.Type == apievents.ImageEventType && !slices.Contains(kinds, string(m.Action)) {
			kinds = append(kinds, string(m.Action))
		}
	}
	if !slices.Equal(kinds, []string{"import", "prune", "delete", "untag"}) {
		t.Errorf("%v", kinds)
	}
}

func TestSharedSize(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := newRegistry(t, lab.RegistryOptions{})
	base := lab.RandomLayer("base", 1<<20)
	f.ok(r.Write("a:1", app(t, base, lab.RandomLayer("a", 1<<20))))
	f.ok(r.Write("b:1", app(t, base, lab.RandomLayer("b", 1<<20))))
	f.pull(r.Image("a:1"))
	f.pull(r.Image("b:1"))
	list, err := f.ImageList(t.Context(), ImageListOptions{SharedSize: true, Manifests: true, Filters: map[string][]string{"reference": {r.Image("*:1")}}})
	f.ok(err)
	if len(list) != 2 {
		t.Fatalf("%+v", list)
	}
	for _, s := range list {
		if s.Size-s.SharedSize < 1<<20 || s.Size-s.SharedSize > 3<<19 || s.SharedSize < 2<<20 || len(s.Manifests) != 1 || !s.Manifests[0].Available {
			t.Errorf("%+v", s)
		}
	}
	plain := must(f.ImageList(t.Context(), ImageListOptions{}))
	if plain[0].SharedSize != -1 || plain[0].Manifests != nil {
		t.Errorf("%+v", plain[0])
	}
}
