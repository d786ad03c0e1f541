package apitest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/volume"
)

// findVolume is called with the lock held.
func (e *Engine) findVolume(name string) (int, error) {
	i := slices.IndexFunc(e.volumes, func(v volume.Volume) bool { return v.Name == name })
	if i < 0 {
		return i, fmt.Errorf("get %s: no such volume: %w", name, errdefs.ErrNotFound)
	}
	return i, nil
}

// volumeUsers are the containers whose binds name the volume.
func (e *Engine) volumeUsers(name string) (ids []string) {
	for _, c := range e.containers {
		if c.HostConfig != nil && slices.ContainsFunc(c.HostConfig.Binds, func(b string) bool { return strings.HasPrefix(b, name+":") }) {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// VolumeCreate keeps a volume as it was asked for, or finds it.
func (e *Engine) VolumeCreate(_ context.Context, request volume.CreateRequest) (volume.Volume, error) {
	if request.Driver != "" && request.Driver != "local" {
		return volume.Volume{}, fmt.Errorf("create %s: error looking up volume plugin %s: plugin %q not found: %w",
			request.Name, request.Driver, request.Driver, errdefs.ErrNotFound)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if i, err := e.findVolume(request.Name); err == nil {
		return e.volumes[i], nil
	}
	v := volume.Volume{
		Name: request.Name, Driver: "local", Scope: "local", CreatedAt: time.Now().Format(time.RFC3339),
		Labels: request.Labels, Options: request.DriverOpts,
	}
	if v.Name == "" {
		v.Name, v.Labels = newID(), map[string]string{"com.docker.volume.anonymous": ""}
	}
	v.Mountpoint = "/var/lib/fairlead/volumes/" + v.Name + "/_data"
	e.volumes = append(e.volumes, v)
	return v, nil
}

// VolumeList lists all volumes; it knows the filters name and dangling.
func (e *Engine) VolumeList(_ context.Context, filters map[string][]string) ([]volume.Volume, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []volume.Volume
	for _, v := range e.volumes {
		if names := filters["name"]; names != nil && !slices.ContainsFunc(names, func(n string) bool { return strings.Contains(v.Name, n) }) {
			continue
		}
		if d := filters["dangling"]; len(d) > 0 && (d[0] == "true" || d[0] == "1") != (len(e.volumeUsers(v.Name)) == 0) {
			continue
		}
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b volume.Volume) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// VolumeInspect returns one volume.
func (e *Engine) VolumeInspect(_ context.Context, name string) (volume.Volume, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i, err := e.findVolume(name)
	if err != nil {
		return volume.Volume{}, err
	}
	return e.volumes[i], nil
}

// VolumeRemove removes a volume that no container has.
func (e *Engine) VolumeRemove(_ context.Context, name string, force bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	i, err := e.findVolume(name)
	if err != nil {
		if force {
			return nil
		}
		return err
	}
	if users := e.volumeUsers(name); len(users) > 0 {
		return fmt.Errorf("remove %s: volume is in use - [%s]: %w", name, strings.Join(users, ", "), errdefs.ErrConflict)
	}
	e.volumes = slices.Delete(e.volumes, i, i+1)
	return nil
}

// VolumePrune removes the volumes that no container has, the anonymous ones unless the
// filter all is there. Each frees ten bytes.
func (e *Engine) VolumePrune(_ context.Context, filters map[string][]string) (volume.PruneReport, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := volume.PruneReport{VolumesDeleted: []string{}}
	e.volumes = slices.DeleteFunc(e.volumes, func(v volume.Volume) bool {
		_, anonymous := v.Labels["com.docker.volume.anonymous"]
		if len(e.volumeUsers(v.Name)) > 0 || !anonymous && len(filters["all"]) == 0 {
			return false
		}
		out.VolumesDeleted = append(out.VolumesDeleted, v.Name)
		out.SpaceReclaimed += 10
		return true
	})
	return out, nil
}
