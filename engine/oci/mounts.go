package oci

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Mounts are the user's: --volume with a path of the host, --tmpfs, and --mount
// of those two types. Volumes with a name are errdefs.ErrNotImplemented.
func Mounts(h *container.HostConfig) ([]specs.Mount, error) {
	var out []specs.Mount
	for _, b := range h.Binds {
		m, err := parseBind(b)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	for _, m := range h.Mounts {
		parsed, err := parseMount(m)
		if err != nil {
			return nil, err
		}
		out = append(out, parsed)
	}
	for _, dst := range slices.Sorted(maps.Keys(h.Tmpfs)) {
		m, err := tmpfs(dst, strings.FieldsFunc(h.Tmpfs[dst], func(r rune) bool { return r == ',' }))
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	seen := make(map[string]bool)
	for _, m := range out {
		if seen[m.Destination] {
			return nil, fmt.Errorf("Duplicate mount point: %s: %w", m.Destination, errdefs.ErrInvalidArgument) //nolint:staticcheck // Docker's words
		}
		seen[m.Destination] = true
	}
	return out, nil
}

// propagations of mounts, see mount_namespaces(7).
var propagations = []string{"private", "rprivate", "shared", "rshared", "slave", "rslave"}

func parseBind(s string) (specs.Mount, error) {
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return specs.Mount{}, fmt.Errorf("invalid volume specification: '%s': %w", s, errdefs.ErrInvalidArgument)
	}
	if !path.IsAbs(parts[0]) {
		return specs.Mount{}, fmt.Errorf("volume %q of %q: named volumes are not supported, give a path of the host: %w", parts[0], s, errdefs.ErrNotImplemented)
	}
	m := specs.Mount{Type: "bind", Source: path.Clean(parts[0]), Destination: parts[1]}
	mode, propagation := "rw", "rprivate"
	if len(parts) == 3 {
		for opt := range strings.SplitSeq(parts[2], ",") {
			switch opt {
			case "rw", "ro":
				mode = opt
			case "z", "Z", "": // labels of SELinux, which is not used here
			default:
				if slices.Contains(propagations, opt) {
					propagation = opt
					continue
				}
				return specs.Mount{}, fmt.Errorf("invalid mode: %s in volume %q: %w", opt, s, errdefs.ErrInvalidArgument)
			}
		}
	}
	m.Options = []string{"rbind", mode, propagation}
	err := target(&m)
	return m, err
}

func parseMount(in mount.Mount) (specs.Mount, error) {
	switch in.Type {
	case mount.TypeBind:
		if !path.IsAbs(in.Source) {
			return specs.Mount{}, fmt.Errorf("invalid mount config for type \"bind\": invalid mount path: '%s' mount path must be absolute: %w", in.Source, errdefs.ErrInvalidArgument)
		}
		return bindMount(in)
	case mount.TypeTmpfs:
		var opts []string
		if in.TmpfsOptions != nil {
			if len(in.TmpfsOptions.Options) > 0 {
				return specs.Mount{}, fmt.Errorf("TmpfsOptions.Options of the mount at %s is not supported: %w", in.Target, errdefs.ErrNotImplemented)
			}
			if in.TmpfsOptions.SizeBytes > 0 {
				opts = append(opts, fmt.Sprintf("size=%d", in.TmpfsOptions.SizeBytes))
			}
			if in.TmpfsOptions.Mode != 0 {
				opts = append(opts, fmt.Sprintf("mode=%o", in.TmpfsOptions.Mode))
			}
		}
		if in.ReadOnly {
			opts = append(opts, "ro")
		}
		return tmpfs(in.Target, opts)
	}
	return specs.Mount{}, fmt.Errorf("mount of type %q at %s is not supported: %w", in.Type, in.Target, errdefs.ErrNotImplemented)
}

func bindMount(in mount.Mount) (specs.Mount, error) {
	m := specs.Mount{Type: "bind", Source: path.Clean(in.Source), Destination: in.Target}
	kind, mode, propagation := "rbind", "rw", "rprivate"
	if in.ReadOnly {
		mode = "ro"
	}
	if o := in.BindOptions; o != nil {
		if o.ReadOnlyNonRecursive || o.ReadOnlyForceRecursive {
			return m, fmt.Errorf("BindOptions.ReadOnly… of the mount at %s is not supported: %w", in.Target, errdefs.ErrNotImplemented)
		}
		if o.NonRecursive {
			kind = "bind"
		}
		if o.Propagation != "" {
			propagation = string(o.Propagation)
		}
		if !slices.Contains(propagations, propagation) {
			return m, fmt.Errorf("invalid propagation mode: %s: %w", propagation, errdefs.ErrInvalidArgument)
		}
	}
	m.Options = []string{kind, mode, propagation}
	err := target(&m)
	return m, err
}

func tmpfs(dst string, opts []string) (specs.Mount, error) {
	m := specs.Mount{
		Type: "tmpfs", Source: "tmpfs", Destination: dst,
		Options: append([]string{"noexec", "nosuid", "nodev", "rprivate"}, opts...),
	}
	err := target(&m)
	return m, err
}

func target(m *specs.Mount) error {
	if !path.IsAbs(m.Destination) {
		return fmt.Errorf("invalid mount path: '%s' mount path must be absolute: %w", m.Destination, errdefs.ErrInvalidArgument)
	}
	m.Destination = path.Clean(m.Destination)
	if m.Destination == "/" {
		return fmt.Errorf("invalid mount: destination can't be '/': %w", errdefs.ErrInvalidArgument)
	}
	return nil
}
