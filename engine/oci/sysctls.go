package oci

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
)

// ipcSysctls belong to an IPC namespace, see ipc_namespaces(7).
var ipcSysctls = []string{
	"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
	"fs.mqueue.msg_default", "fs.mqueue.msg_max", "fs.mqueue.msgsize_default", "fs.mqueue.msgsize_max", "fs.mqueue.queues_max",
}

// CheckSysctls refuses those that are not of a namespace that the container has of its
// own. Those of the network, net.…, are left to who makes it.
func CheckSysctls(h *container.HostConfig) error {
	for _, key := range slices.Sorted(maps.Keys(h.Sysctls)) {
		var why string
		switch name := strings.ReplaceAll(key, "/", "."); {
		case strings.HasPrefix(name, "net."):
		case slices.Contains(ipcSysctls, name):
			if h.IpcMode.IsHost() {
				why = "the IPC namespace is the host's"
			}
		case name == "kernel.domainname":
			if h.UTSMode.IsHost() {
				why = "the UTS namespace is the host's"
			}
		case name == "kernel.hostname":
			why = "--hostname (Config.Hostname) sets it"
		default:
			why = "it is not of a namespace, and would be the whole host's"
		}
		if why != "" {
			return fmt.Errorf("sysctl '%s' is not allowed: %s: %w", key, why, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}
