package image

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Manifest is what there is here of an image for one platform.
type Manifest struct {
	// Descriptor has the platform, where it is known.
	Descriptor ocispec.Descriptor
	// Available is whether all of it is here.
	Available bool
	// Content is what its blobs take, Unpacked what its layers do, in bytes.
	Content, Unpacked int64
	// For is the manifest that this one tells about, "" for an image.
	For digest.Digest
}

// Manifests are those of the image, in its own order.
func (s *Store) Manifests(ctx context.Context, img Image) ([]Manifest, error) {
	all, err := s.manifests(ctx, img.Target)
	if err != nil {
		return nil, fmt.Errorf("read image %s: %w", familiar(img.Name), err)
	}
	var out []Manifest
	for _, m := range all {
		one := Manifest{Descriptor: m.desc}
		if m.attestation() {
			one.For = digest.Digest(m.desc.Annotations["vnd.docker.reference.digest"])
		}
		if err := s.measure(ctx, &one); err != nil {
			return nil, fmt.Errorf("read image %s: %w", familiar(img.Name), err)
		}
		out = append(out, one)
	}
	return out, nil
}

// measure finds out what of the manifest is here.
func (s *Store) measure(ctx context.Context, m *Manifest) error {
	store := s.client.ContentStore()
	raw, err := content.ReadBlob(ctx, store, m.Descriptor)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	var in ocispec.Manifest
	if err := json.Unmarshal(raw, &in); err != nil {
		return fmt.Errorf("decode manifest %s: %w", m.Descriptor.Digest, err)
	}
	m.Available, m.Content = true, m.Descriptor.Size
	for _, blob := range append([]ocispec.Descriptor{in.Config}, in.Layers...) {
		info, err := store.Info(ctx, blob.Digest)
		switch {
		case errdefs.IsNotFound(err), blob.Digest.Validate() != nil:
			m.Available = false
		case err != nil:
			return err
		default:
			m.Content += info.Size
		}
	}
	// Of one that is not here, or is no image, there are none.
	if diffs, err := images.RootFS(ctx, store, in.Config); err == nil {
		for _, l := range s.layersOf(ctx, Details{chains: chains(diffs)}) {
			m.Unpacked += l.Size
		}
	}
	return nil
}
