package api

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"

	"github.com/fairlead/fairlead/engine"
)

// Engine is all that is served. References (ref) are a name, an ID or the unique
// start of one. Errors wrap the sentinels of github.com/containerd/errdefs.
type Engine interface {
	Containers
	Lifecycle
	Changes
	Streams
	Execs
	Images
	ImageRemovals
	ImageSources
	ImageRegistries
	Networks
	Volumes
	Connections
	Events
	System
	Healing
	Plans
	Archives
	Monitors
	Differences
}

// Containers are made, looked at and removed.
type Containers interface {
	Create(ctx context.Context, request engine.CreateRequest) (container.CreateResponse, error)
	List(ctx context.Context, options engine.ListOptions) ([]container.Summary, error)
	Inspect(ctx context.Context, ref string, size bool) (container.InspectResponse, error)
	Rename(ctx context.Context, ref, name string) error
	Remove(ctx context.Context, ref string, options engine.RemoveOptions) error
}

// Lifecycle starts and stops containers.
type Lifecycle interface {
	Start(ctx context.Context, ref string) error
	Stop(ctx context.Context, ref string, options engine.StopOptions) error
	Restart(ctx context.Context, ref string, options engine.StopOptions) error
	Kill(ctx context.Context, ref, signal string) error
	// Wait has registered the wait when it returns: no later exit is missed.
	// The channel yields one answer, or none if ctx ends first.
	Wait(ctx context.Context, ref string, condition container.WaitCondition) (<-chan container.WaitResponse, error)
}

// Changes are what may change of a container while it runs.
type Changes interface {
	Pause(ctx context.Context, ref string) error
	Unpause(ctx context.Context, ref string) error
	// Update gives it the limits that are not zero, and a restart policy that has a
	// name.
	Update(ctx context.Context, ref string, request container.UpdateConfig) (container.UpdateResponse, error)
}

// Streams are containers' input and output.
type Streams interface {
	// Terminal says whether the container has one: its output is then one raw
	// stream.
	Terminal(ref string) (bool, error)
	// CanAttach refuses a container that nobody can be attached to now.
	CanAttach(ref string) error
	// Attach passes the client's connection on to whoever serves it; ours may
	// be closed when it returns.
	Attach(ctx context.Context, ref string, options engine.AttachOptions, conn *os.File) error
	// Logs calls emit for each line, as the container wrote it, with the time
	// (RFC 3339, nine digits) and a space before it where asked for.
	Logs(ctx context.Context, ref string, options engine.LogsOptions, emit func(stream string, t time.Time, line []byte) error) error
	Resize(ctx context.Context, ref string, height, width uint) error
}

// Execs are further commands in running containers.
type Execs interface {
	ExecCreate(ctx context.Context, ref string, request container.ExecCreateRequest) (id string, err error)
	// ExecStart passes the client's connection on, as Attach does; conn is nil
	// for a detached exec.
	ExecStart(ctx context.Context, id string, options engine.ExecStartOptions, conn *os.File) error
	ExecInspect(ctx context.Context, id string) (container.ExecInspectResponse, error)
	ExecResize(ctx context.Context, id string, height, width uint) error
}

// Images are listed, looked at, named and removed.
type Images interface {
	ImageList(ctx context.Context, options engine.ImageListOptions) ([]image.Summary, error)
	ImageInspect(ctx context.Context, ref string, options engine.ImageInspectOptions) (image.InspectResponse, error)
	// ImageHistory tells how an image came about, the latest first.
	ImageHistory(ctx context.Context, ref, platform string) ([]image.HistoryResponseItem, error)
	ImageTag(ctx context.Context, ref, target string) error
}

// ImageRemovals take images away.
type ImageRemovals interface {
	ImageRemove(ctx context.Context, ref string, force bool) ([]image.DeleteResponse, error)
	// ImagePrune removes those that nobody uses.
	ImagePrune(ctx context.Context, filters map[string][]string) (image.PruneReport, error)
}

// ImageRegistries are where images are pulled from and pushed to.
type ImageRegistries interface {
	// ImagePull tells its progress to the request's function as it goes on.
	ImagePull(ctx context.Context, request engine.PullRequest) error
	ImagePush(ctx context.Context, request engine.PushRequest) error
	// Login returns a token to use instead of the password, or "".
	Login(ctx context.Context, auth registry.AuthConfig) (token string, err error)
	DistributionInspect(ctx context.Context, ref string, auth registry.AuthConfig) (registry.DistributionInspect, error)
}

