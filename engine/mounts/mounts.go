// Package mounts reads what a container's user wants mounted, in all the forms there
// are of saying it, and makes mounts of the runtime specification of it.
//
// Values in, values out: volumes are made, and paths of the host looked at, by others.
package mounts

import (
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"github.com/fairlead/fairlead/engine/volume"
)

// Mount is what stands at one place in a container's tree.
type Mount struct {
	// MountPoint is what inspect shows. The Name and Source of a volume, and the
	// Source of a part of one, are for others to fill in.
	container.MountPoint
	// Spec is what was asked for, in the form of --mount whatever form it had. Its
	// Source is "" for an anonymous volume.
	Spec mount.Mount
}

// Anonymous says that the mount is a volume that nobody named.
func (m Mount) Anonymous() bool { return m.Type == mount.TypeVolume && m.Spec.Source == "" }

// Copies says whether an empty volume gets what the image has at its place.
func (m Mount) Copies() bool {
	o := m.Spec.VolumeOptions
	return m.Type == mount.TypeVolume && (o == nil || !o.NoCopy && o.Subpath == "")
}

// Subpath is the part of the volume that is mounted, "" for all of it.
func (m Mount) Subpath() string {
	if m.Type != mount.TypeVolume || m.Spec.VolumeOptions == nil {
		return ""
	}
	return m.Spec.VolumeOptions.Subpath
}

