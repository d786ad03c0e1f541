package image

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Save writes an archive of the images: a name with a tag is one, a name without is
// every tag of the repository, an ID is one without a name. It is an OCI image layout
// that has Docker's own index beside it. platform is the one to take; nil is what is
// here. Nothing is written where something asked for is not there.
func (s *Store) Save(ctx context.Context, refs []string, platform *ocispec.Platform, to io.Writer) ([]Image, error) {
	if len(refs) == 0 {
		return nil, fmt.Errorf("no image is named to be saved: %w", errdefs.ErrInvalidArgument)
	}
	a := archiving{Store: s, platform: platform, names: make(map[string]bool), bare: make(map[digest.Digest]bool)}
	for _, ref := range refs {
		chosen, byID, err := s.saved(ctx, ref)
		if err != nil {
			return nil, err
		}
		for _, img := range chosen {
			if err := a.add(ctx, img, byID); err != nil {
				return nil, fmt.Errorf("save image %s: %w", ref, err)
			}
		}
	}
	store := s.client.ContentStore()
	a.options = append(a.options,
		archive.WithPlatform(platforms.Ordered(a.platforms...)), archive.WithAllPlatforms(),
		archive.WithSkipNonDistributableBlobs(), archive.WithSkipMissing(store))
	if err := archive.Export(ctx, store, to, a.options...); err != nil {
		return a.images, fmt.Errorf("save images: %w", err)
	}
	return a.images, nil
}

// saved are the images that one reference asks for.
func (s *Store) saved(ctx context.Context, ref string) (out []Image, byID bool, err error) {
	img, byID, err := s.Find(ctx, ref)
	named, nameErr := reference.ParseNormalizedNamed(ref)
	if (err == nil && byID) || nameErr != nil || !reference.IsNameOnly(named) {
		return []Image{img}, byID, err
	}
	list, listErr := s.List(ctx)
	if listErr != nil {
		return nil, false, listErr
	}
	for _, i := range list {
		if i.Tag() != "" && i.Repository() == named.Name() {
			out = append(out, i)
		}
	}
	if len(out) > 0 {
		return out, false, nil
	}
	return []Image{img}, byID, err
}

// archiving gathers what goes into one archive.
type archiving struct {
	*Store
	platform *ocispec.Platform
	options  []archive.ExportOpt
	images   []Image
	// platforms are those that Docker's index, which knows one each, is to name.
	platforms []ocispec.Platform
	names     map[string]bool
	bare      map[digest.Digest]bool
}

func (a *archiving) add(ctx context.Context, img Image, byID bool) error {
	one, err := a.manifestFor(ctx, img.Target, a.platform)
	if err != nil {
		return err
	}
	if err := a.whole(ctx, one); err != nil {
		return err
	}
	if one.Platform != nil {
		a.platforms = append(a.platforms, *one.Platform)
	}
	target := img.Target
	if a.platform != nil {
		target = ocispec.Descriptor{MediaType: one.MediaType, Digest: one.Digest, Size: one.Size}
	}
	a.images = append(a.images, img)
	switch {
	case !byID && img.Tag() != "":
		if !a.names[img.Name] {
			a.names[img.Name] = true
			a.options = append(a.options, archive.WithManifest(target, img.Name))
		}
	case !a.bare[target.Digest]:
		a.bare[target.Digest] = true
		a.options = append(a.options, archive.WithManifest(target))
	}
	return nil
}