// ImageSources are archives that images come from and go to.
type ImageSources interface {
	ImageLoad(ctx context.Context, request engine.LoadRequest) error
	// ImageSave writes nothing where an image is not there.
	ImageSave(ctx context.Context, refs []string, platform string, to io.Writer) error
	// ImageImport makes an image of a root file system.
	ImageImport(ctx context.Context, archive io.Reader, ref string, changes []string, message, platform string) (id string, err error)
	// ImageDownload opens what a URL has, to be imported.
	ImageDownload(ctx context.Context, source string, progress func(jsonstream.Message)) (io.ReadCloser, error)
}

// Volumes are made, looked at and removed.
type Volumes interface {
	VolumeCreate(ctx context.Context, request volume.CreateRequest) (volume.Volume, error)
	VolumeList(ctx context.Context, filters map[string][]string) ([]volume.Volume, error)
	VolumeInspect(ctx context.Context, name string) (volume.Volume, error)
	VolumeRemove(ctx context.Context, name string, force bool) error
	// VolumePrune removes the volumes that no container has: the anonymous ones, or
	// with the filter all all of them.
	VolumePrune(ctx context.Context, filters map[string][]string) (volume.PruneReport, error)
}

// Networks are made, looked at and removed.
type Networks interface {
	NetworkCreate(ctx context.Context, request network.CreateRequest) (network.CreateResponse, error)
	NetworkList(ctx context.Context, filters map[string][]string) ([]network.Inspect, error)
	NetworkInspect(ctx context.Context, ref string) (network.Inspect, error)
	NetworkRemove(ctx context.Context, ref string) error
}

// Connections are who is on which network.
type Connections interface {
	NetworkConnect(ctx context.Context, ref string, request network.ConnectRequest) error
	NetworkDisconnect(ctx context.Context, ref, container string, force bool) error
	// NetworkPrune removes the networks that nobody is on.
	NetworkPrune(ctx context.Context, filters map[string][]string) (network.PruneReport, error)
}

// Events are what happens.
type Events interface {
	// Events hands over what happens until ctx ends, or until the time asked for. tell
	// is called first as soon as nothing that happens can be missed any more, maybe
	// with nothing; it may keep the messages, but not change what they point to.
	Events(ctx context.Context, options engine.EventsOptions, tell func([]events.Message) error) error
}

// System is the daemon and its host.
type System interface {
	Info(ctx context.Context) (system.Info, error)
	// Components are the programs that the daemon runs containers with.
	Components(ctx context.Context) []system.ComponentVersion
	// Check returns every difference between the wanted state and the
	// kernel's, one line each; none is a nil slice.
	Check(ctx context.Context) ([]string, error)
}

// Healing puts back what other programs change of the network.
type Healing interface {
	// PauseHealing leaves it as it is until ResumeHealing.
	PauseHealing()
	ResumeHealing()
	Healing(ctx context.Context) (engine.Healing, error)
}

// Archives are copies of containers' files as tar archives.
type Archives interface {
	PathStat(ctx context.Context, ref, path string) (container.PathStat, error)
	// CopyFrom calls begin once, before it writes the archive, unless it fails
	// before that.
	CopyFrom(ctx context.Context, ref, path string, begin func(container.PathStat) io.Writer) error
	CopyTo(ctx context.Context, ref, path string, archive io.Reader, options engine.CopyOptions) error
}

// Monitors look at running containers, and tidy up those that have ended.
type Monitors interface {
	// Top lists processes by the host's ps with the arguments.
	Top(ctx context.Context, ref, psArgs string) (container.TopResponse, error)
	// Stats calls emit with each sample; an error of its ends the stream.
	Stats(ctx context.Context, ref string, options engine.StatsOptions, emit func(container.StatsResponse) error) error
	// ContainerPrune removes the containers that do not run.
	ContainerPrune(ctx context.Context, filters map[string][]string) (container.PruneReport, error)
}

// Differences are what containers have changed of their images, and what is on the
// disk.
type Differences interface {
	Changes(ctx context.Context, ref string) ([]container.FilesystemChange, error)
	// Export calls begin once, before it writes the archive, unless it fails before
	// that.
	Export(ctx context.Context, ref string, begin func() io.Writer) error
	// Commit makes an image of a container and returns its ID.
	Commit(ctx context.Context, ref string, options engine.CommitOptions) (id string, err error)
	// DiskUsage measures what was asked for; the rest is nil.
	DiskUsage(ctx context.Context, options engine.DiskUsageOptions) (system.DiskUsage, error)
}
