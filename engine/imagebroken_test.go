package engine

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fairlead/fairlead/internal/lab"
)

// layout is an OCI image layout in the making.
type layout struct {
	t     *testing.T
	blobs map[digest.Digest][]byte
}

// put adds a document, and is what it is named by.
func (l *layout) put(mediaType string, v any) ocispec.Descriptor {
	l.t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		l.t.Fatal(err)
	}
	d := digest.FromBytes(raw)
	l.blobs[d] = raw
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(raw))}
}

// manifest adds one of layers that unpack to diffs.
func (l *layout) manifest(p ocispec.Platform, diffs []digest.Digest, layers ...ocispec.Descriptor) ocispec.Descriptor {
	l.t.Helper()
	config := l.put(ocispec.MediaTypeImageConfig, dockerspec.DockerOCIImage{Image: ocispec.Image{Platform: p, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: diffs}}})
	m := l.put(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: layers,
	})
	m.Platform = &p
	return m
}

func (l *layout) index(of ...ocispec.Descriptor) ocispec.Descriptor {
	return l.put(ocispec.MediaTypeImageIndex, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: of})
}

// archive packs it with the target by the name broken:1.
func (l *layout) archive(target ocispec.Descriptor) io.Reader {
	l.t.Helper()
	target.Platform = nil
	target.Annotations = map[string]string{images.AnnotationImageName: "docker.io/library/broken:1"}
	top, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{target}})
	if err != nil {
		l.t.Fatal(err)
	}
	files := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`), "index.json": top}
	for d, raw := range l.blobs {
		files["blobs/sha256/"+d.Encoded()] = raw
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, raw := range files {
		_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(raw)), Mode: 0o644})
		_, _ = w.Write(raw)
	}
	_ = w.Close()
	return &out
}

// TestBrokenArchives: an image is loaded with all of it or not at all, also where its
// layers are unpacked already.
func TestBrokenArchives(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	known := must(f.images.Get(ctx, "demo"))
	own := ocispec.Platform{OS: known.Config.OS, Architecture: known.Config.Architecture}
	other := ocispec.Platform{OS: "linux", Architecture: "s390x"}
	diffs := known.Config.RootFS.DiffIDs
	m, err := images.Manifest(ctx, f.runtime.Client().ContentStore(), known.Manifest, nil)
	f.ok(err)
	layer := m.Layers[0]
	// load is by what an archive of what make gives is refused.
	load := func(with func(l *layout) ocispec.Descriptor) error {
		l := &layout{t: t, blobs: make(map[digest.Digest][]byte)}
		return f.ImageLoad(ctx, LoadRequest{Archive: l.archive(with(l))})
	}
	one := func(d digest.Digest, size int64) func(l *layout) ocispec.Descriptor {
		return func(l *layout) ocispec.Descriptor {
			return l.manifest(own, diffs, ocispec.Descriptor{MediaType: layer.MediaType, Digest: d, Size: size})
		}
	}
	nowhere := digest.Digest("sha256:" + strings.Repeat("0", 64))
	for name, tc := range map[string]struct {
		with func(l *layout) ocispec.Descriptor
		says string
	}{
		"x":               {one("x", layer.Size), "invalid digest"},
		"no digest":       {one("", layer.Size), "invalid digest"},
		"a colon":         {one(":", layer.Size), "invalid digest"},
		"half a digest":   {one("sha256:ab", layer.Size), "invalid digest"},
		"not there":       {one(nowhere, layer.Size), "is missing"},
		"another size":    {one(layer.Digest, layer.Size+1), "bytes and not"},
		"a negative size": {one(layer.Digest, -1), "invalid size"},
		"3,000 layers": {func(l *layout) ocispec.Descriptor {
			return l.index(l.manifest(own, diffs, layer), l.manifest(other, slices.Repeat(diffs, 3000), slices.Repeat([]ocispec.Descriptor{layer}, 3000)...))
		}, "max depth exceeded"},
		"a bad digest for another platform": {func(l *layout) ocispec.Descriptor {
			return l.index(l.manifest(own, diffs, layer), l.manifest(other, diffs, ocispec.Descriptor{MediaType: layer.MediaType, Digest: ":", Size: 1}))
		}, "invalid digest"},
		"a bad digest in an index": {func(l *layout) ocispec.Descriptor {
			return l.index(l.manifest(own, diffs, layer), ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: "x", Size: 1})
		}, "invalid digest"},
		"indexes without end": {func(l *layout) ocispec.Descriptor {
			d := l.manifest(own, diffs, layer)
			for range 40 {
				d = l.index(d, d)
			}
			return d
		}, "more than 100 indexes"},
		"a huge configuration": {func(l *layout) ocispec.Descriptor {
			config := l.put(ocispec.MediaTypeImageConfig, strings.Repeat("x", 8<<20))
			return l.put(ocispec.MediaTypeImageManifest, ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config})
		}, "too large"},
	} {
		if err := load(tc.with); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want %q", name, err, tc.says)
		}
		if _, err := f.images.Get(ctx, "broken:1"); !errdefs.IsNotFound(err) {
			t.Fatalf("%s is there: %v", name, err)
		}
	}
	// What is not here of other platforms is not asked for.
	if err := load(func(l *layout) ocispec.Descriptor {
		return l.index(l.manifest(own, diffs, layer), l.manifest(other, diffs, ocispec.Descriptor{MediaType: layer.MediaType, Digest: nowhere, Size: 1}),
			ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: nowhere, Size: 1, Platform: &ocispec.Platform{OS: "linux", Architecture: "arm"}})
	}); err != nil {
		t.Error(err)
	}
}

// TestBrokenImages: those that are there, from before or by other hands, do not hide
// the others, and are not given away without a part of them.
func TestBrokenImages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	known := must(f.images.Get(ctx, "demo"))
	l := &layout{t: t, blobs: make(map[digest.Digest][]byte)}
	lacking := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.Digest("sha256:" + strings.Repeat("0", 64)), Size: 1}
	unreadable := lacking
	unreadable.Digest = ":"
	bad := map[string]ocispec.Descriptor{
		"lacking":    l.manifest(known.Config.Platform, known.Config.RootFS.DiffIDs, lacking),
		"unreadable": l.manifest(known.Config.Platform, known.Config.RootFS.DiffIDs, unreadable),
		"mislaid":    l.index(l.manifest(known.Config.Platform, nil), unreadable),
	}
	c := f.runtime.Client()
	for d, raw := range l.blobs {
		f.ok(content.WriteBlob(ctx, c.ContentStore(), d.String(), bytes.NewReader(raw), ocispec.Descriptor{Digest: d, Size: int64(len(raw))},
			content.WithLabels(map[string]string{"containerd.io/gc.root": "test"})))
	}
	for name, target := range bad {
		target.Platform = nil
		_, err := c.ImageService().Create(ctx, images.Image{Name: "docker.io/library/" + name + ":latest", Target: target})
		f.ok(err)
	}
	list := must(f.ImageList(ctx, ImageListOptions{Manifests: true, SharedSize: true}))
	if len(list) != 4 {
		t.Errorf("%+v", list)
	}
	for _, s := range list {
		if whole := s.ID == known.ID.String(); whole != (len(s.Manifests) > 0 && s.Manifests[0].Available) {
			t.Errorf("%v has the manifests %+v", s.RepoTags, s.Manifests)
		}
	}
	for name := range bad {
		var out bytes.Buffer
		if err := f.ImageSave(ctx, []string{"demo", name}, "", &out); err == nil || out.Len() > 0 {
			t.Errorf("%s: %v, and %d bytes", name, err, out.Len())
		}
		must(f.ImageRemove(ctx, name, true))
	}
}

// TestPullOfBrokenIndex: a digest that is none is refused also where it is another
// platform's, before anything is brought.
func TestPullOfBrokenIndex(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	own := must(f.images.Get(t.Context(), "demo")).Config.Platform
	l := &layout{t: t, blobs: make(map[digest.Digest][]byte)}
	top := l.index(l.manifest(own, nil), ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: ":", Size: 1, Platform: &ocispec.Platform{OS: "plan9", Architecture: "arm"}})
	r := newRegistry(t, lab.RegistryOptions{Wrap: func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			for d, raw := range l.blobs {
				if strings.HasSuffix(q.URL.Path, d.String()) || (d == top.Digest && strings.HasSuffix(q.URL.Path, "/manifests/1")) {
					w.Header().Set("Content-Type", top.MediaType)
					w.Header().Set("Docker-Content-Digest", d.String())
					_, _ = w.Write(raw)
					return
				}
			}
		})
	}})
	if err := f.ImagePull(t.Context(), PullRequest{Ref: r.Image("app:1")}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "invalid digest") {
		t.Error(err)
	}
	if list := must(f.images.List(t.Context())); len(list) != 1 {
		t.Errorf("%d images", len(list))
	}
}
