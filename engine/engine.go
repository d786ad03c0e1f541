// Package engine runs containers: it keeps their records, and orders containerd,
// the network and the streams about so that each container is as its record
// says. It is the only place that knows all of them.
//
// It knows nothing of HTTP, of the kernel, or of how a network is made. What is
// pure text or pure decision has a package of its own below this one.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/system"

	"github.com/fairlead/fairlead/engine/events"
	"github.com/fairlead/fairlead/engine/image"
	"github.com/fairlead/fairlead/engine/logconfig"
	"github.com/fairlead/fairlead/engine/runtime"
	"github.com/fairlead/fairlead/engine/timetable"
	"github.com/fairlead/fairlead/engine/volume"
	"github.com/fairlead/fairlead/internal/event"
	"github.com/fairlead/fairlead/internal/panics"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/streams"
)

// Sandboxes gives containers their network; *network.Controller is one.
type Sandboxes interface {
	// Attach makes the sandbox EXEC_ROOT/netns/ID, whole or not at all.
	Attach(ctx context.Context, req spec.AttachRequest) (spec.Attachment, error)
	// Detach takes it away; one that is not there is no error.
	Detach(ctx context.Context, sandboxID string) error
	Attachment(sandboxID string) (spec.Attachment, bool)
	Attachments() []spec.Attachment
	// Warnings are what every user should be told, such as that the host
	// does not forward.
	Warnings() []string
}

// Endpoints are what changes of an attachment while it stands; *network.Controller
// has them.
type Endpoints interface {
	// Connect adds an endpoint; packets flow when it returns.
	Connect(ctx context.Context, sandboxID string, req spec.EndpointRequest) (spec.Attachment, error)
	Disconnect(ctx context.Context, sandboxID, network string) (spec.Attachment, error)
	// SetNames gives the sandbox its container's name, and its endpoints, by
	// network ID, all their names.
	SetNames(ctx context.Context, sandboxID, name string, names map[string][]string) error
	// SetLinks gives its endpoints, by network ID, all their links.
	SetLinks(ctx context.Context, sandboxID string, links map[string][]spec.Link) error
	// Usage counts a network's addresses, by subnet.
	Usage(networkID string) []spec.SubnetUsage
}

// Networks are what containers are attached to; *network.Controller has them.
type Networks interface {
	CreateNetwork(ctx context.Context, req spec.NetworkRequest) (spec.Network, error)
	RemoveNetwork(ctx context.Context, ref string) error
	Networks() []spec.Network
	Network(ref string) (spec.Network, error)
}

// Network is all that the engine needs of the network.
type Network interface {
	Sandboxes
	Endpoints
	Networks
	Healer
	Planner
	// Check returns every difference between the wanted state and the kernel.
	Check(ctx context.Context) ([]string, error)
}

// Healer puts back what other programs change of the network; *network.Controller
// documents the methods.
type Healer interface {
	PauseHealing()
	ResumeHealing()
	Healing(ctx context.Context) (spec.Healing, error)
}

// Streams carries containers' input and output in a process that outlives the
// daemon; *streams.Client is one, and documents the methods.
type Streams interface {
	Open(ctx context.Context, s streams.Spec) error
	Attach(ctx context.Context, s streams.AttachSpec, conn *os.File) error
	Drained(ctx context.Context, id string) error
	Close(ctx context.Context, id string) error
	Drop(ctx context.Context, id string) error
}

// StreamsState tells what is open, and what ends; *streams.Client has it.
type StreamsState interface {
	List(ctx context.Context) ([]streams.Status, error)
	// StdinClosed waits until the process has closed its end of stdin.
	StdinClosed(ctx context.Context, id string) error
	// Detached waits for clients that leave by their detach keys.
	Detached(ctx context.Context) (ids []string, err error)
}

