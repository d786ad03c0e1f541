package api

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/system"
)

// ping answers with the headers that clients negotiate a version by.
func (s *server) ping(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Swarm", "inactive")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if r.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		return nil
	}
	_, _ = io.WriteString(w, "OK")
	return nil
}

func (s *server) version(w http.ResponseWriter, r *http.Request) error {
	kernel := kernelVersion()
	v := system.VersionResponse{
		Platform:   system.PlatformInfo{Name: "Fairlead"},
		Version:    s.options.Version,
		APIVersion: MaxVersion, MinAPIVersion: MinVersion,
		Os: runtime.GOOS, Arch: runtime.GOARCH,
		GitCommit: s.options.Commit, GoVersion: runtime.Version(), KernelVersion: kernel,
	}
	v.BuildTime = buildTime()
	v.Components = []system.ComponentVersion{{
		// Docker's clients look for the component of this name.
		Name: "Engine", Version: v.Version,
		Details: map[string]string{
			"ApiVersion": v.APIVersion, "MinAPIVersion": v.MinAPIVersion, "Os": v.Os, "Arch": v.Arch,
			"GitCommit": v.GitCommit, "GoVersion": v.GoVersion, "KernelVersion": kernel, "Experimental": "false", "BuildTime": v.BuildTime,
		},
	}}
	v.Components = append(v.Components, s.engine.Components(r.Context())...)
	writeJSON(w, http.StatusOK, v)
	return nil
}

// buildTime is when what the program was built from was committed, in Docker's form;
// "" where that is not known.
func buildTime() string {
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return ""
	}
	for _, setting := range info.Settings {
		if setting.Key != "vcs.time" {
			continue
		}
		if t, err := time.Parse(time.RFC3339, setting.Value); err == nil {
			return t.UTC().Format("2006-01-02T15:04:05.000000000-07:00")
		}
	}
	return ""
}

func kernelVersion() string {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "" // shown to people alone
	}
	return strings.TrimSpace(string(text))
}

func (s *server) info(w http.ResponseWriter, r *http.Request) error {
	info, err := s.engine.Info(r.Context())
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, reshape(versionOf(r), info, append(expected(info), infoFields...)))
	return nil
}

// expected are the versions that a daemon wants its programs to have, for clients below
// 1.49: those that they have, as otherwise old clients show the difference.
func expected(info system.Info) []field {
	var out []field
	for name, commit := range map[string]system.Commit{
		"ContainerdCommit": info.ContainerdCommit, "RuncCommit": info.RuncCommit, "InitCommit": info.InitCommit,
	} {
		id, _ := json.Marshal(commit.ID) // a text
		out = append(out, field{path: name + ".Expected", to: 48, missing: id})
	}
	return out
}

// check answers GET /fairlead/v1/debug/check.
func (s *server) check(w http.ResponseWriter, r *http.Request) error {
	differences, err := s.engine.Check(r.Context())
	if err != nil {
		return err
	}
	if differences == nil {
		differences = []string{}
	}
	writeJSON(w, http.StatusOK, struct {
		Differences []string `json:"differences"`
	}{differences})
	return nil
}

// teardown answers POST /fairlead/v1/system/teardown.
func (s *server) teardown(w http.ResponseWriter, r *http.Request) error {
	if s.options.Teardown == nil {
		return fmt.Errorf("this daemon cannot be taken down by its API: %w", errdefs.ErrNotImplemented)
	}
	if err := s.options.Teardown(r.Context()); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
