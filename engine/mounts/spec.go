package mounts

import (
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Spec makes mounts of the runtime specification. recursive says that the kernel can
// make a mount read-only with all that is mounted below it (mount_setattr(2), Linux
// 5.12).
func Spec(list []Mount, recursive bool) ([]specs.Mount, error) {
	var out []specs.Mount
	for _, m := range list {
		if m.Type == mount.TypeTmpfs {
			options, err := tmpfsOptions(m.Spec)
			if err != nil {
				return nil, err
			}
			out = append(out, tmpfs(m.Destination, options))
			continue
		}
		options, err := bindOptions(m, recursive)
		if err != nil {
			return nil, err
		}
		out = append(out, specs.Mount{Type: "bind", Source: m.Source, Destination: m.Destination, Options: options})
	}
	return out, nil
}

func bindOptions(m Mount, recursive bool) ([]string, error) {
	kind, access, propagation := "rbind", []string{"rw"}, m.Propagation
	if propagation == "" {
		propagation = mount.PropagationRPrivate
	}
	var o mount.BindOptions
	if m.Spec.BindOptions != nil {
		o = *m.Spec.BindOptions
	}
	if o.NonRecursive {
		kind = "bind"
	}
	if !m.RW {
		access = []string{"ro"}
		switch {
		case recursive && !o.ReadOnlyNonRecursive && !o.NonRecursive:
			access = []string{"ro", "rro"}
		case o.ReadOnlyForceRecursive:
			return nil, wrong("mount source %s cannot be made read-only recursively: that is of Linux 5.12; leave bind-recursive=readonly out", m.Source)
		}
	}
	return append([]string{kind, string(propagation)}, access...), nil
}

// RootPropagation is what the container's root must be for what is mounted below the
// list's mounts to pass to the host or from it: "" for neither.
func RootPropagation(list []Mount) string {
	out := ""
	for _, m := range list {
		switch m.Propagation {
		case mount.PropagationShared, mount.PropagationRShared:
			return "shared"
		case mount.PropagationSlave, mount.PropagationRSlave:
			out = "rslave"
		}
	}
	return out
}
