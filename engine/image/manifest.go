package image

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// manifestFor is the manifest of the platform in the image; nil is the host's, and
// where that is not here the first that is. errdefs.ErrNotFound says what is missing.
func (s *Store) manifestFor(ctx context.Context, target ocispec.Descriptor, platform *ocispec.Platform) (ocispec.Descriptor, error) {
	all, err := s.manifests(ctx, target)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	match := s.platform
	if platform != nil {
		match = platforms.Only(*platform)
	}
	best := -1
	for i, m := range all {
		if !m.here || m.desc.Platform == nil {
			continue
		}
		p := platforms.Normalize(*m.desc.Platform)
		if match.Match(p) && (best < 0 || match.Less(p, *all[best].desc.Platform)) {
			best = i
		}
	}
	for i, m := range all {
		if best < 0 && platform == nil && m.here && !m.attestation() {
			best = i
		}
	}
	if best < 0 {
		want := platforms.DefaultSpec()
		if platform != nil {
			want = *platform
		}
		return ocispec.Descriptor{}, fmt.Errorf("the image has nothing for the platform %s here: %w", platforms.Format(want), errdefs.ErrNotFound)
	}
	return all[best].desc, nil
}

// manifest is one of an image's. Its descriptor says the platform, where it is known.
type manifest struct {
	desc ocispec.Descriptor
	// here is whether the manifest and its configuration are.
	here bool
}

// attestation says whether it tells about another manifest, as BuildKit's do.
func (m manifest) attestation() bool {
	return m.desc.Annotations["vnd.docker.reference.type"] == "attestation-manifest"
}

// manifests are those that the target is, or that its indexes refer to, in order.
func (s *Store) manifests(ctx context.Context, target ocispec.Descriptor) ([]manifest, error) {
	store := s.client.ContentStore()
	raw, err := content.ReadBlob(ctx, store, target)
	switch {
	case errdefs.IsNotFound(err) && !images.IsIndexType(target.MediaType):
		return []manifest{{desc: target}}, nil
	case err != nil:
		return nil, err
	}
	if images.IsIndexType(target.MediaType) {
		var index ocispec.Index
		if err := json.Unmarshal(raw, &index); err != nil {
			return nil, fmt.Errorf("decode index %s: %w", target.Digest, err)
		}
		var out []manifest
		for _, d := range index.Manifests {
			below, err := s.manifests(ctx, d)
			if err != nil && !errdefs.IsNotFound(err) {
				return nil, err
			}
			out = append(out, below...)
		}
		return out, nil
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("decode manifest %s: %w", target.Digest, err)
	}
	config, err := images.ConfigPlatform(ctx, store, m.Config)
	if err == nil && target.Platform == nil {
		target.Platform = &config
	}
	return []manifest{{desc: target, here: err == nil}}, nil
}
