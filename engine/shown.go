package engine

import (
	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/engine/oci"
)

// shownHostConfig is the container's as clients read it: with its links, which are
// kept apart, and with what holds where nothing was asked for.
func (e *Engine) shownHostConfig(r Record) *container.HostConfig {
	h := *r.HostConfig
	h.Links = e.shownLinks(r)
	if h.Runtime == "" {
		h.Runtime = "runc"
	}
	// Records of earlier builds may not say what was meant.
	if h.RestartPolicy.Name == "" {
		h.RestartPolicy.Name = container.RestartPolicyDisabled
	}
	if h.ShmSize == 0 {
		h.ShmSize = oci.DefaultShm
	}
	if h.IpcMode == "" {
		h.IpcMode = container.IPCModePrivate
	}
	if h.CgroupnsMode == "" {
		h.CgroupnsMode = container.CgroupnsModeHost
		if e.unified && !h.Privileged {
			h.CgroupnsMode = container.CgroupnsModePrivate
		}
	}
	if !h.Privileged {
		masked, readonly := oci.HiddenPaths()
		if h.MaskedPaths == nil {
			h.MaskedPaths = masked
		}
		if h.ReadonlyPaths == nil {
			h.ReadonlyPaths = readonly
		}
	}
	// Clients say so for "no limit".
	if h.MemorySwappiness != nil && *h.MemorySwappiness == -1 {
		h.MemorySwappiness = nil
	}
	if h.PidsLimit != nil && *h.PidsLimit == 0 {
		h.PidsLimit = nil
	}
	return &h
}

// shownConfig is the container's configuration without the empty lists that clients
// send.
func shownConfig(c *container.Config) *container.Config {
	out := *c
	if len(out.Volumes) == 0 {
		out.Volumes = nil
	}
	if len(out.Env) == 0 {
		out.Env = nil
	}
	return &out
}
