package image

import (
	"context"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
)

// Layer is one of an image's layers, with what it takes on the disk.
type Layer struct {
	// Chain names the snapshot that it is with those below it: layers of several
	// images with the same chain are one.
	Chain string
	// Size is in bytes: unpacked, or where it is not unpacked as it is stored.
	Size int64
}

// Layers are the image's, the lowest first.
func (s *Store) Layers(ctx context.Context, img Image) []Layer { return s.layersOf(ctx, img.Details) }

func (s *Store) layersOf(ctx context.Context, d Details) []Layer {
	out := make([]Layer, len(d.chains))
	for i := range out {
		out[i].Chain = d.chains[i]
		size, known := s.usage(ctx, out[i].Chain)
		if !known && i < len(d.stored) {
			size = d.stored[i]
		}
		out[i].Size = size
	}
	return out
}

// chains are the names of the snapshots that layers become, one upon the other.
func chains(diffs []digest.Digest) []string {
	var out []string
	for _, id := range identity.ChainIDs(slices.Clone(diffs)) {
		out = append(out, id.String())
	}
	return out
}

// usage is what a snapshot takes, which does not change while it is there.
func (s *Store) usage(ctx context.Context, chain string) (size int64, known bool) {
	s.mu.Lock()
	size, known = s.sizes[chain]
	s.mu.Unlock()
	if known {
		return size, true
	}
	u, err := s.client.SnapshotService(s.snapshotter).Usage(ctx, chain)
	if err != nil {
		return 0, false // it is not unpacked
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sizes[chain] = u.Size
	return u.Size, true
}
