package engine

import (
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
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
	// Mounts are the volumes, binds and tmpfs of the container, in the order of their
	// destinations, as inspect shows them. The slice is replaced, never changed.
	Mounts []container.MountPoint `json:"mounts,omitempty"`
	// MountSpecs are what was asked for of each of Mounts, in the form of --mount.
	MountSpecs []mount.Mount `json:"mount_specs,omitempty"`
	// ImageID is the digest of the image, ImageName its name at the time.
	ImageID   string `json:"image_id"`
	ImageName string `json:"image_name"`
	State     State  `json:"state"`
	// Revision is the number of the record's writing, see ledger.
	Revision uint64 `json:"revision,omitempty"`
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
	// Paused is true while the processes of a running container are frozen.
	Paused bool `json:"paused,omitempty"`
	// Restarting is true from the end of a run to the start that the restart policy
	// asks for. Running is false then; see Alive.
	Restarting bool `json:"restarting,omitempty"`
	// RestartCount counts the starts by the restart policy since the last by hand.
	RestartCount int `json:"restart_count,omitempty"`
	// StoppedByHand keeps the restart policy from starting the container again.
	StoppedByHand bool `json:"stopped_by_hand,omitempty"`
	// OOMKilled says that the kernel ended the last run for want of memory.
	OOMKilled bool `json:"oom_killed,omitempty"`
	// Health is what the health check found; nil where there is none. It is
	// replaced, never changed.
	Health *container.Health `json:"health,omitempty"`
}

// Alive says whether the container runs or is about to again: to its clients, both
// are running.
func (s State) Alive() bool { return s.Running || s.Restarting }

// Status is Docker's word for the state.
func (s State) Status() container.ContainerState {
	switch {
	case s.Removing:
		return container.StateRemoving
	case s.Restarting:
		return container.StateRestarting
	case s.Paused:
		return container.StatePaused
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
