package image

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxLayers is how many layers an image may have, as Docker's: a container is mounted
// in one system call, whose options have to fit into a page.
const maxLayers = 127

// sound refuses a manifest that nobody can have made in earnest, before anything that
// it names is asked for. Errors are errdefs.ErrInvalidArgument.
func sound(m ocispec.Manifest) error {
	if n := len(m.Layers); n > maxLayers {
		return tooDeep(n)
	}
	return valid(blobs(m))
}

func blobs(m ocispec.Manifest) []ocispec.Descriptor {
	return append([]ocispec.Descriptor{m.Config}, m.Layers...)
}

func valid(all []ocispec.Descriptor) error {
	for _, d := range all {
		if err := d.Digest.Validate(); err != nil {
			return fmt.Errorf("invalid digest %.100q: %w: %w", d.Digest.String(), err, errdefs.ErrInvalidArgument)
		}
		if d.Size < 0 {
			return fmt.Errorf("invalid size %d of %s: %w", d.Size, d.Digest, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// maxIndexes is how often an image may name an index: those that name another twice,
// which does so again, are few blobs and a walk without end.
const maxIndexes = 100

// present walks through what is here of an image of an archive, and refuses one that is
// not what it says, before anything is kept of it. Errors are
// errdefs.ErrInvalidArgument.
func (s *Store) present() images.HandlerFunc {
	store := s.client.ContentStore()
	indexes := 0
	return func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if images.IsIndexType(desc.MediaType) {
			if indexes++; indexes > maxIndexes {
				return nil, fmt.Errorf("the image has more than %d indexes: %w", maxIndexes, errdefs.ErrInvalidArgument)
			}
		}
		if err := valid([]ocispec.Descriptor{desc}); err != nil {
			return nil, err
		}
		info, err := store.Info(ctx, desc.Digest)
		if errdefs.IsNotFound(err) {
			return nil, images.ErrSkipDesc // of a platform that the archive has not
		}
		if err != nil {
			return nil, err
		}
		if info.Size != desc.Size {
			return nil, fmt.Errorf("%s has %d bytes and not %d: %w", desc.Digest, info.Size, desc.Size, errdefs.ErrInvalidArgument)
		}
		children, err := images.Children(ctx, store, desc)
		if err != nil {
			return nil, err
		}
		documents := children // what will be read into memory
		if images.IsManifestType(desc.MediaType) {
			if n := len(children) - 1; n > maxLayers {
				return nil, tooDeep(n)
			}
			documents = children[:1]
		}
		return children, errors.Join(valid(children), readable(documents...))
	}
}

// readable refuses what is too large to be a manifest or a configuration.
func readable(all ...ocispec.Descriptor) error {
	for _, d := range all {
		if d.Size > docker.MaxManifestSize {
			return fmt.Errorf("%s of the image has %d bytes, which is too large: %w", d.Digest, d.Size, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

func tooDeep(n int) error {
	return fmt.Errorf("max depth exceeded: the image has %d layers, more than %d: %w", n, maxLayers, errdefs.ErrInvalidArgument)
}

// whole says whether everything of the manifest is here, also what was unpacked for
// another image and is missed only when this one is given away. errdefs.ErrNotFound
// names the first that is not.
func (s *Store) whole(ctx context.Context, one ocispec.Descriptor) error {
	store := s.client.ContentStore()
	m, err := images.Manifest(ctx, store, one, platforms.All)
	if err != nil {
		return err
	}
	if err := sound(m); err != nil {
		return err
	}
	for _, d := range blobs(m) {
		if images.IsNonDistributable(d.MediaType) {
			continue
		}
		info, err := store.Info(ctx, d.Digest)
		if errdefs.IsNotFound(err) {
			return fmt.Errorf("%s of the image is missing: %w", d.Digest, errdefs.ErrNotFound)
		}
		if err != nil {
			return err
		}
		if info.Size != d.Size {
			return fmt.Errorf("%s has %d bytes and not %d: %w", d.Digest, info.Size, d.Size, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}
