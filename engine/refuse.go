package engine

import (
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/engine/files"
	"github.com/fairlead/fairlead/engine/oci"
)

// refuse turns down what is asked for and not supported, by its name in the API:
// nothing is ignored in silence.
func refuse(c *container.Config, h *container.HostConfig) error {
	r := h.Resources
	for _, x := range []struct {
		name  string
		asked bool
	}{
		{"HostConfig.StorageOpt", len(h.StorageOpt) > 0},
		{"HostConfig.Umask", h.Umask != nil},
		{"HostConfig.Cgroup", h.Cgroup != ""},
		{"HostConfig.IpcMode", !slices.Contains([]container.IpcMode{"", container.IPCModePrivate, container.IPCModeShareable, container.IPCModeHost}, h.IpcMode)},
		{"HostConfig.PidMode", h.PidMode != "" && h.PidMode != "private" && !h.PidMode.IsHost()},
		{"HostConfig.Devices", len(r.Devices) > 0},
		{"HostConfig.DeviceCgroupRules", len(r.DeviceCgroupRules) > 0},
		{"HostConfig.DeviceRequests", len(r.DeviceRequests) > 0},
		{"HostConfig.Blkio*", r.BlkioWeight != 0 || len(r.BlkioWeightDevice)+len(r.BlkioDeviceReadBps)+len(r.BlkioDeviceWriteBps)+
			len(r.BlkioDeviceReadIOps)+len(r.BlkioDeviceWriteIOps) > 0},
		{"HostConfig.CpuRealtime*", r.CPURealtimePeriod != 0 || r.CPURealtimeRuntime != 0},
		{"HostConfig.CpuCount, CpuPercent or IOMaximum*", r.CPUCount != 0 || r.CPUPercent != 0 || r.IOMaximumIOps != 0 || r.IOMaximumBandwidth != 0},
		{"HostConfig.MemorySwappiness", r.MemorySwappiness != nil && *r.MemorySwappiness != -1},
	} {
		if x.asked {
			return fmt.Errorf("%s is not supported: %w", x.name, errdefs.ErrNotImplemented)
		}
	}
	return invalid(c, h)
}

// invalid turns down what cannot be, whatever is supported.
func invalid(c *container.Config, h *container.HostConfig) error {
	if err := checkPolicy(h.RestartPolicy, h.AutoRemove); err != nil {
		return err
	}
	if err := checkHealth(c.Healthcheck); err != nil {
		return err
	}
	if !h.Isolation.IsDefault() {
		return fmt.Errorf("invalid isolation %q on linux: %w", h.Isolation, errdefs.ErrInvalidArgument)
	}
	if !slices.Contains([]string{"", "runc", "io.containerd.runc.v2"}, h.Runtime) {
		return fmt.Errorf("unknown or invalid runtime name: %s: %w", h.Runtime, errdefs.ErrInvalidArgument)
	}
	if !h.UTSMode.Valid() || !h.UsernsMode.Valid() || !h.CgroupnsMode.Valid() {
		return fmt.Errorf("invalid UTS, user or cgroup namespace mode: %w", errdefs.ErrInvalidArgument)
	}
	if h.ShmSize < 0 {
		return fmt.Errorf("SHM size can not be less than 0: %w", errdefs.ErrInvalidArgument)
	}
	if h.OomScoreAdj < -1000 || h.OomScoreAdj > 1000 {
		return fmt.Errorf("invalid value %d, range for oom score adj is [-1000, 1000]: %w", h.OomScoreAdj, errdefs.ErrInvalidArgument)
	}
	if c.WorkingDir != "" && c.WorkingDir[0] != '/' {
		return fmt.Errorf("the working directory '%s' is invalid, it needs to be an absolute path: %w", c.WorkingDir, errdefs.ErrInvalidArgument)
	}
	if c.StopSignal != "" {
		if _, err := parseSignal(c.StopSignal); err != nil {
			return err
		}
	}
	for _, kv := range c.Env {
		if kv == "" || kv[0] == '=' {
			return fmt.Errorf("invalid environment variable: %s: %w", kv, errdefs.ErrInvalidArgument)
		}
	}
	if err := (files.Resolver{Servers: h.DNS, Search: h.DNSSearch, Options: h.DNSOptions}).Check(); err != nil {
		return err
	}
	if err := joinsContainer(c, h); err != nil {
		return err
	}
	if h.NetworkMode.IsHost() || h.NetworkMode.IsContainer() {
		for key := range networkSysctls(h.Sysctls) {
			return fmt.Errorf("sysctl %s is not allowed in network mode %s: the network is not the container's own: %w", key, h.NetworkMode, errdefs.ErrInvalidArgument)
		}
	}
	return oci.SecurityOptions(h)
}

// joinsContainer turns down what a container that shares another's network asks for
// and cannot have of its own. Ports that its image exposes are nobody's wish.
func joinsContainer(c *container.Config, h *container.HostConfig) error {
	switch mode := h.NetworkMode; {
	case !mode.IsContainer():
		return nil
	case mode.ConnectedContainer() == "":
		return fmt.Errorf("invalid network mode %q: want container:NAME or container:ID: %w", mode, errdefs.ErrInvalidArgument)
	case len(h.PortBindings) > 0 || h.PublishAllPorts:
		return fmt.Errorf("conflicting options: port publishing and the container type network mode: %w", errdefs.ErrInvalidArgument)
	case len(c.ExposedPorts) > 0:
		return fmt.Errorf("conflicting options: port exposing and the container type network mode: %w", errdefs.ErrInvalidArgument)
	case len(h.DNS) > 0 || len(h.DNSSearch) > 0 || len(h.DNSOptions) > 0:
		return fmt.Errorf("conflicting options: dns and the network mode: %w", errdefs.ErrInvalidArgument)
	case c.Domainname != "":
		return fmt.Errorf("conflicting options: domainname and the network mode: %w", errdefs.ErrInvalidArgument)
	case len(h.ExtraHosts) > 0:
		return fmt.Errorf("conflicting options: custom host-to-IP mapping and the network mode: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}
