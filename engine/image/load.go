package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Load reads the images of an archive made by `docker save` or laid out by the
// OCI image layout. Of images of several platforms it takes the one asked for, nil is
// all that the archive has. progress is told each step; it may be nil. What was
// loaded before an error is returned with it.
func (s *Store) Load(ctx context.Context, r io.Reader, platform *ocispec.Platform, progress func(jsonstream.Message)) ([]Image, error) {
	plain, err := decompress(r)
	if err != nil {
		return nil, fmt.Errorf("load images: %w", err)
	}
	defer plain.Close()
	ctx, done, err := s.client.WithLease(ctx)
	if err != nil {
		return nil, fmt.Errorf("load images: %w", err)
	}
	defer func() { _ = done(context.WithoutCancel(ctx)) }()
	top, err := archive.ImportIndex(ctx, s.client.ContentStore(), plain)
	if err != nil {
		return nil, fmt.Errorf("load images: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	raw, err := content.ReadBlob(ctx, s.client.ContentStore(), top)
	if err != nil {
		return nil, fmt.Errorf("load images: %w", err)
	}
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("load images: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	t := &teller{pass: progress}
	var out []Image
	for _, m := range index.Manifests {
		if m.Annotations[images.AnnotationManifestSubject] != "" {
			continue // it is about another
		}
		img, err := s.loadOne(ctx, m, platform, t)
		if err != nil {
			return out, fmt.Errorf("load images: %w", err)
		}
		out = append(out, img)
	}
	return out, nil
}

// loadOne unpacks an image whose content is in the store, and names it.
func (s *Store) loadOne(ctx context.Context, m ocispec.Descriptor, platform *ocispec.Platform, t *teller) (Image, error) {
	target := ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size}
	store := s.client.ContentStore()
	err := readable(target)
	if err == nil {
		err = images.Walk(ctx, images.SetChildrenMappedLabels(store, s.present(), nil), target)
	}
	if err != nil {
		return Image{}, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	one, err := s.manifestFor(ctx, target, platform)
	if err != nil {
		return Image{}, err
	}
	if platform != nil {
		target = ocispec.Descriptor{MediaType: one.MediaType, Digest: one.Digest, Size: one.Size}
	}
	name, err := archivedName(m, target.Digest)
	if err != nil {
		return Image{}, err
	}
	if name == "" {
		name = nameless + target.Digest.String()
	}
	if err := s.whole(ctx, one); err != nil {
		return Image{}, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	d, err := s.detail(ctx, target, platform)
	if err != nil {
		return Image{}, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if err := s.unpackManifest(ctx, name, d.Manifest); err != nil {
		return Image{}, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	s.changed(target.Digest)
	for i, l := range s.layersOf(ctx, d) {
		id := d.Config.RootFS.DiffIDs[i].Encoded()[:12]
		t.tell(id, "Loading layer", &jsonstream.Progress{Current: l.Size, Total: l.Size})
	}
	if err := s.loadedAs(ctx, name, target, t); err != nil {
		return Image{}, err
	}
	return s.fill(ctx, images.Image{Name: name, Target: target})
}

// loadedAs names the image and tells so; one that had a name keeps it where the
// archive has none.
func (s *Store) loadedAs(ctx context.Context, name string, target ocispec.Descriptor, t *teller) error {
	known, err := s.Aliases(ctx, target.Digest)
	if err != nil {
		return err
	}
	line := "Loaded image: " + familiar(name)
	if familiar(name) == "" {
		line = "Loaded image ID: " + target.Digest.String()
	}
	if familiar(name) != "" || len(known) == 0 {
		if err := s.name(ctx, name, target); err != nil {
			return err
		}
	}
	t.send(jsonstream.Message{Stream: line + "\n"})
	return nil
}

// archivedName is an image's name in its archive, "" where it has none. In an OCI layout
// that may be a tag alone: then there is no telling of what. A name that would stand for
// another image than this is refused: whoever asks for that one by its digest gets it.
func archivedName(m ocispec.Descriptor, target digest.Digest) (string, error) {
	for _, key := range []string{images.AnnotationImageName, ocispec.AnnotationRefName} {
		ref := m.Annotations[key]
		if !strings.ContainsAny(ref, ":/") {
			continue
		}
		name, err := parse(ref)
		if err != nil {
			continue
		}
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return "", err
		}
		if d, ok := named.(reference.Digested); ok && d.Digest() != target {
			return "", fmt.Errorf("the archive has image %s by the name of another, %s: %w", target, familiar(name), errdefs.ErrInvalidArgument)
		}
		return name, Ambiguous(named)
	}
	return "", nil
}
