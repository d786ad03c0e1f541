package api

import (
	"net/http"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"

	"github.com/fairlead/fairlead/engine"
)

// The API versions that have what is used by kind, and those that have the lists of
// all that uses it beside, see docs/CHANGELOG.md of github.com/moby/moby/api.
const (
	usageFrom     = 52
	usageListTo   = 52
	builderSizeTo = 41
	virtualSizeTo = 43
)

// legacyUsage is the disk usage of clients up to 1.52. What was not asked for is
// null.
type legacyUsage struct {
	LayersSize  int64
	Images      any
	Containers  any
	Volumes     []volume.Volume
	BuildCache  []build.CacheRecord
	BuilderSize *int64 `json:",omitempty"`
}

// bothUsages is that of 1.52.
type bothUsages struct {
	legacyUsage
	system.DiskUsage
}

func (s *server) diskUsage(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	var options engine.DiskUsageOptions
	kinds := q["type"]
	if len(kinds) == 0 {
		kinds = []string{"image", "container", "volume", "build-cache"}
	}
	for _, kind := range kinds {
		switch system.DiskUsageObject(kind) {
		case system.ImageObject:
			options.Images = true
		case system.ContainerObject:
			options.Containers = true
		case system.VolumeObject:
			options.Volumes = true
		case system.BuildCacheObject:
			options.BuildCache = true
		default:
			return invalid("unknown object type: %s", kind)
		}
	}
	got, err := s.engine.DiskUsage(r.Context(), options)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, usageFor(versionOf(r), got, boolean(q, "verbose")))
	return nil
}

// usageFor gives the disk usage the fields of an API version.
func usageFor(version minor, got system.DiskUsage, verbose bool) any {
	if version < usageFrom {
		return legacyUsageOf(version, got)
	}
	if verbose {
		return got
	}
	legacy := legacyUsageOf(version, got)
	if u := got.ImageUsage; u != nil {
		u.Items = nil
	}
	if u := got.ContainerUsage; u != nil {
		u.Items = nil
	}
	if u := got.VolumeUsage; u != nil {
		u.Items = nil
	}
	if u := got.BuildCacheUsage; u != nil {
		u.Items = nil
	}
	if version <= usageListTo {
		return bothUsages{legacy, got}
	}
	return got
}

func legacyUsageOf(version minor, got system.DiskUsage) legacyUsage {
	var out legacyUsage
	if u := got.ImageUsage; u != nil {
		out.LayersSize, out.Images = u.TotalSize, reshape(version, u.Items, imagesFields)
		if version <= virtualSizeTo {
			list := make([]legacySummary, len(u.Items))
			for i, item := range u.Items {
				list[i] = legacySummary{item, item.Size}
			}
			out.Images = reshape(version, list, imagesFields)
		}
	}
	if u := got.ContainerUsage; u != nil {
		out.Containers = summariesFor(version, u.Items)
	}
	if u := got.VolumeUsage; u != nil {
		out.Volumes = u.Items
	}
	if u := got.BuildCacheUsage; u != nil {
		out.BuildCache = u.Items
	}
	if version <= builderSizeTo {
		out.BuilderSize = new(int64)
	}
	return out
}
