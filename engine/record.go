package engine

import (
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// Record is what is stored of a container: what was asked for, and how its last
// run went. Everything else is derived, or containerd's.
type Record struct {
	// ID is 64 lower-case hex digits, random.
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	// Config is the request's with what the image adds to it.
	Config     *container.Config     `json:"config"`
	HostConfig *container.HostConfig `json:"host_config"`
	// Endpoints are the wanted attachments by network name, as they were asked for;
	// a container that is on none starts on that of its mode. The map is replaced,
	// never changed: readers hold copies of the record.
	Endpoints map[string]*network.EndpointSettings `json:"endpoints"`
	// Links are those on the default network. The slice is replaced, never changed.
	Links []Link `json:"links,omitempty"`
	// ImageID is the digest of the image, ImageName its name at the time.
	ImageID   string `json:"image_id"`
	ImageName string `json:"image_name"`
	State     State  `json:"state"`
}

// State is how a container is.
type State struct {
	Running bool `json:"running,omitempty"`
	// PID of the first process; containerd is asked for it after a restart.
	PID        int       `json:"-"`
	ExitCode   int       `json:"exit_code"`
	Error      string    `json:"error,omitempty"`
	StartedAt  time.Time `json:"started_at,omitzero"`
	FinishedAt time.Time `json:"finished_at,omitzero"`
	// Sandbox is the ID of the sandbox that a running container is in, "" for the
	// host's network.
	Sandbox string `json:"sandbox,omitempty"`
	// Removing is set while the container is taken away.
	Removing bool `json:"-"`
}

// Status is Docker's word for the state.
func (s State) Status() container.ContainerState {
	switch {
	case s.Removing:
		return container.StateRemoving
	case s.Running:
		return container.StateRunning
	case s.StartedAt.IsZero() && s.FinishedAt.IsZero():
		return container.StateCreated
	}
	return container.StateExited
}

// args is the command line: the entrypoint, then the command.
func (r Record) args() []string {
	return append(append([]string(nil), r.Config.Entrypoint...), r.Config.Cmd...)
}

// ownNetwork says whether the container has a sandbox of its own, rather than
// the host's or another container's.
func (r Record) ownNetwork() bool {
	m := r.HostConfig.NetworkMode
	return !m.IsHost() && !m.IsContainer()
}