// Store keeps records across the daemon's life: *store.Bucket[Record] is one.
type Store interface {
	// Put has written the record to disk when it returns.
	Put(id string, r Record) error
	Delete(id string) error
	// ForEach hands over a record that cannot be read as an error.
	ForEach(f func(id string, r Record, err error) error) error
}

// Config is what an Engine is made from. All of it must be there but where it
// says otherwise.
type Config struct {
	// DataRoot has containers' files under containers/ID; ExecRoot their
	// FIFOs under fifo/ID and namespaces under netns/ID.
	DataRoot, ExecRoot string
	Runtime            *runtime.Containerd
	Network            Network
	Streams            interface {
		Streams
		StreamsState
	}
	Store Store
	// Repaired says that the store was damaged and made anew: records may be missing
	// or old.
	Repaired bool
	// Losses notes what of it is lost; nil for nobody.
	Losses Losses
	// HostNetns is the path of the daemon's own network namespace, for host
	// mode.
	HostNetns string
	// ResolvConf and Hosts are the host's files; "" is those in /etc.
	ResolvConf, Hosts string
	// DNS, DNSSearch and DNSOptions are for containers that name none.
	DNS                   []netip.Addr
	DNSSearch, DNSOptions []string
	// HostGateways are what host-gateway stands for in an extra host; none are
	// those of the default network.
	HostGateways []netip.Addr
	// RegistryCerts are directories with registries' certificates, as
	// distribution.Registries has them; nil is Docker's and our own.
	RegistryCerts []string
	// Defaults are for containers that do not say otherwise.
	Defaults
	// Settings hold until Reload; the engine reads them by its own settings().
	Settings Settings
	// Info is what the daemon knows of itself for Engine.Info; the engine
	// fills in the rest.
	Info system.Info
	// Log is slog.Default() when nil.
	Log *slog.Logger
	// Events is where what happens of itself comes from; nil for nowhere.
	Events *event.Source
}

// configuration is a Config whose store numbers what is written.
type configuration struct {
	Config
	Store *ledger
}

// Engine runs the containers of one data root.
type Engine struct {
	cfg      configuration
	rt       *runtime.Containerd
	images   *image.Store
	log      *slog.Logger
	events   *events.Bus
	registry registry
	execs    execs
	volumes  *volume.Store
	// appArmorProfile is loaded at the first start.
	appArmor        sync.Once
	appArmorProfile string
	// live are the settings of the moment.
	live atomic.Pointer[Settings]
	// occupants are who is in which sandbox.
	occupants occupants
	unified   bool // cgroup v2 alone
	// times are when restarts and health checks are due; probing bounds how many
	// health checks are being started at once.
	times   *timetable.Timetable
	probing chan struct{}
	// policing is set by StartWanted: from then on restart policies are obeyed;
	// stopping by StopAll: from then on they are left to the next daemon.
	policing, stopping atomic.Bool
	// killTime is how long a killed process may take to be gone, and its shim to answer.
	killTime time.Duration
	// life ends at Close; work counts what must be finished before.
	life  context.Context
	end   context.CancelFunc
	watch sync.WaitGroup
	work  sync.WaitGroup
	// pruning is held by the one prune of containers that may run.
	pruning sync.Mutex
	// gate is held by those who make something or take it away; a teardown waits
	// for them and shuts it.
	gate sync.RWMutex
	shut bool
	// listeners counts those who listen to events.
	listeners atomic.Int64
}

// enter lets a caller in, who leaves when it is done. It returns
// errdefs.ErrUnavailable once everything is being taken down: what was made then
// would be left behind.
func (e *Engine) enter() (leave func(), err error) {
	e.gate.RLock()
	if e.shut {
		e.gate.RUnlock()
		return nil, fmt.Errorf("everything is being taken down; start the daemon again: %w", errdefs.ErrUnavailable)
	}
	return e.gate.RUnlock, nil
}

