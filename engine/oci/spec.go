// Package oci makes a container's runtime specification out of Docker's
// configuration: namespaces, mounts, capabilities, limits, and the process, with
// Docker's defaults.
//
// It reads of the machine only what a privileged container is given of it. It
// starts nothing and keeps nothing; see the OCI runtime specification 1.0 for
// what the values mean.
package oci

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// cgroupParent holds the control groups of all containers.
const cgroupParent = "/fairlead"

// Container is everything that decides a specification.
type Container struct {
	ID         string
	Config     *container.Config
	HostConfig *container.HostConfig
	// Args is the command with its arguments.
	Args []string
	// Hostname and Domainname are the container's; "" in the host's UTS
	// namespace.
	Hostname, Domainname string
	User                 specs.User
	// LinkEnv is the environment that links to other containers give; the
	// container's own goes over it.
	LinkEnv []string
	// NetworkNamespace is the path of the namespace to join.
	NetworkNamespace string
	// OwnNetwork is false for a namespace shared with the host or with
	// another container, which is left as it is.
	OwnNetwork bool
	// Files are mounted over the image's: path in the container to path on
	// the host.
	Files map[string]string
	// Mounts are the user's.
	Mounts []specs.Mount
	// RootPropagation is what the root has to be for mounts to pass between it and
	// the host, as in the runtime specification; "" is the runtime's own.
	RootPropagation string
	// Sysctls are the kernel's own; those of the network are not set here.
	Sysctls map[string]string
	// Devices are what FindDevices found; what is not there is not given.
	Devices Devices
	// PIDNamespace and IPCNamespace are paths of another container's to join, and
	// Shm is the directory of the host that is to be /dev/shm; "" is none.
	PIDNamespace, IPCNamespace, Shm string
	// AppArmor is the profile for a container that names none; "" on a host without.
	AppArmor string
	// DeniedCapabilities are what no container has, whatever it asks for, a privileged
	// one neither; without CAP_.
	DeniedCapabilities []string
	// UnifiedCgroups says that the host has cgroup v2 alone: the container
	// then has a cgroup namespace of its own unless told otherwise.
	UnifiedCgroups bool
}

// Spec makes the specification. Errors are errdefs.ErrInvalidArgument.
func Spec(c Container) (*specs.Spec, error) {
	caps, err := capabilities(c.HostConfig, c.DeniedCapabilities)
	if err != nil {
		return nil, err
	}
	limits, err := resources(c.HostConfig)
	if err != nil {
		return nil, err
	}
	limits.Devices = append(limits.Devices, c.Devices.Rules...)
	limits.BlockIO = blockIO(c)
	s := &specs.Spec{
		Version:     "1.0.2", // what runc 1.1 knows
		Root:        &specs.Root{Path: "rootfs", Readonly: c.HostConfig.ReadonlyRootfs},
		Hostname:    c.Hostname,
		Annotations: c.HostConfig.Annotations,
		Linux: &specs.Linux{
			CgroupsPath: CgroupsPath(c.HostConfig, c.ID),
			Namespaces:  namespaces(c),
			Resources:   limits,
			Devices:     c.Devices.Nodes,
			Sysctl:      sysctls(c),

			RootfsPropagation: c.RootPropagation,
		},
	}
	s.Process = process(c, caps)
	s.Mounts = place(append(systemMounts(c), fileMounts(c)...), c.Mounts)
	if err := security(s, c); err != nil {
		return nil, err
	}
	if c.Domainname != "" && c.Hostname != "" {
		if s.Linux.Sysctl == nil {
			s.Linux.Sysctl = make(map[string]string)
		}
		// runc 1.1 has no domain name of its own; see uname(2).
		s.Linux.Sysctl["kernel.domainname"] = c.Domainname
	}
	return s, checkLengths(s)
}

// CgroupsPath is the container's control group below the mount of each controller.
func CgroupsPath(h *container.HostConfig, id string) string {
	parent := cgroupParent
	if p := h.CgroupParent; p != "" {
		parent = path.Join("/", p)
	}
	return path.Join(parent, id)
}

func namespaces(c Container) []specs.LinuxNamespace {
	out := []specs.LinuxNamespace{
		{Type: specs.MountNamespace},
		{Type: specs.NetworkNamespace, Path: c.NetworkNamespace},
	}
	h := c.HostConfig
	if !h.PidMode.IsHost() {
		out = append(out, specs.LinuxNamespace{Type: specs.PIDNamespace, Path: c.PIDNamespace})
	}
	if !h.IpcMode.IsHost() {
		out = append(out, specs.LinuxNamespace{Type: specs.IPCNamespace, Path: c.IPCNamespace})
	}
	if !h.UTSMode.IsHost() {
		out = append(out, specs.LinuxNamespace{Type: specs.UTSNamespace})
	}
	if h.CgroupnsMode.IsPrivate() || (h.CgroupnsMode.IsEmpty() && c.UnifiedCgroups && !h.Privileged) {
		out = append(out, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return out
}

// sysctls are the user's, and in a network namespace of the container's own
// Docker's two: any port may be bound and any group may ping, for within a
// namespace neither is a privilege of the host's.
func sysctls(c Container) map[string]string {
	out := maps.Clone(c.Sysctls)
	// A privileged container needs neither, unless it has no raw sockets.
	if !c.OwnNetwork || c.HostConfig.Privileged && !slices.Contains(c.DeniedCapabilities, netRaw) {
		return out
	}
	if out == nil {
		out = make(map[string]string)
	}
	for key, value := range map[string]string{
		"net.ipv4.ip_unprivileged_port_start": "0",
		"net.ipv4.ping_group_range":           "0 2147483647",
	} {
		// What the user asks for is set when the namespace is made.
		_, dots := c.HostConfig.Sysctls[key]
		_, slashes := c.HostConfig.Sysctls[strings.ReplaceAll(key, ".", "/")]
		if !dots && !slashes {
			out[key] = value
		}
	}
	return out
}

// fileMounts are as writable as the root that they are mounted over.
func fileMounts(c Container) []specs.Mount {
	var out []specs.Mount
	for _, dst := range slices.Sorted(maps.Keys(c.Files)) {
		m := specs.Mount{Destination: dst, Source: c.Files[dst], Type: "bind", Options: []string{"rbind", "rprivate"}}
		if c.HostConfig.ReadonlyRootfs {
			m.Options = append(m.Options, "ro")
		}
		out = append(out, m)
	}
	return out
}

// place puts the user's mounts after the system's, replacing those at the same
// place, shallow ones first so that none hides a deeper one.
func place(system, user []specs.Mount) []specs.Mount {
	taken := make(map[string]bool)
	for _, m := range user {
		taken[m.Destination] = true
	}
	out := slices.DeleteFunc(system, func(m specs.Mount) bool {
		// A /dev of the user's brings its own of everything.
		return taken[m.Destination] || taken["/dev"] && strings.HasPrefix(m.Destination, "/dev/")
	})
	slices.SortStableFunc(user, func(a, b specs.Mount) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	return append(out, user...)
}
