package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/engine/files"
	"github.com/fairlead/fairlead/engine/oci"
)

// refuse turns down what is asked for and not supported, by the flag that people type
// and by its name in the API, with what to do instead: nothing is ignored in silence.
func refuse(c *container.Config, h *container.HostConfig) error {
	r := h.Resources
	for _, x := range []struct {
		asked         bool
		flag, instead string
	}{
		{len(h.StorageOpt) > 0, "--storage-opt (HostConfig.StorageOpt)", "a container has the room of the file system that DATA_ROOT is on; a volume of type tmpfs or on a file system of its own is bounded"},
		{h.Cgroup != "", "HostConfig.Cgroup", "--cgroup-parent puts containers into one control group"},
		{len(r.DeviceRequests) > 0, "--gpus, and --device with a CDI name (HostConfig.DeviceRequests)", "--device=/dev/NAME gives a device, and -v the driver's libraries"},
		{r.CPUCount != 0, "--cpu-count (HostConfig.CpuCount)", "it is Windows'; use --cpus"},
		{r.CPUPercent != 0, "--cpu-percent (HostConfig.CpuPercent)", "it is Windows'; use --cpus"},
		{r.IOMaximumIOps != 0, "--io-maxiops (HostConfig.IOMaximumIOps)", "it is Windows'; use --device-read-iops and --device-write-iops"},
		{r.IOMaximumBandwidth != 0, "--io-maxbandwidth (HostConfig.IOMaximumBandwidth)", "it is Windows'; use --device-read-bps and --device-write-bps"},
		{c.NetworkDisabled, "Config.NetworkDisabled", "--network none is a container without a network"},
	} {
		if x.asked {
			return fmt.Errorf("%s is not supported: %s: %w", x.flag, x.instead, errdefs.ErrNotImplemented)
		}
	}
	return invalid(c, h)
}

// namespaceModes turns down what is no mode.
func namespaceModes(h *container.HostConfig) error {
	for _, m := range []struct {
		flag, value string
		valid       bool
	}{
		{"--ipc", string(h.IpcMode), h.IpcMode == "" || h.IpcMode.Valid() && h.IpcMode != "container:"},
		{"--pid", string(h.PidMode), h.PidMode == "private" || h.PidMode.Valid() && h.PidMode != "container:"},
		{"--uts", string(h.UTSMode), h.UTSMode.Valid()},
		{"--userns", string(h.UsernsMode), h.UsernsMode.Valid()},
		{"--cgroupns", string(h.CgroupnsMode), h.CgroupnsMode.Valid()},
	} {
		if !m.valid {
			return fmt.Errorf("invalid namespace mode: %s %q: %w", m.flag, m.value, errdefs.ErrInvalidArgument)
		}
	}
	if h.Umask != nil && *h.Umask > 0o777 {
		return fmt.Errorf("invalid umask %o: want at most 777: %w", *h.Umask, errdefs.ErrInvalidArgument)
	}
	return nil
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
	if err := namespaceModes(h); err != nil {
		return err
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
	if p := h.CgroupParent; strings.ContainsFunc(p, unicode.IsControl) || slices.Contains(strings.Split(p, "/"), "..") {
		return fmt.Errorf("invalid --cgroup-parent %q: it has control characters, or leads upwards: %w", p, errdefs.ErrInvalidArgument)
	}
	if strings.ContainsFunc(c.User, unicode.IsControl) {
		return fmt.Errorf("invalid user %q: it has control characters: %w", c.User, errdefs.ErrInvalidArgument)
	}
	return errors.Join(oci.CheckSysctls(h), oci.SecurityOptions(h))
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
