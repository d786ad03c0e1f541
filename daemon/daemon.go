package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"github.com/moby/moby/api/types/system"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/api"
	"github.com/fairlead/fairlead/engine"
	"github.com/fairlead/fairlead/engine/runtime"
	"github.com/fairlead/fairlead/internal/spawn"
	"github.com/fairlead/fairlead/network"
	"github.com/fairlead/fairlead/network/ipam"
	"github.com/fairlead/fairlead/relay"
	"github.com/fairlead/fairlead/store"
	"github.com/fairlead/fairlead/streams"
)

// drainTime is how long requests under way get when the daemon stops.
const drainTime = 5 * time.Second

// Build is what was built, as the API tells its clients.
type Build struct{ Version, Commit string }

// Command is `fairlead daemon`.
func Command(build Build) *cobra.Command {
	cfg := defaults()
	var file string
	var teardown bool
	cmd := &cobra.Command{
		Use:   "daemon [OPTIONS]",
		Short: "Run the engine: containers, their networks and the API",
		Long: `Run the engine in the foreground. It serves the Docker Engine API on a unix
socket, keeps containers on their networks, and leaves them running when it stops.

Flags may also be given as keys of the configuration file, a JSON object, by the
same names as dockerd's daemon.json. A flag and a key that disagree are refused.`,
		Example: `  fairlead daemon
  fairlead daemon --bip 10.99.0.1/24 --default-address-pool base=10.100.0.0/16,size=24
  fairlead daemon -b br0                       # the host's own bridge as the default network
  fairlead daemon --data-root /srv/a --exec-root /run/a --bridge-name fairlead1   # a second one`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			named := cmd.Flags().Changed("config-file")
			if saved := savedSettings(cfg.ExecRoot); teardown && !named && saved != "" {
				// What is to be taken away was made by these, unless it is said otherwise.
				if _, err := cfg.merge(saved, true, cmd.Flags()); err != nil {
					return err
				}
			} else if err := cfg.mergeFile(file, named, cmd.Flags()); err != nil {
				return err
			}
			if teardown && !cmd.Flags().Changed("log-level") {
				cfg.LogLevel = "warn" // somebody waits for the end of it, at a terminal
			}
			if err := cfg.check(); err != nil {
				return err
			}
			return run(cmd.Context(), cfg, build, teardown)
		},
	}
	cfg.register(cmd.Flags())
	cmd.Flags().StringVar(&file, "config-file", defaultConfigFile, "JSON file with the same settings")
	cmd.Flags().BoolVar(&teardown, "teardown", false, "take everything of this daemon away and exit: containers, networks, rules, helpers")
	return cmd
}

// daemon is what one running daemon is made of.
type daemon struct {
	cfg        Config
	build      Build
	pools      []ipam.AddressPool
	log        *slog.Logger
	locks      []*os.File
	store      *store.Store
	containerd *runtime.Containerd
	relay      *keptRelay
	streams    *keptStreams
	network    *network.Controller
	engine     *engine.Engine
	// stop ends the daemon, unsupervise only the care for the helpers.
	stop, unsupervise context.CancelFunc
	tornDown          bool
	// tearing is held by the one client that tears down.
	tearing sync.Mutex
}

// fileLimit of open files: the sockets of a range of ports are all here until the
// relay has them.
const fileLimit = 1 << 20

func run(ctx context.Context, cfg Config, build Build, teardown bool) error {
	if err := checkPrivileges(); err != nil {
		return err
	}
	netCfg, err := cfg.network()
	if err != nil {
		return err
	}
	log, err := newLogger(cfg)
	if err != nil {
		return err
	}
	slog.SetDefault(log)
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	if netCfg.Pools == nil {
		netCfg.Pools = ipam.DefaultPools()
	}
	d := &daemon{cfg: cfg, build: build, pools: netCfg.Pools, log: log, stop: stop}
	defer d.unlock()
	if err := d.lock(); err != nil {
		return err
	}
	if err := spawn.RaiseFileLimit(fileLimit); err != nil {
		return err
	}
	if err := d.start(ctx, netCfg, teardown); err != nil {
		return errors.Join(err, d.abandon(context.WithoutCancel(ctx)), d.close())
	}
	if teardown {
		return errors.Join(d.teardown(ctx), d.close())
	}
	return errors.Join(d.serve(ctx), d.close())
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
	return os.WriteFile(d.cfg.PIDFile, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o644)
}

func (d *daemon) unlock() {
	if len(d.locks) == 2 {
		_ = os.Remove(d.cfg.PIDFile)
	}
	for _, f := range d.locks {
		_ = f.Close()
	}
	if d.tornDown {
		_ = os.RemoveAll(d.cfg.ExecRoot)
	}
}

