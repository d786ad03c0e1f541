package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/system"

	"github.com/fairlead/fairlead/engine"
	"github.com/fairlead/fairlead/engine/runtime"
	"github.com/fairlead/fairlead/internal/event"
	"github.com/fairlead/fairlead/internal/spawn"
	"github.com/fairlead/fairlead/metrics"
	"github.com/fairlead/fairlead/network"
	"github.com/fairlead/fairlead/network/ipam"
	"github.com/fairlead/fairlead/relay"
	"github.com/fairlead/fairlead/store"
	"github.com/fairlead/fairlead/streams"
)

// wantedTime is how long the API waits for the containers that are started with the
// daemon.
const wantedTime = 15 * time.Second

// Build is what was built, as the API tells its clients.
type Build struct{ Version, Commit string }

// daemon is what one running daemon is made of.
type daemon struct {
	cfg   Config
	build Build
	// load reads the configuration anew; level is the log's.
	load       func() (Config, error)
	level      *slog.LevelVar
	pools      []ipam.AddressPool
	log        *slog.Logger
	events     *event.Source
	locks      []*os.File
	pidfile    bool // whether the pidfile is ours
	store      *store.Store
	containerd *runtime.Containerd
	relay      *keptRelay
	streams    *keptStreams
	network    *network.Controller
	engine     *engine.Engine
	metrics    *metrics.Metrics
	// restored is how long it took to make the network stand.
	restored time.Duration
	// stop ends the daemon, unsupervise only the care for the helpers.
	stop, unsupervise context.CancelFunc
	tornDown          bool
	// tearing is held by the one client that tears down.
	tearing sync.Mutex
}

// purpose is what a daemon is started for.
type purpose int

const (
	serves purpose = iota
	// halts: to leave nothing in the kernel, and everything in the data root.
	halts
	// tearsDown: to forget containers and networks too.
	tearsDown
)

// fileLimit of open files: the sockets of a range of ports are all here until the
// relay has them.
const fileLimit = 1 << 20

// run is the daemon's life; load reads its configuration anew.
func run(ctx context.Context, cfg Config, build Build, load func() (Config, error), end purpose) error {
	if err := checkPrivileges(); err != nil {
		return err
	}
	netCfg, err := cfg.network()
	if err != nil {
		return err
	}
	secure, err := cfg.tlsConfig()
	if err != nil && slices.ContainsFunc(cfg.Hosts, overNetwork) {
		return err
	}
	level := new(slog.LevelVar)
	log := newLogger(cfg, level)
	slog.SetDefault(log)
	debug.SetGCPercent(startGarbage)
	d := &daemon{cfg: cfg, build: build, load: load, level: level, log: log, events: event.NewSource()}
	d.metrics = metrics.New(metrics.Options{Version: build.Version, Commit: build.Commit, Read: d.measured})
	if err := d.settle(end); err != nil {
		return err
	}
	// Before anything is made: by themselves the signals end a process.
	ctx, stop, hangup := signals(ctx, cfg.ExecRoot, log)
	defer stop()
	if netCfg.Pools == nil {
		netCfg.Pools = ipam.DefaultPools()
	}
	d.pools, d.stop = netCfg.Pools, stop
	defer d.unlock()
	if err := d.lock(); err != nil {
		return err
	}
	if err := spawn.RaiseFileLimit(fileLimit); err != nil {
		return err
	}
	if err := d.start(ctx, netCfg, end != serves); err != nil {
		return errors.Join(err, d.abandon(context.WithoutCancel(ctx)), d.close())
	}
	if end != serves {
		return errors.Join(d.teardown(ctx, end == tearsDown), d.close())
	}
	return errors.Join(d.serve(ctx, secure, hangup), d.close())
}

// settle does what the settings ask of this process before anything is made.
func (d *daemon) settle(end purpose) error {
	level, err := logLevel(d.cfg.LogLevel)
	if err != nil {
		return err
	}
	d.level.Set(level)
	if ignored := append(d.cfg.ignored(), d.cfg.ignoredOptions()...); len(ignored) > 0 && end == serves {
		d.log.Warn("accepted for dockerd's sake, and without meaning here", "settings", strings.Join(ignored, ", "))
	}
	if d.cfg.front == asDockerd && d.cfg.BridgeName != dockerBridge && d.cfg.Bridge == "" {
		d.log.Info("the default network has a bridge of another name than Docker's", "bridge", d.cfg.BridgeName)
	}
	if err := errors.Join(d.cfg.proxy(), d.cfg.adjustOOM()); err != nil || end != serves {
		return err
	}
	return errors.Join(d.cfg.free(), d.cfg.checkGroup())
}