// Parse reads --volume (Binds), --mount (Mounts) and the volumes that the
// configuration declares, which are anonymous. inherited are those of other
// containers (--volumes-from), in the order they are named: a later one goes over an
// earlier, and all else over both. The result is in the order of the destinations.
func Parse(c *container.Config, h *container.HostConfig, inherited []Mount) ([]Mount, error) {
	if err := checkTmpfs(h.Tmpfs); err != nil {
		return nil, err
	}
	at := make(map[string]Mount)
	for _, m := range inherited {
		at[m.Destination] = m
	}
	asked := make(map[string]bool)
	for dst := range h.Tmpfs {
		asked[path.Clean(dst)] = true
		delete(at, path.Clean(dst))
	}
	var list []Mount
	for _, b := range h.Binds {
		m, err := Bind(b, h.VolumeDriver)
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	for _, in := range h.Mounts {
		m, err := parse(in, h.VolumeDriver)
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	for _, m := range list {
		if asked[m.Destination] {
			return nil, fmt.Errorf("Duplicate mount point: %s: %w", m.Destination, errdefs.ErrInvalidArgument) //nolint:staticcheck // Docker's words
		}
		asked[m.Destination] = true
		at[m.Destination] = m
	}
	for _, dst := range slices.Sorted(maps.Keys(c.Volumes)) {
		clean, err := destination(dst)
		if err != nil {
			return nil, err
		}
		if _, taken := at[clean]; !taken && !asked[clean] {
			at[clean] = anonymous(clean, h.VolumeDriver)
		}
	}
	out := make([]Mount, 0, len(at))
	for _, dst := range slices.Sorted(maps.Keys(at)) {
		out = append(out, at[dst])
	}
	return out, nil
}

func anonymous(dst, driver string) Mount {
	return Mount{
		MountPoint: container.MountPoint{Type: mount.TypeVolume, Destination: dst, Driver: orLocal(driver), RW: true},
		Spec:       mount.Mount{Type: mount.TypeVolume, Target: dst},
	}
}

func orLocal(driver string) string {
	if driver == "" {
		return volume.Driver
	}
	return driver
}

// destination cleans the path of a mount in the container, which is absolute and not
// its root.
func destination(dst string) (string, error) {
	if !path.IsAbs(dst) {
		return "", fmt.Errorf("invalid mount path: '%s' mount path must be absolute: %w", dst, errdefs.ErrInvalidArgument)
	}
	clean := path.Clean(dst)
	if clean == "/" {
		return "", fmt.Errorf("invalid specification: destination can't be '/': %w", errdefs.ErrInvalidArgument)
	}
	return clean, nil
}

// From reads one word of --volumes-from, CONTAINER[:ro|rw|z|Z].
func From(s string) (ref string, readOnly bool, err error) {
	ref, mode, given := strings.Cut(s, ":")
	if ref == "" {
		return "", false, fmt.Errorf("malformed volumes-from specification: %q: want CONTAINER[:ro]: %w", s, errdefs.ErrInvalidArgument)
	}
	if !given {
		return ref, false, nil
	}
	o, err := parseMode(mode)
	if err != nil || o.nocopy || o.propagation != "" {
		return "", false, fmt.Errorf("invalid mode: %s in --volumes-from %s: %w", mode, s, errdefs.ErrInvalidArgument)
	}
	return ref, o.readOnly, nil
}

// Inherit makes the mounts of another container this one's. Nothing is copied into
// its volumes: they are filled already.
func Inherit(list []Mount, readOnly bool) []Mount {
	out := slices.Clone(list)
	for i := range out {
		m := &out[i]
		if readOnly {
			m.RW, m.Spec.ReadOnly = false, true
		}
		if m.Type == mount.TypeVolume {
			o := mount.VolumeOptions{}
			if m.Spec.VolumeOptions != nil {
				o = *m.Spec.VolumeOptions
			}
			o.NoCopy = true
			m.Spec.VolumeOptions = &o
		}
	}
	return out
}

// mode is what stands after the last colon of a --volume.
type mode struct {
	readOnly, nocopy bool
	propagation      mount.Propagation
}

// parseMode reads words of which each kind may be there once.
func parseMode(text string) (mode, error) {
	var out mode
	seen := make(map[string]bool)
	for word := range strings.SplitSeq(text, ",") {
		kind := ""
		switch {
		case word == "" && text == "":
			return out, nil
		case word == "rw" || word == "ro":
			kind, out.readOnly = "access", word == "ro"
		case word == "z" || word == "Z":
			kind = "label" // of SELinux, which is not used here
		case word == "nocopy":
			kind, out.nocopy = "copy", true
		case word == "consistent" || word == "cached" || word == "delegated":
			kind = "consistency" // of virtual machines on other systems
		case slices.Contains(mount.Propagations, mount.Propagation(word)):
			kind, out.propagation = "propagation", mount.Propagation(word)
		}
		if kind == "" || seen[kind] {
			return out, fmt.Errorf("invalid mode: %s: %w", text, errdefs.ErrInvalidArgument)
		}
		seen[kind] = true
	}
	return out, nil
}

// Bind reads a --volume: SOURCE:DESTINATION[:MODE], where the source is a path of the
// host or a volume's name, or DESTINATION alone, which is an anonymous volume.
func Bind(s, driver string) (Mount, error) {
	wrong := fmt.Errorf("invalid volume specification: '%s': %w", s, errdefs.ErrInvalidArgument)
	parts := strings.Split(s, ":")
	if slices.Contains(parts[:len(parts)-1], "") || parts[0] == "" || len(parts) > 3 {
		return Mount{}, wrong
	}
	if len(parts) == 1 {
		dst, err := destination(s)
		if err != nil {
			return Mount{}, fmt.Errorf("invalid volume specification: '%s': %w", s, err)
		}
		return anonymous(dst, driver), nil
	}
	if _, err := parseMode(parts[1]); err == nil && parts[1] != "" {
		return Mount{}, wrong // DESTINATION:MODE: an anonymous volume has none
	}
	dst, err := destination(parts[1])
	if err != nil {
		return Mount{}, fmt.Errorf("invalid volume specification: '%s': %w", s, err)
	}
	text := ""
	if len(parts) == 3 {
		text = parts[2]
	}
	o, err := parseMode(text)
	if err != nil {
		return Mount{}, err
	}
	if path.IsAbs(parts[0]) {
		return bindOf(s, parts[0], dst, text, o)
	}
	return volumeOf(s, parts[0], dst, text, driver, o)
}

func bindOf(s, source, dst, text string, o mode) (Mount, error) {
	if o.nocopy {
		return Mount{}, fmt.Errorf("invalid mode: %s: nocopy is for volumes, and %s is a path of the host: %w", text, source, errdefs.ErrInvalidArgument)
	}
	if o.propagation == "" {
		o.propagation = mount.PropagationRPrivate
	}
	source = path.Clean(source)
	return Mount{
		MountPoint: container.MountPoint{Type: mount.TypeBind, Source: source, Destination: dst, Mode: text, RW: !o.readOnly, Propagation: o.propagation},
		Spec: mount.Mount{
			Type: mount.TypeBind, Source: source, Target: dst, ReadOnly: o.readOnly,
			BindOptions: &mount.BindOptions{Propagation: o.propagation, CreateMountpoint: true},
		},
	}, nil
}

func volumeOf(s, name, dst, text, driver string, o mode) (Mount, error) {
	if err := volume.CheckName(name); err != nil {
		return Mount{}, fmt.Errorf("create %s: %w", name, err)
	}
	if o.propagation != "" {
		return Mount{}, fmt.Errorf("invalid mode: %s in volume %q: propagation is for paths of the host: %w", text, s, errdefs.ErrInvalidArgument)
	}
	if text == "" {
		text = "z" // as Docker shows it
	}
	m := Mount{
		MountPoint: container.MountPoint{Type: mount.TypeVolume, Name: name, Destination: dst, Driver: orLocal(driver), Mode: text, RW: !o.readOnly},
		Spec:       mount.Mount{Type: mount.TypeVolume, Source: name, Target: dst, ReadOnly: o.readOnly},
	}
	if o.nocopy {
		m.Spec.VolumeOptions = &mount.VolumeOptions{NoCopy: true}
	}
	return m, nil
}

// local says whether a subpath stays below what it is taken from, by its letters;
// links are another matter.
func local(subpath string) bool { return filepath.IsLocal(subpath) }
