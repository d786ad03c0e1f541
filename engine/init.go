package engine

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// initInside is where a container finds its init, as in Docker.
const initInside = "/sbin/docker-init"

// initNames are the programs that may be one: static, so that every container can
// run them.
var initNames = []string{
	"docker-init", "/usr/libexec/docker/docker-init", "/usr/local/libexec/docker/docker-init", "tini-static",
}

// wantsInit says whether an init is to be the container's first process. In another's
// process namespace it would not be that.
func (e *Engine) wantsInit(h *container.HostConfig) bool {
	if h.PidMode.IsHost() || h.PidMode.IsContainer() {
		return false
	}
	if h.Init != nil {
		return *h.Init
	}
	return e.cfg.Init
}

// initPath is the init on the host.
func (e *Engine) initPath() (string, error) {
	names := initNames
	if e.cfg.InitPath != "" {
		names = []string{e.cfg.InitPath}
	}
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil && !filepath.IsAbs(name) {
			path, err = exec.LookPath(filepath.Join("/usr/bin", name)) // whatever the daemon's PATH is
		}
		if err != nil {
			continue
		}
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	if e.cfg.InitPath != "" {
		return "", fmt.Errorf("there is no init at %s, which --init-path names: %w", e.cfg.InitPath, errdefs.ErrInvalidArgument)
	}
	return "", fmt.Errorf("--init needs an init on the host, docker-init or tini-static: install it (Debian: apt install tini) or give the daemon --init-path: %w",
		errdefs.ErrInvalidArgument)
}

// addInit makes the init the first process, and the command its only child.
func (e *Engine) addInit(s *specs.Spec, h *container.HostConfig) error {
	if !e.wantsInit(h) {
		return nil
	}
	path, err := e.initPath()
	if err != nil {
		return err
	}
	s.Process.Args = append([]string{initInside, "--"}, s.Process.Args...)
	s.Mounts = append(s.Mounts, specs.Mount{Destination: initInside, Type: "bind", Source: path, Options: []string{"bind", "ro"}})
	return nil
}
