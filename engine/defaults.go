package engine

import (
	"maps"
	"net/netip"
	"os"
	"time"

	"github.com/moby/moby/api/types/container"
	apievents "github.com/moby/moby/api/types/events"
	apiregistry "github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"
)

// Defaults are what containers get that do not say otherwise: the daemon's own
// flags. The zero value is dockerd's defaults.
type Defaults struct {
	// LogConfig is the log driver with its options; "" is json-file. Its options
	// are for containers that name no driver, or this one.
	LogConfig container.LogConfig
	// Ulimits are by name; a container's own of the same name win.
	Ulimits []*container.Ulimit
	// ShmSize is that of /dev/shm in bytes; 0 is 64 MiB.
	ShmSize int64
	// IpcMode is private or shareable; "" is private.
	IpcMode container.IpcMode
	// CgroupnsMode is private or host; "" is by the cgroup version, as oci has it.
	CgroupnsMode container.CgroupnsMode
	// Init runs an init in every container that does not say no; InitPath is that
	// program, "" for the one that is found.
	Init     bool
	InitPath string
	// CgroupParent is the cgroup that containers' are made in; "" is the engine's
	// own.
	CgroupParent string
	// NoNewPrivileges is for containers that do not say no-new-privileges=false.
	NoNewPrivileges bool
	// SeccompProfile is a profile in JSON for containers that name none,
	// "unconfined", or "" for the one built in.
	SeccompProfile string
	// NoNetRaw keeps CAP_NET_RAW from every container and every exec, privileged ones
	// too: none makes packets of its own or hears those of others. One that asks for it
	// by name is refused.
	NoNetRaw bool
}

// Settings are what may change while the engine runs: see Engine.Reload.
type Settings struct {
	// ShutdownTimeout is how long StopAll waits for containers as a whole, or longer
	// where one of them has a longer time to stop; negative waits for ever, and 0
	// is as Docker's default, 15 s.
	ShutdownTimeout time.Duration
	Registries      Registries
	// Labels are the daemon's, KEY=VALUE; Debug and LiveRestore are told of.
	Labels      []string
	Debug       bool
	LiveRestore bool
}

// Registries are how images are fetched from and sent to registries.
type Registries struct {
	// Mirrors are asked for images of docker.io first: https://host[:port][/path].
	Mirrors []string
	// Insecure are registries that may be spoken to without TLS, or with a
	// certificate of nobody known: host, host:port, or a subnet. Those of
	// 127.0.0.0/8 and ::1 always are.
	Insecure []string
	// MaxDownloads and MaxUploads are how many layers of one image are carried at
	// once (0: 3 and 5), DownloadAttempts how often one is tried (0: 5).
	MaxDownloads, MaxUploads, DownloadAttempts int
}

// settings are those of the moment. What they hold must not be changed.
func (e *Engine) settings() Settings { return *e.live.Load() }

// Reload makes other settings hold for what begins from now on, and tells who
// listens to the daemon's events, with the attributes given.
func (e *Engine) Reload(s Settings, attributes map[string]string) {
	e.live.Store(&s)
	about := maps.Clone(attributes)
	if about == nil {
		about = make(map[string]string)
	}
	about["name"], _ = os.Hostname()
	e.emit(apievents.DaemonEventType, apievents.ActionReload, e.cfg.Info.ID, about)
}

// applySettings writes what may have changed over what the daemon said of itself.
func (e *Engine) applySettings(info *system.Info) {
	s := e.settings()
	info.Labels, info.Debug, info.LiveRestoreEnabled = s.Labels, s.Debug, s.LiveRestore
	if info.Labels == nil {
		info.Labels = []string{}
	}
	info.RegistryConfig = s.Registries.describe()
}

// describe is what Docker's `info` says of registries.
func (r Registries) describe() *apiregistry.ServiceConfig {
	const official = "docker.io"
	mirrors := r.Mirrors
	if mirrors == nil {
		mirrors = []string{}
	}
	out := &apiregistry.ServiceConfig{Mirrors: mirrors, IndexConfigs: map[string]*apiregistry.IndexInfo{
		official: {Name: official, Mirrors: mirrors, Secure: true, Official: true},
	}}
	for _, host := range append([]string{"::1/128", "127.0.0.0/8"}, r.Insecure...) {
		if subnet, err := netip.ParsePrefix(host); err == nil {
			out.InsecureRegistryCIDRs = append(out.InsecureRegistryCIDRs, subnet.Masked())
			continue
		}
		out.IndexConfigs[host] = &apiregistry.IndexInfo{Name: host, Mirrors: []string{}}
	}
	return out
}
