package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	apievents "github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/engine/mounts"
	"github.com/fairlead/fairlead/engine/rootfs"
	"github.com/fairlead/fairlead/engine/volume"
)

// mounts joins what is shown of the mounts and what was asked for.
func (r Record) mounts() []mounts.Mount {
	out := make([]mounts.Mount, len(r.Mounts))
	for i := range out {
		out[i].MountPoint = r.Mounts[i]
		if i < len(r.MountSpecs) {
			out[i].Spec = r.MountSpecs[i]
		}
	}
	return out
}

func (r *Record) setMounts(list []mounts.Mount) {
	r.Mounts, r.MountSpecs = make([]container.MountPoint, len(list)), make([]mount.Mount, len(list))
	for i, m := range list {
		r.Mounts[i], r.MountSpecs[i] = m.MountPoint, m.Spec
	}
}

// volumes are the mounts that are volumes.
func (r Record) volumes() []mounts.Mount {
	return slices.DeleteFunc(r.mounts(), func(m mounts.Mount) bool { return m.Type != mount.TypeVolume })
}

// decideMounts notes what is to be mounted, and refuses what cannot be. Nothing is
// made yet.
func (e *Engine) decideMounts(rec *Record) error {
	var inherited []mounts.Mount
	for _, from := range rec.HostConfig.VolumesFrom {
		ref, readOnly, err := mounts.From(from)
		if err != nil {
			return err
		}
		other, err := e.registry.find(ref)
		if err != nil {
			return err
		}
		inherited = append(inherited, mounts.Inherit(other.record().mounts(), readOnly)...)
	}
	list, err := mounts.Parse(rec.Config, rec.HostConfig, inherited)
	if err != nil {
		return err
	}
	for _, m := range list {
		switch m.Type {
		case mount.TypeVolume:
			if err := volumeRequest(m).Check(); err != nil {
				return fmt.Errorf("create %s: %w", m.Name, err)
			}
		case mount.TypeBind:
			if err := checkSource(m); err != nil {
				return err
			}
		}
	}
	rec.setMounts(list)
	return nil
}

// checkSource: --mount wants its source to be there, --volume has it made.
func checkSource(m mounts.Mount) error {
	if o := m.Spec.BindOptions; o != nil && o.CreateMountpoint {
		return nil
	}
	if _, err := os.Stat(m.Source); err != nil {
		return fmt.Errorf("invalid mount config for type \"bind\": bind source path does not exist: %s: %w", m.Source, errdefs.ErrInvalidArgument)
	}
	return nil
}

// volumeRequest asks for the volume of a mount.
func volumeRequest(m mounts.Mount) volume.Request {
	out := volume.Request{Name: m.Name, Driver: m.Driver}
	if o := m.Spec.VolumeOptions; o != nil {
		out.Labels = o.Labels
		if o.DriverConfig != nil {
			out.Options = o.DriverConfig.Options
		}
	}
	// What is lost of another with the machine's power is its age.
	out.Quick = len(out.Labels)+len(out.Options) == 0
	return out
}

// claimVolumes makes the container's volumes, as far as they are not there, and keeps
// them from being removed.
func (e *Engine) claimVolumes(rec *Record) error {
	points := slices.Clone(rec.Mounts)
	for i, m := range rec.mounts() {
		if m.Type != mount.TypeVolume {
			continue
		}
		v, made, err := e.volumes.Claim(volumeRequest(m), rec.ID)
		if err != nil {
			return err
		}
		points[i].Name, points[i].Source, points[i].Driver = v.Name, v.Path, volume.Driver
		rec.Mounts = points
		if made {
			e.emitVolume(v.Name, apievents.ActionCreate)
		}
	}
	return nil
}

// spareVolumes has the anonymous volumes of a container that is removed without them
// stay, whatever happens to the daemon.
func (e *Engine) spareVolumes(rec Record, goToo bool) error {
	var errs []error
	for _, m := range rec.volumes() {
		if m.Anonymous() && !goToo {
			errs = append(errs, e.volumes.Spare(m.Name))
		}
	}
	return errors.Join(errs...)
}