// start brings up what the daemon stands on, in the order of dependence:
// containerd and the two helpers at once, then the network, then the engine. For a
// teardown the network need not be as it is wanted.
func (d *daemon) start(ctx context.Context, netCfg network.Config, teardown bool) error {
	var err error
	if d.store, err = store.Open(d.cfg.DataRoot); err != nil {
		return err
	}
	if err := d.startHelpers(ctx); err != nil {
		return err
	}
	if savedSettings(d.cfg.ExecRoot) == "" {
		if err := d.cfg.save(); err != nil {
			return err
		}
	}
	netCfg.Store, netCfg.Relay, netCfg.Log = d.store, d.relay, d.log
	if d.network, err = network.Open(ctx, netCfg); err != nil {
		return err
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
	return nil
}

// restoreNetwork notes the settings when the network stands by them: a start that is
// refused for what it was told leaves those that what is there was made by.
func (d *daemon) restoreNetwork(ctx context.Context, teardown bool) error {
	err := d.network.Restore(ctx)
	switch {
	case err == nil:
		return d.cfg.save()
	case teardown:
		d.log.Warn("the network cannot be restored and is taken away as it is", "err", err)
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

func (d *daemon) startHelpers(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, 3)
	wg.Go(func() {
		d.containerd, errs[0] = runtime.Start(ctx, runtime.Config{
			Address: d.cfg.Containerd, Namespace: d.cfg.ContainerdNamespace,
			DataRoot: d.cfg.DataRoot, ExecRoot: d.cfg.ExecRoot,
		})
	})
	wg.Go(func() { d.relay, errs[1] = keepRelay(ctx, relay.Options{ExecRoot: d.cfg.ExecRoot, Logger: d.log}) })
	wg.Go(func() {
		d.streams, errs[2] = keepStreams(ctx, streams.Options{ExecRoot: d.cfg.ExecRoot, Logger: d.log})
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
	return engine.New(ctx, engine.Config{
		HostGateways: gateways,
		DNS:          servers, DNSSearch: d.cfg.DNSSearch, DNSOptions: d.cfg.DNSOptions, ResolvConf: d.cfg.ResolvConf,
		DataRoot: d.cfg.DataRoot, ExecRoot: d.cfg.ExecRoot, Runtime: d.containerd,
		Network: d.network, Streams: d.streams, Store: records, HostNetns: hostNS, Log: d.log,
		Info: d.info(), Settings: engine.Settings{LiveRestore: d.cfg.LiveRestore},
	})
}

// info is what the daemon knows of itself.
func (d *daemon) info() system.Info {
	info := system.Info{ServerVersion: d.build.Version, FirewallBackend: &system.FirewallInfo{}}
	info.FirewallBackend.Driver, info.FirewallBackend.Info = d.network.FirewallInfo()
	for _, p := range d.pools {
		info.DefaultAddressPools = append(info.DefaultAddressPools, system.NetworkAddressPool{Base: p.Base, Size: p.Size})
	}
	return info
}

// serve answers the API until a signal, or a teardown, ends it.
func (d *daemon) serve(ctx context.Context) error {
	listeners, err := listen(d.cfg.Hosts, d.cfg.Group)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           api.New(d.engine, api.Options{Version: d.build.Version, Commit: d.build.Commit, Log: d.log, Teardown: d.teardownByAPI}),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		d.log.Info("serving the API", "address", l.Addr().Network()+"://"+d.address(l))
		go func() { failed <- server.Serve(l) }()
	}
	notify("READY=1")
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	notify("STOPPING=1")
	d.log.Info("stopping", "live-restore", d.cfg.LiveRestore)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if server.Shutdown(drain) != nil {
		_ = server.Close()
	}
	for _, host := range d.cfg.Hosts {
		_ = os.Remove(host[len("unix://"):])
	}
	if !d.cfg.LiveRestore && !d.tornDown {
		err = errors.Join(err, d.engine.StopAll(context.WithoutCancel(ctx)))
	}
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}

// address is the socket's path under its final name.
func (d *daemon) address(l net.Listener) string {
	const born = ".new"
	a := l.Addr().String()
	return a[:len(a)-len(born)]
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
	if err := d.teardown(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	time.AfterFunc(100*time.Millisecond, d.stop)
	return nil
}

// teardown takes away everything of ours on this machine except the data root:
// containers, networks, rules and sysctls, then the helpers and our containerd.
func (d *daemon) teardown(ctx context.Context) error {
	d.log.Info("tearing down")
	errs := []error{d.engine.Teardown(ctx), d.network.Teardown(ctx), unpinHost(d.cfg.ExecRoot)}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	d.tornDown = true
	d.unsupervise()
	return errors.Join(d.streams.client().Stop(ctx), d.relay.client().Stop(ctx), d.containerd.Stop(ctx))
}

// hostPin is where the daemon's own namespace is pinned, for host mode.
func hostPin(execRoot string) string { return filepath.Join(execRoot, "netns", "host") }
