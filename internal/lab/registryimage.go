package lab

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Put has the registry hold an image, or an index of several, under NAME:TAG,
// without asking who does.
func (r *Registry) Put(tag string, what remote.Taggable) error {
	ref, err := name.ParseReference(r.Image(tag), name.Insecure)
	if err != nil {
		return err
	}
	return remote.Put(ref, what, remote.WithTransport(inProcess{r.open}))
}

// Write is Put with everything that the image or index is made of.
func (r *Registry) Write(tag string, what remote.Taggable) error {
	ref, err := name.ParseReference(r.Image(tag), name.Insecure)
	if err != nil {
		return err
	}
	through := remote.WithTransport(inProcess{r.open})
	switch w := what.(type) {
	case v1.Image:
		return remote.Write(ref, w, through)
	case v1.ImageIndex:
		return remote.WriteIndex(ref, w, through)
	}
	return fmt.Errorf("%T is neither an image nor an index", what)
}

// Digest is that of what the registry holds as NAME:TAG.
func (r *Registry) Digest(tag string) (string, error) {
	ref, err := name.ParseReference(r.Image(tag), name.Insecure)
	if err != nil {
		return "", err
	}
	d, err := remote.Head(ref, remote.WithTransport(inProcess{r.open}))
	if err != nil {
		return "", err
	}
	return d.Digest.String(), nil
}

// inProcess asks a handler without a network between.
type inProcess struct{ handler http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, r)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

// MakeImage is an image for this machine's platform of layers that are tar archives.
// It is stored compressed, as registries have it.
func MakeImage(config v1.Config, layers ...[]byte) (v1.Image, error) {
	return MakeImageFor(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, config, layers...)
}

// MakeImageFor is MakeImage for any platform.
func MakeImageFor(p v1.Platform, config v1.Config, layers ...[]byte) (v1.Image, error) {
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Variant, file.Config = p.OS, p.Architecture, p.Variant, config
	if img, err = mutate.ConfigFile(img, file); err != nil {
		return nil, err
	}
	for i, raw := range layers {
		layer, err := tarball.LayerFromOpener(
			func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
			tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.BestSpeed), tarball.WithCompressedCaching)
		if err != nil {
			return nil, err
		}
		history := v1.History{CreatedBy: fmt.Sprintf("layer %d", i)}
		if img, err = mutate.Append(img, mutate.Addendum{Layer: layer, History: history, MediaType: types.OCILayer}); err != nil {
			return nil, err
		}
	}
	return img, nil
}

// MakeIndex is an index of images for platforms, by OS/ARCHITECTURE.
func MakeIndex(images map[string]v1.Image) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for platform, img := range images {
		p, err := v1.ParsePlatform(platform)
		if err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: p, MediaType: types.OCIManifestSchema1}})
	}
	return index, nil
}

// RandomLayer is a tar archive with one file of so many bytes that nothing
// compresses: no two are alike.
func RandomLayer(path string, size int) []byte {
	body := make([]byte, size)
	_, _ = rand.Read(body) // never fails
	return FileLayer(path, body)
}

// FileLayer is a tar archive with one file.
func FileLayer(path string, body []byte) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	_ = w.WriteHeader(&tar.Header{Name: path, Mode: 0o644, Size: int64(len(body)), Typeflag: tar.TypeReg})
	_, _ = w.Write(body)
	_ = w.Close() // a buffer takes all
	return out.Bytes()
}
