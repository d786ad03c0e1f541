package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/klauspost/compress/gzip"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ImportOptions are what an imported image says of itself.
type ImportOptions struct {
	// Changes are instructions as in a Dockerfile (CMD, ENV, …).
	Changes []string
	Message string
	// Platform is what it is for; nil is the host's.
	Platform *ocispec.Platform
}

// Import makes an image of one layer out of a tar archive, which may be
// compressed, and names it ref; "" leaves it without a name. It returns the image's
// ID.
func (s *Store) Import(ctx context.Context, r io.Reader, ref string, o ImportOptions) (string, error) {
	config, err := Change(dockerspec.DockerOCIImageConfig{}, o.Changes)
	if err != nil {
		return "", err
	}
	var name string
	if ref != "" {
		named, err := newName(ref)
		if err != nil {
			return "", err
		}
		name = named.String()
	}
	// The lease keeps the content from being collected until it has a name.
	ctx, done, err := s.client.WithLease(ctx)
	if err != nil {
		return "", fmt.Errorf("import an image: %w", err)
	}
	defer func() { _ = done(context.WithoutCancel(ctx)) }()
	layer, diff, err := s.writeLayer(ctx, r)
	if err != nil {
		return "", fmt.Errorf("import an image: %w", err)
	}
	target, err := s.writeManifest(ctx, layer, diff, config, o)
	if err != nil {
		return "", fmt.Errorf("import an image: %w", err)
	}
	if name == "" {
		name = nameless + target.Digest.String()
	}
	if err := s.unpack(ctx, images.Image{Name: name, Target: target}); err != nil {
		return "", fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if err := s.name(ctx, name, target); err != nil {
		return "", err
	}
	return target.Digest.String(), nil
}

// writeLayer stores the archive packed by gzip, as it goes to registries, and returns
// the digest of what it unpacks to as well.
func (s *Store) writeLayer(ctx context.Context, r io.Reader) (layer ocispec.Descriptor, diff digest.Digest, err error) {
	plain, err := decompress(r)
	if err != nil {
		return layer, "", err
	}
	defer plain.Close()
	archive := bufio.NewReader(plain)
	if err := checkTar(archive); err != nil {
		return layer, "", err
	}
	ref := fmt.Sprintf("import-%d", time.Now().UnixNano())
	w, err := content.OpenWriter(ctx, s.client.ContentStore(), content.WithRef(ref))
	if err != nil {
		return layer, "", err
	}
	defer w.Close()
	l, err := pack(w, archive)
	if err != nil {
		return layer, "", errors.Join(err, s.client.ContentStore().Abort(context.WithoutCancel(ctx), ref))
	}
	labels := map[string]string{"containerd.io/uncompressed": l.diff.String()}
	if err := w.Commit(ctx, l.Size, l.Digest, content.WithLabels(labels)); err != nil && !errdefs.IsAlreadyExists(err) {
		return layer, "", err
	}
	return l.Descriptor, l.diff, nil
}

// packedLayer is a layer as it is stored; diff is the digest of what it unpacks to.
type packedLayer struct {
	ocispec.Descriptor
	diff digest.Digest
}

// storeChunk is how many bytes go to the content store at once. Each writing there is a
// question and an answer between processes, and gzip writes some hundred bytes at a time.
const storeChunk = 1 << 20

// pack writes the archive packed by gzip. An empty archive is an error.
func pack(to io.Writer, archive io.Reader) (l packedLayer, err error) {
	packed, unpacked := digest.SHA256.Digester(), digest.SHA256.Digester()
	counted := &countingWriter{w: io.MultiWriter(to, packed.Hash())}
	chunks := bufio.NewWriterSize(counted, storeChunk)
	zipped, err := gzip.NewWriterLevel(chunks, gzip.BestSpeed)
	if err != nil {
		return l, err
	}
	size, err := io.Copy(io.MultiWriter(zipped, unpacked.Hash()), archive)
	if err == nil && size == 0 {
		err = fmt.Errorf("the archive is empty: %w", errdefs.ErrInvalidArgument)
	}
	if err = errors.Join(err, zipped.Close(), chunks.Flush()); err != nil {
		return l, err
	}
	l.Descriptor = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: packed.Digest(), Size: counted.n}
	l.diff = unpacked.Digest()
	return l, nil
}

// countingWriter counts what is written, in bytes.
type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// checkTar looks at the first header: the layer would be refused too, after all of it
// was stored, and in words about a header. An empty archive is the caller's.
func checkTar(r *bufio.Reader) error {
	const block = 512 // of a tar archive, see tar(5)
	head, err := r.Peek(block)
	switch {
	case len(head) == 0 && errors.Is(err, io.EOF):
		return nil
	case err != nil && !errors.Is(err, io.EOF):
		return fmt.Errorf("read the archive: %w", err)
	}
	_, err = tar.NewReader(bytes.NewReader(head)).Next()
	if len(head) < block || errors.Is(err, tar.ErrHeader) {
		return fmt.Errorf("this is not a tar archive: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

func (s *Store) writeManifest(ctx context.Context, layer ocispec.Descriptor, diff digest.Digest, config dockerspec.DockerOCIImageConfig, o ImportOptions) (ocispec.Descriptor, error) {
	now := time.Now().UTC()
	p := platforms.DefaultSpec()
	if o.Platform != nil {
		p = *o.Platform
	}
	img := dockerspec.DockerOCIImage{
		Image: ocispec.Image{
			Created:  &now,
			Platform: ocispec.Platform{Architecture: p.Architecture, OS: p.OS, Variant: p.Variant},
			RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diff}},
			History:  []ocispec.History{{Created: &now, Comment: o.Message}},
		},
		Config: config,
	}
	configDesc, err := s.writeJSON(ctx, ocispec.MediaTypeImageConfig, img, nil)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return s.writeJSON(ctx, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    configDesc,
		Layers:    []ocispec.Descriptor{layer},
	}, map[string]string{
		"containerd.io/gc.ref.content.config": configDesc.Digest.String(),
		"containerd.io/gc.ref.content.l.0":    layer.Digest.String(),
	})
}

func (s *Store) writeJSON(ctx context.Context, mediaType string, v any, labels map[string]string) (ocispec.Descriptor, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	err = content.WriteBlob(ctx, s.client.ContentStore(), "import-"+d.Digest.Encoded(), bytes.NewReader(raw), d, content.WithLabels(labels))
	return d, err
}
