package oci

import (
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// DefaultPath is a container's PATH unless its image says otherwise.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// DefaultShm is the size of /dev/shm in bytes where nobody says otherwise, as
// Docker's.
const DefaultShm = 64 << 20

// Paths of /proc and /sys that tell of the machine or change it, as Docker's.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/devices/virtual/powercap", "/sys/firmware",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// systemMounts are those of every container.
func systemMounts(c Container) []specs.Mount {
	h := c.HostConfig
	mode, groups := "ro", "ro"
	if h.Privileged {
		mode, groups = "rw", "rw"
	}
	if on(h, "writable-cgroups") {
		groups = "rw"
	}
	out := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", mode}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", groups}},
	}
	// In the host's IPC namespace these are the host's, mounted there or not: a namespace has
	// one set of queues (mq_overview(7)).
	out = append(out, specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}})
	if h.IpcMode.IsHost() {
		return append(out, specs.Mount{Destination: "/dev/shm", Type: "bind", Source: "/dev/shm", Options: []string{"rbind", "nosuid", "noexec", "nodev"}})
	}
	switch {
	case h.IpcMode.IsNone():
	case c.Shm != "":
		out = append(out, specs.Mount{Destination: "/dev/shm", Type: "bind", Source: c.Shm, Options: []string{"rbind", "rprivate", "nosuid", "noexec", "nodev"}})
	default:
		out = append(out, specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: ShmOptions(h)})
	}
	return out
}

// ShmOptions are those of the file system at /dev/shm.
func ShmOptions(h *container.HostConfig) []string {
	shm := h.ShmSize
	if shm == 0 {
		shm = DefaultShm
	}
	return []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(shm, 10)}
}

// HiddenPaths are what a container without privileges sees nothing of, and what it
// cannot write to, unless it is told otherwise.
func HiddenPaths() (masked, readonly []string) {
	return slices.Clone(maskedPaths), slices.Clone(readonlyPaths)
}