// releaseVolumes lets go of the container's volumes. Those that nobody named go with
// it where anonymous is set, unless others have them; finish removes their files.
func (e *Engine) releaseVolumes(rec Record, anonymous bool) (finish func() error) {
	var last []func() error
	var errs []error
	for _, m := range rec.volumes() {
		e.volumes.Release(m.Name, rec.ID)
		if !anonymous || !m.Anonymous() || m.Name == "" {
			continue
		}
		remove, err := e.volumes.Discard(m.Name)
		switch {
		case err == nil:
			last = append(last, remove)
			e.emitVolume(m.Name, apievents.ActionDestroy)
		case !errdefs.IsConflict(err) && !errdefs.IsNotFound(err):
			errs = append(errs, err)
		}
	}
	return func() error {
		for _, remove := range last {
			errs = append(errs, remove())
		}
		return errors.Join(errs...)
	}
}

// fillVolumes copies into empty volumes what the image has at their places.
func (e *Engine) fillVolumes(ctx context.Context, c *instance) error {
	for _, m := range c.rec.volumes() {
		if !m.Copies() {
			continue
		}
		if err := e.fillVolume(ctx, c, m); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) fillVolume(ctx context.Context, c *instance, m mounts.Mount) (err error) {
	if err := e.volumes.Mount(ctx, m.Name, c.id); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.volumes.Unmount(m.Name, c.id)) }()
	if empty, err := e.volumes.Empty(m.Name); err != nil || !empty {
		return err
	}
	from, err := rootfs.Layers(c.root.Layers()).OpenDir(m.Destination)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("cannot mount volume over existing file, file exists %s: %w", m.Destination, errdefs.ErrInvalidArgument)
	case err != nil:
		return err
	}
	defer from.Close()
	return e.volumes.Fill(ctx, m.Name, from)
}

// mountForRun makes ready on the host what the container mounts, and returns it in the
// runtime's words.
func (e *Engine) mountForRun(ctx context.Context, rec Record) ([]specs.Mount, error) {
	list := rec.mounts()
	for i := range list {
		m := &list[i]
		switch m.Type {
		case mount.TypeBind:
			if err := makeSource(*m); err != nil {
				return nil, err
			}
		case mount.TypeVolume:
			if err := e.volumes.Mount(ctx, m.Name, rec.ID); err != nil {
				return nil, err
			}
			if m.Subpath() != "" {
				var err error
				if m.Source, err = e.mountSubpath(rec.ID, i, *m); err != nil {
					return nil, err
				}
			}
			e.emitVolume(m.Name, apievents.ActionMount, "container", rec.ID, "destination", m.Destination,
				"read/write", fmt.Sprint(m.RW), "propagation", string(m.Propagation))
		}
	}
	if sharesIPC(rec) {
		if err := e.mountShm(rec); err != nil {
			return nil, err
		}
	}
	if err := checkPropagation(list); err != nil {
		return nil, err
	}
	out, err := mounts.Spec(list, recursiveReadOnly())
	if err != nil {
		return nil, err
	}
	tmpfs, err := mounts.Tmpfs(rec.HostConfig.Tmpfs)
	return append(out, tmpfs...), err
}

// unmountRun undoes mountForRun.
func (e *Engine) unmountRun(rec Record) error {
	var errs []error
	if rec.hasHostMounts() {
		errs = append(errs, unmountBelow(e.hostMountsDir(rec.ID)))
	}
	for _, m := range rec.volumes() {
		if m.Name == "" {
			continue
		}
		errs = append(errs, e.volumes.Unmount(m.Name, rec.ID))
		e.emitVolume(m.Name, apievents.ActionUnmount, "container", rec.ID)
	}
	return errors.Join(errs...)
}

// makeSource makes the directory that --volume names and the host lacks, as Docker
// does, and that of a --mount that asks for it.
func makeSource(m mounts.Mount) error {
	if o := m.Spec.BindOptions; o == nil || !o.CreateMountpoint {
		return checkSource(m)
	}
	if err := os.MkdirAll(m.Source, 0o755); err != nil {
		// A file or a socket there is just as good.
		if _, statErr := os.Stat(m.Source); statErr != nil {
			return fmt.Errorf("make the directory to mount: %w", err)
		}
	}
	return nil
}

// keepVolumes notes that a container on record has its volumes, and that it may run. A
// record of before mounts were kept gets them.
func (e *Engine) keepVolumes(rec *Record) error {
	if rec.Mounts == nil {
		list, err := mounts.Parse(&container.Config{}, rec.HostConfig, nil)
		if err != nil {
			return err
		}
		rec.setMounts(list)
	}
	var errs []error
	for _, m := range rec.volumes() {
		errs = append(errs, e.volumes.Keep(m.Name, rec.ID))
		e.volumes.Resume(m.Name, rec.ID)
	}
	return errors.Join(errs...)
}
