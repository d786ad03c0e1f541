package engine

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/moby/moby/api/types/system"

	"github.com/fairlead/fairlead/engine/runtime"
)

// defaultInit is the init that Docker names where nobody names another.
const defaultInit = "docker-init"

// Components are the programs that containers are run with, with their versions. One
// that is not installed is left out.
func (e *Engine) Components(ctx context.Context) []system.ComponentVersion {
	var out []system.ComponentVersion
	add := func(name, version, commit string) {
		if version != "" {
			out = append(out, system.ComponentVersion{Name: name, Version: version, Details: map[string]string{"GitCommit": commit}})
		}
	}
	if version, err := e.rt.Version(ctx); err == nil {
		add("containerd", version, "")
	}
	if version, err := runtime.RuncVersion(ctx); err == nil {
		add("runc", version, "")
	}
	version, commit := e.initVersion(ctx)
	add(defaultInit, version, commit)
	return out
}

// initVersion is the version and the commit of the init for containers that want one,
// "" where there is none.
func (e *Engine) initVersion(ctx context.Context) (version, commit string) {
	path, err := e.initPath()
	if err != nil {
		return "", ""
	}
	text, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", ""
	}
	return parseInitVersion(string(text))
}

// parseInitVersion reads "tini version 0.19.0 - git.de40ad0".
func parseInitVersion(text string) (version, commit string) {
	line, _, _ := strings.Cut(text, "\n")
	line = strings.TrimPrefix(strings.TrimSpace(line), "tini version ")
	version, commit, _ = strings.Cut(line, " - ")
	return version, strings.TrimPrefix(commit, "git.")
}

// initBinary is the name of the init as `info` shows it.
func (e *Engine) initBinary() string {
	if e.cfg.InitPath != "" {
		return filepath.Base(e.cfg.InitPath)
	}
	return defaultInit
}
