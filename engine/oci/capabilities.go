package oci

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"
)

// names of the capabilities by number, see capabilities(7).
var names = []string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
	"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
	"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
	"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
	"CHECKPOINT_RESTORE",
}

// netRaw lets a process make any packet, and hear every frame of its links; ping does
// without where ping_group_range lets its group.
const netRaw = "NET_RAW"

// defaults are Docker's.
var defaults = []string{
	"CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
	"NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
}

// every is each capability that we have ourselves: more cannot be given.
func every() []string {
	var out []string
	for number, name := range names {
		held, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(number), 0, 0, 0)
		if err == nil && held == 1 {
			out = append(out, name)
		}
	}
	return out
}

// capabilities are the container's, with CAP_ before each: all of ours for a
// privileged one, else the defaults with --cap-add and without --cap-drop. ALL
// stands for every one; an addition outweighs a drop of ALL, a drop an addition
// of ALL. Those denied, without CAP_, no container has, a privileged one neither.
func capabilities(h *container.HostConfig, denied []string) ([]string, error) {
	add, addAll, err := words(h.CapAdd)
	if err != nil {
		return nil, err
	}
	drop, dropAll, err := words(h.CapDrop)
	if err != nil {
		return nil, err
	}
	base := defaults
	switch {
	case h.Privileged:
		return prefixed(without(every(), denied)), nil
	case addAll:
		base = every()
	case dropAll:
		base = nil
	}
	var out []string
	for _, name := range names {
		if slices.Contains(add, name) || (slices.Contains(base, name) && !slices.Contains(drop, name)) {
			if slices.Contains(add, name) && slices.Contains(drop, name) {
				continue
			}
			out = append(out, name)
		}
	}
	return prefixed(without(out, denied)), nil
}

func without(list, denied []string) []string {
	return slices.DeleteFunc(list, func(name string) bool { return slices.Contains(denied, name) })
}

// CheckDenied refuses a container that asks by name for a capability that is denied to
// all: it would start and not work. why is the setting that denies it. ALL, and a
// privileged container, are given the others.
func CheckDenied(h *container.HostConfig, denied []string, why string) error {
	add, _, err := words(h.CapAdd)
	if err != nil {
		return err
	}
	for _, name := range add {
		if slices.Contains(denied, name) {
			return fmt.Errorf("--cap-add %s (HostConfig.CapAdd) is refused: %s keeps it from every container: %w", name, why, errdefs.ErrPermissionDenied)
		}
	}
	return nil
}

func words(in []string) (out []string, all bool, err error) {
	for _, w := range in {
		name := strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(w)), "CAP_")
		switch {
		case name == "ALL":
			all = true
		case slices.Contains(names, name):
			out = append(out, name)
		default:
			return nil, false, fmt.Errorf("invalid capability: unknown capability: %q: %w", w, errdefs.ErrInvalidArgument)
		}
	}
	return out, all, nil
}

func prefixed(in []string) []string {
	out := make([]string, len(in))
	for i, name := range in {
		out[i] = "CAP_" + name
	}
	return out
}
