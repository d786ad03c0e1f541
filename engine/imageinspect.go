package engine

import (
	"context"
	"slices"
	"time"

	apiimage "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/storage"

	"github.com/fairlead/fairlead/engine/image"
	"github.com/fairlead/fairlead/engine/runtime"
)

// ImageInspectOptions say what is told of an image.
type ImageInspectOptions struct {
	// Platform chooses one of several, as linux/arm64; "" is the host's.
	Platform string
	// Manifests has what is here of each platform told.
	Manifests bool
}

// ImageInspect tells everything of an image.
func (e *Engine) ImageInspect(ctx context.Context, ref string, o ImageInspectOptions) (apiimage.InspectResponse, error) {
	img, err := e.imageFor(ctx, ref, o.Platform)
	if err != nil {
		return apiimage.InspectResponse{}, err
	}
	names, err := e.images.Aliases(ctx, img.ID)
	if err != nil {
		return apiimage.InspectResponse{}, err
	}
	config, target := img.Config.Config, img.Target
	out := apiimage.InspectResponse{
		ID: img.ID.String(), RepoTags: tagsOfNames(names), RepoDigests: repoDigests(names),
		Author: img.Config.Author, Config: &config,
		Architecture: img.Config.Architecture, Variant: img.Config.Variant, Os: img.Config.OS, OsVersion: img.Config.OSVersion,
		Size: img.Size, GraphDriver: &storage.DriverData{Name: runtime.Snapshotter},
		RootFS: apiimage.RootFS{Type: "layers"}, Descriptor: &target, Metadata: apiimage.Metadata{LastTagTime: img.Tagged},
	}
	if img.Config.Created != nil {
		out.Created = img.Config.Created.Format(time.RFC3339Nano)
	}
	for _, d := range img.Config.RootFS.DiffIDs {
		out.RootFS.Layers = append(out.RootFS.Layers, d.String())
	}
	if h := img.Config.History; len(h) > 0 {
		out.Comment = h[len(h)-1].Comment
	}
	if o.Manifests && o.Platform == "" {
		out.Manifests, err = e.imageManifests(ctx, img)
	}
	return out, err
}

// imageManifests is what there is of the image for each platform.
func (e *Engine) imageManifests(ctx context.Context, img image.Image) ([]apiimage.ManifestSummary, error) {
	all, err := e.images.Manifests(ctx, img)
	if err != nil {
		return nil, err
	}
	out := []apiimage.ManifestSummary{}
	for _, m := range all {
		s := apiimage.ManifestSummary{ID: m.Descriptor.Digest.String(), Descriptor: m.Descriptor, Available: m.Available, Kind: apiimage.ManifestKindUnknown}
		s.Size.Content, s.Size.Total = m.Content, m.Content+m.Unpacked
		switch {
		case m.For != "":
			s.Kind, s.AttestationData = apiimage.ManifestKindAttestation, &apiimage.AttestationProperties{For: m.For}
		case m.Descriptor.Platform != nil:
			data := &apiimage.ImageProperties{Platform: *m.Descriptor.Platform, Containers: []string{}}
			data.Size.Unpacked = m.Unpacked
			if m.Descriptor.Digest == img.Manifest.Digest {
				for _, r := range e.imageUsers()[img.ID.String()] {
					data.Containers = append(data.Containers, r.ID)
				}
			}
			s.Kind, s.ImageData = apiimage.ManifestKindImage, data
		}
		out = append(out, s)
	}
	return out, nil
}

// ImageHistory tells how an image came about, the latest first.
func (e *Engine) ImageHistory(ctx context.Context, ref, platform string) ([]apiimage.HistoryResponseItem, error) {
	img, err := e.imageFor(ctx, ref, platform)
	if err != nil {
		return nil, err
	}
	names, err := e.images.Aliases(ctx, img.ID)
	if err != nil {
		return nil, err
	}
	layers := e.images.Layers(ctx, img)
	out := []apiimage.HistoryResponseItem{}
	for _, h := range img.Config.History {
		item := apiimage.HistoryResponseItem{ID: "<missing>", CreatedBy: h.CreatedBy, Comment: h.Comment}
		if h.Created != nil {
			item.Created = h.Created.Unix()
		}
		// A history that speaks of more layers than there are is not believed.
		if !h.EmptyLayer && len(layers) > 0 {
			item.Size, layers = layers[0].Size, layers[1:]
		}
		out = append(out, item)
	}
	slices.Reverse(out)
	if len(out) > 0 {
		out[0].ID, out[0].Tags = img.ID.String(), tagsOfNames(names)
	}
	return out, nil
}

// imageUsers maps an image's ID to the containers made from it.
func (e *Engine) imageUsers() map[string][]Record {
	out := make(map[string][]Record)
	for _, c := range e.registry.all() {
		r := c.record()
		out[r.ImageID] = append(out[r.ImageID], r)
	}
	return out
}