// lock takes both roots for this process alone and writes the pidfile.
func (d *daemon) lock() error {
	// EXEC_ROOT can be looked into, so that anybody may list namespaces; what
	// is private in it says so by its own mode.
	for dir, mode := range map[string]fs.FileMode{d.cfg.DataRoot: 0o710, d.cfg.ExecRoot: 0o711} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return err
		}
	}
	for flag, dir := range map[string]string{"data-root": d.cfg.DataRoot, "exec-root": d.cfg.ExecRoot} {
		f, err := lockRoot(flag, dir)
		if err != nil {
			return err
		}
		d.locks = append(d.locks, f)
	}
	// The locks know more: whose the directory is. A file alone may be stale.
	if err := checkPIDFile(d.cfg.PIDFile); err != nil {
		return err
	}
	if err := writePIDFile(d.cfg.PIDFile); err != nil {
		return fmt.Errorf("--pidfile %s: %w", d.cfg.PIDFile, err)
	}
	d.pidfile = true
	return nil
}

func (d *daemon) unlock() {
	if d.pidfile {
		removePIDFile(d.cfg.PIDFile)
	}
	for _, f := range d.locks {
		_ = f.Close()
	}
	if d.tornDown {
		_ = os.RemoveAll(d.cfg.ExecRoot)
	}
}

// start brings up what the daemon stands on, in the order of dependence:
// containerd and the two helpers at once, the network as soon as it has its own, then the
// engine. What the kernel is slow to answer is asked meanwhile. For a teardown the network
// need not be as it is wanted.
func (d *daemon) start(ctx context.Context, netCfg network.Config, teardown bool) error {
	var err error
	netCfg.Ahead = network.LookAhead()
	if d.store, err = d.openStore(); err != nil {
		return err
	}
	if err := d.startHelpers(ctx, netCfg); err != nil {
		return err
	}
	if savedSettings(d.cfg.ExecRoot) == "" {
		if err := d.cfg.save(); err != nil {
			return err
		}
	}
	if err := d.restoreNetwork(ctx, teardown); err != nil {
		return err
	}
	hostNS, err := pinHost(d.cfg.ExecRoot)
	if err != nil {
		return err
	}
	if d.engine, err = d.newEngine(ctx, hostNS); err != nil {
		return err
	}
	if err := d.engine.Restore(ctx); err != nil {
		return err
	}
	d.supervise(ctx)
	if !teardown {
		d.events.Tell("daemon", "start", "", "version", d.build.Version)
		d.startWanted(ctx)
	}
	return nil
}

// startWanted starts the containers whose restart policies ask for it. A client that
// comes with the daemon finds them up, unless they take too long.
func (d *daemon) startWanted(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, wantedTime)
	defer cancel()
	d.engine.StartWanted(ctx)
}

// restoreNetwork notes the settings when the network stands by them: a start that is
// refused for what it was told leaves those that what is there was made by.
func (d *daemon) restoreNetwork(ctx context.Context, teardown bool) error {
	begun := time.Now()
	err := d.network.Restore(ctx)
	d.restored = time.Since(begun)
	switch {
	case err == nil:
		return d.cfg.save()
	case teardown:
		d.log.Warn("the network cannot be restored and is taken away as it is", "operation", "restore", "err", err)
		return d.network.Recall(ctx)
	}
	return err
}

// abandon ends the helpers, and the containerd of our own, that a start which
// failed leaves with nothing to do. What has anything in its care lives on.
func (d *daemon) abandon(ctx context.Context) error {
	var errs []error
	if d.relay != nil {
		if held, err := d.relay.List(ctx); err == nil && len(held) == 0 {
			errs = append(errs, d.relay.client().Stop(ctx))
		}
	}
	if d.streams != nil {
		if open, err := d.streams.List(ctx); err == nil && len(open) == 0 {
			errs = append(errs, d.streams.client().Stop(ctx))
		}
	}
	if d.containerd != nil {
		if tasks, err := d.containerd.Tasks(ctx); err == nil && len(tasks) == 0 {
			errs = append(errs, d.containerd.Stop(ctx))
		}
	}
	return errors.Join(errs...)
}

// startHelpers finds or starts the helpers, and opens the network, which changes nothing
// yet: where a helper cannot be had, the kernel is as it was.
func (d *daemon) startHelpers(ctx context.Context, netCfg network.Config) error {
	var wg sync.WaitGroup
	errs := make([]error, 3)
	wg.Go(func() {
		d.containerd, errs[0] = runtime.Start(ctx, runtime.Config{
			Address: d.cfg.Containerd, Namespace: d.cfg.ContainerdNamespace,
			DataRoot: d.cfg.DataRoot, ExecRoot: d.cfg.ExecRoot, Events: d.events,
		})
	})
	wg.Go(func() {
		d.relay, errs[1] = keepRelay(ctx, relay.Options{ExecRoot: d.cfg.ExecRoot, Logger: d.log, Events: d.events})
		if errs[1] == nil {
			netCfg.Store, netCfg.Relay, netCfg.Log, netCfg.Events = d.store, d.relay, d.log, d.events
			d.network, errs[1] = network.Open(ctx, netCfg)
		}
	})
	wg.Go(func() {
		d.streams, errs[2] = keepStreams(ctx, streams.Options{ExecRoot: d.cfg.ExecRoot, Logger: d.log, Events: d.events})
	})
	wg.Wait()
	return errors.Join(errs...)
}

