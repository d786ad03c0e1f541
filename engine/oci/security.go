package oci

import (
	"fmt"
	"slices"
	"strings"

	builtin "github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Words of --security-opt.
const (
	unconfined = "unconfined"
	// Builtin is the system call filter that is made here.
	Builtin = "builtin"
)

// security adds what keeps the container from the machine: hidden paths, the system
// call filter and the profile of AppArmor.
func security(s *specs.Spec, c Container) error {
	h := c.HostConfig
	if !h.Privileged && !systemPaths(h) {
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = slices.Clone(maskedPaths), slices.Clone(readonlyPaths)
		if h.MaskedPaths != nil {
			s.Linux.MaskedPaths = h.MaskedPaths
		}
		if h.ReadonlyPaths != nil {
			s.Linux.ReadonlyPaths = h.ReadonlyPaths
		}
	}
	s.Process.ApparmorProfile = appArmor(c)
	profile := option(h, "seccomp")
	switch {
	case profile == unconfined, h.Privileged && (profile == "" || profile == Builtin):
	case profile == "", profile == Builtin:
		s.Linux.Seccomp = filter(s)
	default:
		loaded, err := loadProfile(profile, s)
		if err != nil {
			return err
		}
		s.Linux.Seccomp = loaded
	}
	return nil
}

// filter is containerd's system call filter for the capabilities in the
// specification, without x32: no Debian kernel runs programs of it unless told
// to at boot, and compiling the filter for it takes runc a third of 15 ms.
func filter(s *specs.Spec) *specs.LinuxSeccomp {
	out := builtin.DefaultProfile(s)
	out.Architectures = slices.DeleteFunc(out.Architectures, func(a specs.Arch) bool { return a == specs.ArchX32 })
	return out
}

func appArmor(c Container) string {
	switch profile := option(c.HostConfig, "apparmor"); {
	case profile == unconfined:
		return ""
	case profile != "":
		return profile
	case c.HostConfig.Privileged:
		return ""
	}
	return c.AppArmor
}

// systemPaths says whether what of /proc and /sys is hidden otherwise is to be seen.
func systemPaths(h *container.HostConfig) bool { return option(h, "systempaths") == unconfined }

// AppArmorProfile is the profile that the container names, "" for none.
func AppArmorProfile(h *container.HostConfig) string {
	if profile := option(h, "apparmor"); profile != unconfined {
		return profile
	}
	return ""
}

// SecurityOptions checks the words of --security-opt. What is of a security module that
// is not used here is errdefs.ErrNotImplemented, unless it turns it off.
func SecurityOptions(h *container.HostConfig) error {
	for _, opt := range h.SecurityOpt {
		key, value := cutOption(opt)
		switch key {
		case "no-new-privileges", "writable-cgroups":
			if !slices.Contains([]string{"", "true", "false"}, value) {
				return fmt.Errorf("invalid --security-opt %q: want true or false: %w", opt, errdefs.ErrInvalidArgument)
			}
		case "seccomp":
			if err := checkProfile(value); err != nil {
				return err
			}
		case "apparmor":
			if value == "" || strings.ContainsAny(value, " \t\n") {
				return fmt.Errorf("invalid --security-opt %q: want a profile's name, or unconfined: %w", opt, errdefs.ErrInvalidArgument)
			}
		case "systempaths":
			if value != unconfined {
				return fmt.Errorf("invalid --security-opt %q: want systempaths=unconfined: %w", opt, errdefs.ErrInvalidArgument)
			}
		case "label":
			if value != "disable" {
				return fmt.Errorf("--security-opt %s (HostConfig.SecurityOpt) is not supported: labels of SELinux are not set, and label=disable says so: %w", opt, errdefs.ErrNotImplemented)
			}
		default:
			return fmt.Errorf("invalid --security-opt: %q: %w", opt, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// checkProfile says why a profile in JSON, as clients send it, cannot be loaded.
func checkProfile(text string) error {
	switch text {
	case unconfined, Builtin:
		return nil
	case "":
		return fmt.Errorf("invalid --security-opt seccomp=: want a profile in JSON, builtin or unconfined: %w", errdefs.ErrInvalidArgument)
	}
	if !strings.HasPrefix(strings.TrimSpace(text), "{") {
		return fmt.Errorf("invalid --security-opt seccomp=%.40s: want a profile in JSON, builtin or unconfined; clients read its file themselves: %w", text, errdefs.ErrInvalidArgument)
	}
	// Capabilities and architectures matter to what it says, not to whether it can be read.
	s := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}}
	_, err := loadProfile(text, s)
	return err
}

func cutOption(opt string) (key, value string) {
	if i := strings.IndexAny(opt, "=:"); i >= 0 {
		return opt[:i], opt[i+1:]
	}
	return opt, ""
}

// option is the last value that is given for the word, "" for none.
func option(h *container.HostConfig, word string) (value string) {
	for _, opt := range h.SecurityOpt {
		if key, v := cutOption(opt); key == word {
			value = v
		}
	}
	return value
}

// on says whether a word that stands for true is there, and does not say false.
func on(h *container.HostConfig, word string) (out bool) {
	for _, opt := range h.SecurityOpt {
		if key, v := cutOption(opt); key == word {
			out = v != "false"
		}
	}
	return out
}

func noNewPrivileges(h *container.HostConfig) bool { return on(h, "no-new-privileges") }
