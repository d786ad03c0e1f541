package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	apievents "github.com/moby/moby/api/types/events"
	apivolume "github.com/moby/moby/api/types/volume"

	"github.com/fairlead/fairlead/engine/volume"
)

// emitVolume tells what happened to a volume; more are attributes, key and value by
// turns.
func (e *Engine) emitVolume(name string, action apievents.Action, more ...string) {
	attributes := map[string]string{"driver": volume.Driver}
	for i := 0; i+1 < len(more); i += 2 {
		attributes[more[i]] = more[i+1]
	}
	e.emit(apievents.VolumeEventType, action, name, attributes)
}

// VolumeCreate makes a volume, or finds the one of that name.
func (e *Engine) VolumeCreate(_ context.Context, req apivolume.CreateRequest) (apivolume.Volume, error) {
	if req.ClusterVolumeSpec != nil {
		return apivolume.Volume{}, fmt.Errorf("ClusterVolumeSpec (docker volume create --type, --scope …) is not supported: this is one host, no cluster: %w", errdefs.ErrNotImplemented)
	}
	leave, err := e.enter()
	if err != nil {
		return apivolume.Volume{}, err
	}
	defer leave()
	v, made, err := e.volumes.Create(volume.Request{Name: req.Name, Driver: req.Driver, Options: req.DriverOpts, Labels: req.Labels})
	if err != nil {
		return apivolume.Volume{}, err
	}
	if made {
		e.emitVolume(v.Name, apievents.ActionCreate)
	}
	return shownVolume(v), nil
}

// VolumeInspect finds a volume by its name.
func (e *Engine) VolumeInspect(_ context.Context, name string) (apivolume.Volume, error) {
	v, err := e.volumes.Get(name)
	if err != nil {
		return apivolume.Volume{}, err
	}
	return shownVolume(v), nil
}

func shownVolume(v volume.Volume) apivolume.Volume {
	return apivolume.Volume{
		Name: v.Name, Driver: volume.Driver, Mountpoint: v.Path, Scope: "local",
		CreatedAt: v.CreatedAt.Format(time.RFC3339), Labels: v.Labels, Options: v.Options,
	}
}

// VolumeList returns the volumes that pass the filters dangling, driver, label and
// name.
func (e *Engine) VolumeList(_ context.Context, filters map[string][]string) ([]apivolume.Volume, error) {
	chosen, err := volumeFilter(filters, "dangling", "driver", "label", "name")
	if err != nil {
		return nil, err
	}
	out := []apivolume.Volume{}
	for _, use := range e.volumes.List() {
		if chosen(use) {
			out = append(out, shownVolume(use.Volume))
		}
	}
	return out, nil
}

// VolumeRemove takes a volume away with its files; force makes one that is not there
// no error.
func (e *Engine) VolumeRemove(_ context.Context, name string, force bool) error {
	leave, err := e.enter()
	if err != nil {
		return err
	}
	defer leave()
	finish, err := e.volumes.Discard(name)
	if errdefs.IsNotFound(err) && force {
		return nil
	}
	if err != nil {
		return err
	}
	e.emitVolume(name, apievents.ActionDestroy)
	return finish()
}

// VolumePrune removes the volumes that no container has, of the anonymous ones or, with
// the filter all, of all of them; it knows the filters label and label! too.
func (e *Engine) VolumePrune(ctx context.Context, filters map[string][]string) (apivolume.PruneReport, error) {
	report := apivolume.PruneReport{VolumesDeleted: []string{}}
	chosen, err := volumeFilter(filters, "all", "label", "label!")
	if err != nil {
		return report, err
	}
	all, err := flag("all", filters["all"])
	if err != nil {
		return report, err
	}
	leave, err := e.enter()
	if err != nil {
		return report, err
	}
	defer leave()
	var errs []error
	for _, use := range e.volumes.List() {
		if ctx.Err() != nil {
			break
		}
		if len(use.Containers) > 0 || !chosen(use) || !use.Anonymous() && (all == nil || !*all) {
			continue
		}
		size := e.volumeSize(ctx, use.Volume)
		finish, err := e.volumes.Discard(use.Name)
		if err != nil {
			if !errdefs.IsConflict(err) && !errdefs.IsNotFound(err) {
				errs = append(errs, err)
			}
			continue // a container has taken it meanwhile, or somebody removed it
		}
		e.emitVolume(use.Name, apievents.ActionDestroy)
		errs = append(errs, finish())
		report.VolumesDeleted = append(report.VolumesDeleted, use.Name)
		report.SpaceReclaimed += uint64(max(size, 0))
	}
	e.emit(apievents.VolumeEventType, apievents.ActionPrune, "", map[string]string{"reclaimed": strconv.FormatUint(report.SpaceReclaimed, 10)})
	return report, errors.Join(errs...)
}

// VolumeUsage is every volume with its size in bytes and how many containers have it.
func (e *Engine) VolumeUsage(ctx context.Context) ([]apivolume.Volume, error) {
	out := []apivolume.Volume{}
	for _, use := range e.volumes.List() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		v := shownVolume(use.Volume)
		v.UsageData = &apivolume.UsageData{RefCount: int64(len(use.Containers)), Size: e.volumeSize(ctx, use.Volume)}
		out = append(out, v)
	}
	return out, nil
}

// volumeSize is -1 for one that is not to be measured: what its options mount is not
// this host's to count.
func (e *Engine) volumeSize(ctx context.Context, v volume.Volume) int64 {
	if len(v.Options) > 0 {
		return -1
	}
	size, err := v.Size(ctx)
	if err != nil {
		return -1
	}
	return size
}

// volumeFilter makes one test of all filters; one that is not known is refused.
func volumeFilter(filters map[string][]string, known ...string) (func(volume.Use) bool, error) {
	for key := range filters {
		if !slices.Contains(known, key) {
			return nil, fmt.Errorf("invalid filter '%s': %w", key, errdefs.ErrInvalidArgument)
		}
	}
	dangling, err := flag("dangling", filters["dangling"])
	if err != nil {
		return nil, err
	}
	name, err := patterns("name", filters["name"])
	if err != nil {
		return nil, err
	}
	return func(use volume.Use) bool {
		has := func(text string) bool {
			key, value, exact := strings.Cut(text, "=")
			got, there := use.Labels[key]
			return there && (!exact || got == value)
		}
		switch {
		case dangling != nil && *dangling != (len(use.Containers) == 0):
		case len(filters["name"]) > 0 && !name(use.Name):
		case len(filters["driver"]) > 0 && !slices.Contains(filters["driver"], volume.Driver):
		case slices.ContainsFunc(filters["label"], func(l string) bool { return !has(l) }):
		case slices.ContainsFunc(filters["label!"], has):
		default:
			return true
		}
		return false
	}, nil
}

// flag reads a filter that is true or false; nil is one that is not given.
func flag(key string, values []string) (*bool, error) {
	if len(values) == 0 {
		return nil, nil //nolint:nilnil // not given
	}
	var out bool
	switch values[0] {
	case "1", "true":
		out = true
	case "0", "false":
	default:
		values = append(values, "")
	}
	if len(values) > 1 {
		return nil, fmt.Errorf("invalid filter '%s=%v': want true or false: %w", key, values[:1], errdefs.ErrInvalidArgument)
	}
	return &out, nil
}