// supervise keeps the helpers running until the daemon ends, by a context of its
// own: a teardown must be able to end them for good.
func (d *daemon) supervise(ctx context.Context) {
	ctx, d.unsupervise = context.WithCancel(ctx)
	go d.relay.supervise(ctx, d.network.RelayRestarted)
	go d.streams.supervise(ctx, d.engine.StreamsRestarted)
}

// newEngine makes the engine on what is running.
func (d *daemon) newEngine(ctx context.Context, hostNS string) (*engine.Engine, error) {
	records, err := store.NewBucket[engine.Record](d.store, "containers")
	if err != nil {
		return nil, err
	}
	servers, err := d.cfg.dnsServers()
	if err != nil {
		return nil, err
	}
	gateways, err := d.cfg.hostGateways()
	if err != nil {
		return nil, err
	}
	defaults, err := d.cfg.engineDefaults()
	if err != nil {
		return nil, err
	}
	return engine.New(ctx, engine.Config{
		HostGateways: gateways,
		DNS:          servers, DNSSearch: d.cfg.DNSSearch, DNSOptions: d.cfg.DNSOptions, ResolvConf: d.cfg.ResolvConf,
		DataRoot: d.cfg.DataRoot, ExecRoot: d.cfg.ExecRoot, Runtime: d.containerd,
		Network: timedNetwork{d.network, d.metrics}, Streams: d.streams, Store: records, Repaired: d.store.Repaired() != nil, Losses: d.store, HostNetns: hostNS, Log: d.log,
		Info: d.info(), Defaults: defaults, Settings: d.cfg.engineSettings(), Events: d.events,
	})
}

// info is what the daemon knows of itself.
func (d *daemon) info() system.Info {
	info := system.Info{ServerVersion: d.build.Version, FirewallBackend: &system.FirewallInfo{}}
	info.FirewallBackend.Driver, info.FirewallBackend.Info = d.network.FirewallInfo()
	info.HTTPProxy, info.HTTPSProxy, info.NoProxy = proxies()
	info.ExperimentalBuild = d.cfg.Experimental
	for _, p := range d.pools {
		info.DefaultAddressPools = append(info.DefaultAddressPools, system.NetworkAddressPool{Base: p.Base, Size: p.Size})
	}
	return info
}

// close lets go of everything; containers, helpers and the kernel's state stay.
func (d *daemon) close() error {
	d.stop()
	var errs []error
	if d.engine != nil {
		errs = append(errs, d.engine.Close())
	}
	if d.network != nil {
		errs = append(errs, d.network.Close())
	}
	if d.containerd != nil {
		errs = append(errs, d.containerd.Close())
	}
	if d.store != nil {
		errs = append(errs, d.store.Close())
	}
	return errors.Join(errs...)
}

// teardownByAPI answers `fairlead system teardown`: when everything is away the
// daemon ends too, after the answer has gone out.
func (d *daemon) teardownByAPI(ctx context.Context) error {
	d.tearing.Lock()
	defer d.tearing.Unlock()
	if d.tornDown {
		return nil // by another client
	}
	if err := d.teardown(context.WithoutCancel(ctx), true); err != nil {
		return err
	}
	time.AfterFunc(100*time.Millisecond, d.stop)
	return nil
}

// teardown takes away everything of ours on this machine except the data root:
// containers, networks, rules and sysctls, then the helpers and our containerd.
// Unless it is to forget them, the data root keeps the containers and networks.
func (d *daemon) teardown(ctx context.Context, forget bool) error {
	d.log.Info("tearing down", "operation", "teardown", "forget", forget)
	d.events.Tell("daemon", "teardown", "", "forget", strconv.FormatBool(forget))
	containers, networks := d.engine.Halt, d.network.Withdraw
	if forget {
		containers, networks = d.engine.Teardown, d.network.Teardown
	}
	if err := errors.Join(containers(ctx), networks(ctx), unpinHost(d.cfg.ExecRoot)); err != nil {
		return err
	}
	d.tornDown = true
	d.unsupervise()
	return errors.Join(d.streams.client().Stop(ctx), d.relay.client().Stop(ctx), d.containerd.Stop(ctx))
}

// hostPin is where the daemon's own namespace is pinned, for host mode.
func hostPin(execRoot string) string { return filepath.Join(execRoot, "netns", "host") }