// New makes an Engine. It knows no containers until Restore.
func New(ctx context.Context, cfg Config) (*Engine, error) {
	switch {
	case cfg.Runtime == nil || cfg.Network == nil || cfg.Streams == nil || cfg.Store == nil:
		return nil, errors.New("engine: Runtime, Network, Streams and Store must be given")
	case cfg.DataRoot == "" || cfg.ExecRoot == "":
		return nil, errors.New("engine: DataRoot and ExecRoot must be given")
	}
	if err := logconfig.Check(logconfig.Merge(container.LogConfig{}, cfg.LogConfig)); err != nil {
		return nil, fmt.Errorf("engine: the containers' log: %w", err)
	}
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = "/etc/resolv.conf"
	}
	if cfg.Hosts == "" {
		cfg.Hosts = "/etc/hosts"
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	e := &Engine{cfg: configuration{cfg, &ledger{Store: cfg.Store}}, rt: cfg.Runtime, log: cfg.Log, events: events.New(), killTime: killTime}
	e.images = image.NewStore(cfg.Runtime.Client(), runtime.Snapshotter, e.registries)
	e.live.Store(&cfg.Settings)
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	e.unified = err == nil
	e.registry.init()
	e.execs.init()
	e.occupants.init()
	e.times, e.probing = timetable.New(), make(chan struct{}, probesStarting)
	if e.volumes, err = volume.Open(filepath.Join(cfg.DataRoot, "volumes")); err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	e.sayDamaged()
	e.life, e.end = context.WithCancel(context.WithoutCancel(ctx))
	for _, dir := range []string{e.containersDir(), e.fifosDir()} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, fmt.Errorf("engine: %w", err)
		}
	}
	if e.cfg.Info.ID, err = identity(cfg.DataRoot); err != nil {
		return nil, err
	}
	e.watch.Go(func() {
		e.times.Run(e.life, func(f func()) {
			e.watch.Go(func() {
				var err error // which Catch has told the log
				defer panics.Catch(&err)
				f()
			})
		})
	})
	e.watch.Go(func() { e.emitOwn(cfg.Events) })
	e.watch.Go(func() { e.rt.OutOfMemory(e.life, e.outOfMemory) })
	return e, nil
}

// Close lets go of everything and leaves containers running. It waits for
// removals under way.
func (e *Engine) Close() error {
	e.work.Wait()
	e.end()
	e.watch.Wait()
	return nil
}

// Times that the engine waits for others.
const (
	// drainTime is how long output may take to reach its log after the
	// process ended; a child left behind may keep the pipe open for ever.
	drainTime = 3 * time.Second
	// lastDrainTime is the same after a container's end: all who could write are gone,
	// so that the end comes, but a busy machine may take its time to pass it on.
	lastDrainTime = 10 * time.Second
	// startTime bounds what a start, or its undoing, waits for containerd.
	startTime = 2 * time.Minute
	// killTime is how long a killed process may take to be gone.
	killTime = 10 * time.Second
	// containerdTime is how long a containerd that does not answer is asked
	// again to take away what is left, every retryTime.
	containerdTime = 15 * time.Second
	retryTime      = 100 * time.Millisecond
	// departedTime is how long one can ask for the exit code of a container
	// that was removed while its daemon was away.
	departedTime = time.Minute
	// defaultStop is how long a container has to stop before it is killed.
	defaultStop = 10
)

func (e *Engine) containersDir() string { return filepath.Join(e.cfg.DataRoot, "containers") }

// dir has the container's log and the files mounted into it.
func (e *Engine) dir(id string) string { return filepath.Join(e.containersDir(), id) }

func (e *Engine) logPath(id string) string { return filepath.Join(e.dir(id), id+"-json.log") }

func (e *Engine) fifosDir() string { return filepath.Join(e.cfg.ExecRoot, "fifo") }

func (e *Engine) fifoDir(id string) string { return filepath.Join(e.fifosDir(), id) }

func (e *Engine) sandboxPath(id string) string {
	return filepath.Join(e.cfg.ExecRoot, "netns", id)
}

func short(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}
