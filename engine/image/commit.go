package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fairlead/fairlead/internal/panics"
)

// CommitOptions are what an image made of a container says of itself.
type CommitOptions struct {
	Config                     dockerspec.DockerOCIImageConfig
	Author, Message, CreatedBy string
}

// Commit makes an image of a layer, which write writes as a tar archive, on top of
// the base, and names it ref; "" leaves it without a name. Without a base the layer
// is the whole of it. It returns the image's ID.
func (s *Store) Commit(ctx context.Context, base *Image, ref string, o CommitOptions, write func(io.Writer) error) (string, error) {
	name, err := commitName(ref)
	if err != nil {
		return "", err
	}
	// The lease keeps the content from being collected until it has a name.
	ctx, done, err := s.client.WithLease(ctx)
	if err != nil {
		return "", fmt.Errorf("commit: %w", err)
	}
	defer func() { _ = done(context.WithoutCancel(ctx)) }()
	layer, diff, err := s.layerOf(ctx, write)
	if err != nil {
		return "", fmt.Errorf("commit: %w", err)
	}
	target, err := s.commitManifest(ctx, base, layer, diff, o)
	if err != nil {
		return "", fmt.Errorf("commit: %w", err)
	}
	if name == "" {
		name = nameless + target.Digest.String()
	}
	if err := s.unpack(ctx, images.Image{Name: name, Target: target}); err != nil {
		return "", err
	}
	if err := s.name(ctx, name, target); err != nil {
		return "", err
	}
	return target.Digest.String(), nil
}

func commitName(ref string) (string, error) {
	if ref == "" {
		return "", nil
	}
	named, err := newName(ref)
	if err != nil {
		return "", err
	}
	return named.String(), nil
}

// layerOf stores what write writes.
func (s *Store) layerOf(ctx context.Context, write func(io.Writer) error) (layer ocispec.Descriptor, diff digest.Digest, err error) {
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := func() (err error) {
			defer panics.Catch(&err)
			return write(w)
		}()
		w.CloseWithError(err) // nil is io.EOF to the reader
		written <- err
	}()
	layer, diff, err = s.writeLayer(ctx, r)
	r.CloseWithError(errors.Join(err, io.ErrClosedPipe))
	if failed := <-written; failed != nil && err == nil {
		err = failed
	}
	return layer, diff, err
}

// ociMediaTypes are the names that OCI has for the types of Docker's layers: an
// image is of one kind throughout.
var ociMediaTypes = map[string]string{
	images.MediaTypeDockerSchema2Layer:     ocispec.MediaTypeImageLayer,
	images.MediaTypeDockerSchema2LayerGzip: ocispec.MediaTypeImageLayerGzip,
	images.MediaTypeDockerSchema2LayerZstd: ocispec.MediaTypeImageLayerZstd,
}

func (s *Store) commitManifest(ctx context.Context, base *Image, layer ocispec.Descriptor, diff digest.Digest, o CommitOptions) (ocispec.Descriptor, error) {
	now := time.Now().UTC()
	p := platforms.DefaultSpec()
	img := dockerspec.DockerOCIImage{Image: ocispec.Image{
		Platform: ocispec.Platform{Architecture: p.Architecture, OS: p.OS, Variant: p.Variant}, RootFS: ocispec.RootFS{Type: "layers"},
	}}
	var layers []ocispec.Descriptor
	if base != nil {
		img.Platform, img.RootFS = base.Config.Platform, base.Config.RootFS
		img.History = append(img.History, base.Config.History...)
		parent, err := images.Manifest(ctx, s.client.ContentStore(), base.Manifest, platforms.All)
		if err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("read the image that the container is of: %w", err)
		}
		layers = append(layers, parent.Layers...)
	}
	if len(layers) >= maxLayers {
		return ocispec.Descriptor{}, fmt.Errorf("max depth exceeded: the container's image has %d layers, and none may have more than %d: %w", len(layers), maxLayers, errdefs.ErrInvalidArgument)
	}
	img.Config, img.Author, img.Created = o.Config, o.Author, &now
	img.History = append(img.History, ocispec.History{Created: &now, CreatedBy: o.CreatedBy, Author: o.Author, Comment: o.Message})
	img.RootFS.DiffIDs = append(img.RootFS.DiffIDs[:len(img.RootFS.DiffIDs):len(img.RootFS.DiffIDs)], diff)
	config, err := s.writeJSON(ctx, ocispec.MediaTypeImageConfig, img, nil)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	labels := map[string]string{"containerd.io/gc.ref.content.config": config.Digest.String()}
	layers = append(layers, layer)
	for i := range layers {
		if t, ok := ociMediaTypes[layers[i].MediaType]; ok {
			layers[i].MediaType = t
		}
		labels["containerd.io/gc.ref.content.l."+strconv.Itoa(i)] = layers[i].Digest.String()
	}
	return s.writeJSON(ctx, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: layers,
	}, labels)
}
