package mounts

import (
	"fmt"
	"path"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"github.com/fairlead/fairlead/engine/volume"
)

// parse reads a --mount.
func parse(in mount.Mount, driver string) (Mount, error) {
	m, err := read(in, driver)
	if err != nil {
		return Mount{}, fmt.Errorf("invalid mount config for type %q: %w", in.Type, err)
	}
	return m, nil
}

func wrong(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrInvalidArgument)...)
}

func read(in mount.Mount, driver string) (Mount, error) {
	if in.Target == "" {
		return Mount{}, wrong("field Target must not be empty")
	}
	dst, err := destination(in.Target)
	if err != nil {
		return Mount{}, err
	}
	if err := fits(in); err != nil {
		return Mount{}, err
	}
	in.Target = dst
	m := Mount{MountPoint: container.MountPoint{Type: in.Type, Destination: dst, RW: !in.ReadOnly}, Spec: in}
	switch in.Type {
	case mount.TypeBind:
		err = readBind(&m)
		return m, err
	case mount.TypeVolume:
		err = readVolume(&m, driver)
		return m, err
	case mount.TypeTmpfs:
		if in.Source != "" {
			return Mount{}, wrong("field Source must not be specified")
		}
		_, err := tmpfsOptions(in)
		return m, err
	case mount.TypeImage:
		return Mount{}, fmt.Errorf("--mount type=image at %s is not supported: run `create` with the image and take its files by `cp`, "+
			"or a volume that a container of it fills: %w", dst, errdefs.ErrNotImplemented)
	case mount.TypeCluster:
		return Mount{}, fmt.Errorf("--mount type=cluster at %s is not supported: this is one host, no cluster; use type=volume: %w", dst, errdefs.ErrNotImplemented)
	case mount.TypeNamedPipe:
		return Mount{}, wrong("named pipes are Windows'; use type=bind for one of the host's")
	}
	return Mount{}, wrong("mount type unknown")
}

// fits says which options of another type are given.
func fits(in mount.Mount) error {
	for _, x := range []struct {
		field string
		kind  mount.Type
		given bool
	}{
		{"BindOptions", mount.TypeBind, in.BindOptions != nil},
		{"VolumeOptions", mount.TypeVolume, in.VolumeOptions != nil},
		{"TmpfsOptions", mount.TypeTmpfs, in.TmpfsOptions != nil},
		{"ImageOptions", mount.TypeImage, in.ImageOptions != nil},
		{"ClusterOptions", mount.TypeCluster, in.ClusterOptions != nil},
	} {
		if x.given && x.kind != in.Type {
			return wrong("field %s must not be specified", x.field)
		}
	}
	consistencies := []mount.Consistency{"", mount.ConsistencyFull, mount.ConsistencyCached, mount.ConsistencyDelegated, mount.ConsistencyDefault}
	if !slices.Contains(consistencies, in.Consistency) {
		return wrong("invalid consistency %q", in.Consistency)
	}
	return nil
}

func readBind(m *Mount) error {
	in := &m.Spec
	switch {
	case in.Source == "":
		return wrong("field Source must not be empty")
	case !path.IsAbs(in.Source):
		return wrong("invalid mount path: '%s' mount path must be absolute", in.Source)
	}
	in.Source = path.Clean(in.Source)
	m.Source, m.Propagation = in.Source, mount.PropagationRPrivate
	o := in.BindOptions
	if o == nil {
		return nil
	}
	if o.Propagation != "" {
		m.Propagation = o.Propagation
	}
	switch {
	case !slices.Contains(mount.Propagations, m.Propagation):
		return wrong("invalid propagation mode: %s", o.Propagation)
	case (o.ReadOnlyForceRecursive || o.ReadOnlyNonRecursive) && !in.ReadOnly:
		return wrong("BindOptions.ReadOnlyNonRecursive and ReadOnlyForceRecursive are for mounts that are read-only")
	case o.ReadOnlyForceRecursive && o.ReadOnlyNonRecursive:
		return wrong("BindOptions.ReadOnlyNonRecursive and ReadOnlyForceRecursive exclude each other")
	case o.ReadOnlyForceRecursive && o.NonRecursive:
		return wrong("BindOptions.ReadOnlyForceRecursive and NonRecursive exclude each other")
	case o.ReadOnlyForceRecursive && m.Propagation != mount.PropagationRPrivate:
		return wrong("mount source %s: ReadOnlyForceRecursive wants the propagation to be rprivate, not %s", in.Source, m.Propagation)
	}
	return nil
}

func readVolume(m *Mount, driver string) error {
	in := m.Spec
	if in.Source == "" && in.ReadOnly {
		return wrong("must not set ReadOnly mode when using anonymous volumes")
	}
	request := volume.Request{Name: in.Source, Driver: driver}
	if o := in.VolumeOptions; o != nil {
		if o.Subpath != "" && !local(o.Subpath) {
			return wrong("subpath must be a relative path within the volume: %q", o.Subpath)
		}
		if o.DriverConfig != nil {
			request.Driver, request.Options = o.DriverConfig.Name, o.DriverConfig.Options
			if request.Driver == "" {
				request.Driver = driver
			}
		}
	}
	m.Driver = orLocal(request.Driver)
	if in.Source != "" {
		m.Name = in.Source
		m.Mode = "z" // as Docker shows it
	}
	return request.Check()
}
