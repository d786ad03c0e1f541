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
	"strings"
	"time"

	client "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Import makes an image of one layer out of a tar archive, which may be
// compressed, and names it ref; "" leaves it without a name. changes are
// instructions as in a Dockerfile (CMD, ENV, …). It returns the image's ID.
func (s *Store) Import(ctx context.Context, r io.Reader, ref string, changes []string, message string) (string, error) {
	config, err := Change(dockerspec.DockerOCIImageConfig{}, changes)
	if err != nil {
		return "", err
	}
	var name string
	if ref != "" {
		named, err := reference.ParseNormalizedNamed(ref)
		if err != nil {
			return "", fmt.Errorf("invalid reference format %q: %w: %w", ref, err, errdefs.ErrInvalidArgument)
		}
		name = reference.TagNameOnly(named).String()
	}
	// The lease keeps the content from being collected until it has a name.
	ctx, done, err := s.client.WithLease(ctx)
	if err != nil {
		return "", fmt.Errorf("import an image: %w", err)
	}
	defer func() { _ = done(context.WithoutCancel(ctx)) }()
	layer, err := s.writeLayer(ctx, r)
	if err != nil {
		return "", fmt.Errorf("import an image: %w", err)
	}
	target, err := s.writeManifest(ctx, layer, config, message)
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

// writeLayer stores the archive as it unpacks to: its digest is the layer's
// both as content and as difference.
func (s *Store) writeLayer(ctx context.Context, r io.Reader) (ocispec.Descriptor, error) {
	plain, err := compression.DecompressStream(r)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("read the archive: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	defer plain.Close()
	archive := bufio.NewReader(plain)
	if err := checkTar(archive); err != nil {
		return ocispec.Descriptor{}, err
	}
	ref := fmt.Sprintf("import-%d", time.Now().UnixNano())
	w, err := content.OpenWriter(ctx, s.client.ContentStore(), content.WithRef(ref))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer w.Close()
	sum := digest.SHA256.Digester()
	size, err := io.Copy(io.MultiWriter(w, sum.Hash()), archive)
	if err != nil {
		return ocispec.Descriptor{}, errors.Join(err, s.client.ContentStore().Abort(context.WithoutCancel(ctx), ref))
	}
	if size == 0 {
		return ocispec.Descriptor{}, errors.Join(
			fmt.Errorf("the archive is empty: %w", errdefs.ErrInvalidArgument),
			s.client.ContentStore().Abort(context.WithoutCancel(ctx), ref))
	}
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: sum.Digest(), Size: size}
	labels := map[string]string{"containerd.io/uncompressed": d.Digest.String()}
	if err := w.Commit(ctx, size, d.Digest, content.WithLabels(labels)); err != nil && !errdefs.IsAlreadyExists(err) {
		return ocispec.Descriptor{}, err
	}
	return d, nil
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

func (s *Store) writeManifest(ctx context.Context, layer ocispec.Descriptor, config dockerspec.DockerOCIImageConfig, message string) (ocispec.Descriptor, error) {
	now := time.Now().UTC()
	p := platforms.DefaultSpec()
	img := dockerspec.DockerOCIImage{
		Image: ocispec.Image{
			Created:  &now,
			Platform: ocispec.Platform{Architecture: p.Architecture, OS: p.OS, Variant: p.Variant},
			RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.Digest}},
			History:  []ocispec.History{{Created: &now, Comment: message}},
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

// Load reads the images of an archive made by `docker save` or laid out by the
// OCI image layout, and returns their names. progress is told each one.
func (s *Store) Load(ctx context.Context, r io.Reader, progress func(string)) ([]string, error) {
	plain, err := compression.DecompressStream(r)
	if err != nil {
		return nil, fmt.Errorf("load images: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	defer plain.Close()
	ctx, done, err := s.client.WithLease(ctx)
	if err != nil {
		return nil, fmt.Errorf("load images: %w", err)
	}
	defer func() { _ = done(context.WithoutCancel(ctx)) }()
	before, err := s.client.ImageService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("load images: %w", err)
	}
	loaded, err := s.client.Import(ctx, plain,
		client.WithImageRefTranslator(loadedName),
		client.WithDigestRef(func(d digest.Digest) string { return nameless + d.String() }),
		client.WithSkipDigestRef(func(name string) bool { return name != "" }))
	if err != nil {
		return nil, fmt.Errorf("load images: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	var names []string
	for _, in := range loaded {
		if err := s.unpack(ctx, in); err != nil {
			return names, err
		}
		for _, old := range before {
			if old.Name == in.Name && old.Target.Digest != in.Target.Digest {
				if err := s.keep(ctx, old.Target, in.Name); err != nil {
					return names, fmt.Errorf("keep the image that was %s: %w", familiar(in.Name), err)
				}
			}
		}
		line := "Loaded image: " + familiar(in.Name)
		if familiar(in.Name) == "" {
			line = "Loaded image ID: " + in.Target.Digest.String()
		}
		names = append(names, strings.SplitN(line, ": ", 2)[1])
		if progress != nil {
			progress(line)
		}
	}
	return names, nil
}

// loadedName is the name for the reference in an OCI layout, which may be a tag
// alone: then there is no telling of what.
func loadedName(ref string) string {
	if !strings.ContainsAny(ref, ":/") {
		return ""
	}
	name, err := parse(ref)
	if err != nil {
		return ""
	}
	return name
}
