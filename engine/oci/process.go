package oci

import (
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func process(c Container, caps []string) *specs.Process {
	p := &specs.Process{
		Terminal:        c.Config.Tty,
		User:            c.User,
		Args:            c.Args,
		Env:             environment(c),
		Cwd:             c.Config.WorkingDir,
		Capabilities:    capabilitySets(caps, c.User.UID),
		NoNewPrivileges: noNewPrivileges(c.HostConfig),
		Rlimits:         rlimits(c.HostConfig),
	}
	if p.Cwd == "" {
		p.Cwd = "/"
	}
	p.User.Umask = c.HostConfig.Umask
	if score := c.HostConfig.OomScoreAdj; score != 0 {
		p.OOMScoreAdj = &score
	}
	if size := c.HostConfig.ConsoleSize; p.Terminal && size != [2]uint{} {
		p.ConsoleSize = &specs.Box{Height: size[0], Width: size[1]}
	}
	return p
}

// capabilitySets: a process that is not root's gets none of its own but may gain
// what is in its bounding set by a set-user-ID program, as after execve(2).
func capabilitySets(caps []string, uid uint32) *specs.LinuxCapabilities {
	out := &specs.LinuxCapabilities{Bounding: caps}
	if uid == 0 {
		out.Effective, out.Permitted = caps, caps
	}
	return out
}

// environment is Docker's: PATH, HOSTNAME and, on a terminal, TERM, unless the
// image or the user said otherwise.
func environment(c Container) []string {
	base := []string{"PATH=" + DefaultPath}
	if c.Hostname != "" {
		base = append(base, "HOSTNAME="+c.Hostname)
	}
	if c.Config.Tty {
		base = append(base, "TERM=xterm")
	}
	return MergeEnv(MergeEnv(base, c.LinkEnv), c.Config.Env)
}

// MergeEnv returns the environment with the changes: KEY=VALUE sets, KEY alone
// takes away.
func MergeEnv(env, changes []string) []string {
	out, at := slices.Clone(env), make(map[string]int, len(env)+len(changes))
	for i := len(out) - 1; i >= 0; i-- {
		key, _, _ := strings.Cut(out[i], "=")
		at[key] = i // the first of several
	}
	gone := make(map[int]bool)
	for _, change := range changes {
		key, _, set := strings.Cut(change, "=")
		i, there := at[key]
		switch {
		case set && there:
			out[i] = change
		case set:
			at[key] = len(out)
			out = append(out, change)
		case there:
			gone[i] = true
			delete(at, key)
		}
	}
	if len(gone) == 0 {
		return out
	}
	kept := out[:0]
	for i, kv := range out {
		if !gone[i] {
			kept = append(kept, kv)
		}
	}
	return kept
}

func rlimits(h *container.HostConfig) []specs.POSIXRlimit {
	limits := make(map[string]specs.POSIXRlimit)
	for _, u := range h.Ulimits {
		name := "RLIMIT_" + strings.ToUpper(u.Name)
		limits[name] = specs.POSIXRlimit{Type: name, Soft: uint64(u.Soft), Hard: uint64(u.Hard)}
	}
	var out []specs.POSIXRlimit
	for _, name := range slices.Sorted(maps.Keys(limits)) {
		out = append(out, limits[name])
	}
	return out
}

// Exec makes a further process of the running container c, whose specification is s.
func Exec(c Container, s *specs.Spec, req container.ExecCreateRequest, u specs.User) (*specs.Process, error) {
	p, h := *s.Process, c.HostConfig
	p.Terminal, p.Args, p.User = req.Tty, req.Cmd, u
	p.User.Umask = h.Umask
	p.Env = slices.Clone(p.Env)
	if req.Tty {
		p.Env = MergeEnv([]string{"TERM=xterm"}, p.Env)
	}
	p.Env = MergeEnv(p.Env, req.Env)
	if req.WorkingDir != "" {
		p.Cwd = req.WorkingDir
	}
	p.ConsoleSize = nil
	if req.Tty && req.ConsoleSize != nil {
		p.ConsoleSize = &specs.Box{Height: req.ConsoleSize[0], Width: req.ConsoleSize[1]}
	}
	limits := *h
	limits.Privileged = limits.Privileged || req.Privileged
	caps, err := capabilities(&limits, c.DeniedCapabilities)
	if err != nil {
		return nil, err
	}
	p.Capabilities = capabilitySets(caps, u.UID)
	return &p, CheckProcess(p.Args, p.Env, p.Cwd)
}
