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
		if err := CheckSysctl(key, h.Sysctls[key]); err != nil {
			return err
		}
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

// CheckSysctl refuses what names no parameter, and a value that is no line of its own:
// both lead to a file of the kernel's.
func CheckSysctl(key, value string) error {
	parts := strings.FieldsFunc(key, func(c rune) bool { return c == '.' || c == '/' })
	plain := !strings.ContainsFunc(key, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("_-./@", c)
	})
	if !plain || slices.ContainsFunc(parts, func(p string) bool { return p[0] == '-' }) || len(key) > 255 || len(parts) < 2 || strings.Contains(key, "..") || strings.Contains(key, "./") || strings.Contains(key, "//") {
		return fmt.Errorf("invalid sysctl %.300q: want a key such as net.ipv4.ip_forward: %w", key, errdefs.ErrInvalidArgument)
	}
	if len(value) > 4096 || strings.ContainsFunc(value, func(c rune) bool {
		return c > '~' || c < ' ' && c != '\t' || strings.ContainsRune("\"'`$;&|<>(){}[]#\\*?!", c)
	}) {
		return fmt.Errorf("sysctl %s: invalid value %.300q: want a line of numbers or words: %w", key, value, errdefs.ErrInvalidArgument)
	}
	return nil
}
