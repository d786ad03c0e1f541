package engine

import (
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/engine/oci"
)

// record fills in what a container's own configuration shows of the daemon's
// defaults, as Docker's does.
func (d Defaults) record(h *container.HostConfig) {
	if h.ShmSize == 0 {
		h.ShmSize = d.ShmSize
	}
	if h.IpcMode == "" {
		h.IpcMode = d.IpcMode
	}
	if h.CgroupnsMode == "" && !h.Privileged {
		h.CgroupnsMode = d.CgroupnsMode
	}
}

// atRun is the configuration to run a container by: with the defaults that are
// looked up whenever it starts, and that its own configuration does not show.
func (d Defaults) atRun(h *container.HostConfig) *container.HostConfig {
	out := *h
	out.Ulimits = slices.Clone(h.Ulimits)
	for _, limit := range d.Ulimits {
		if !slices.ContainsFunc(h.Ulimits, func(own *container.Ulimit) bool { return own.Name == limit.Name }) {
			out.Ulimits = append(out.Ulimits, limit)
		}
	}
	if out.CgroupParent == "" {
		out.CgroupParent = d.CgroupParent
	}
	out.SecurityOpt = slices.Clone(h.SecurityOpt)
	says := func(option string) bool {
		return slices.ContainsFunc(h.SecurityOpt, func(o string) bool {
			rest, found := strings.CutPrefix(o, option)
			return found && (rest == "" || rest[0] == '=' || rest[0] == ':')
		})
	}
	if d.NoNewPrivileges && !says("no-new-privileges") {
		out.SecurityOpt = append(out.SecurityOpt, "no-new-privileges")
	}
	if d.SeccompProfile != "" && !h.Privileged && !says("seccomp") {
		out.SecurityOpt = append(out.SecurityOpt, "seccomp="+d.SeccompProfile)
	}
	return &out
}

// deniedCapabilities are what no container has, without CAP_.
func (d Defaults) deniedCapabilities() []string {
	if d.NoNetRaw {
		return []string{"NET_RAW"}
	}
	return nil
}

// checkDenied refuses a container that asks for one of those by name.
func (d Defaults) checkDenied(h *container.HostConfig) error {
	return oci.CheckDenied(h, d.deniedCapabilities(), "the daemon's --no-net-raw")
}

// deniedWarnings tell those who asked for everything what they do not get.
func (d Defaults) deniedWarnings(h *container.HostConfig) []string {
	all := slices.ContainsFunc(h.CapAdd, func(name string) bool { return strings.EqualFold(strings.TrimSpace(name), "ALL") })
	if !d.NoNetRaw || !h.Privileged && !all {
		return nil
	}
	return []string{"The container gets every capability but CAP_NET_RAW, which the daemon's --no-net-raw keeps from all"}
}
