package attach

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"

	controller "github.com/fairlead/fairlead/network"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/relay"
	"github.com/fairlead/fairlead/store"
)

// daemonSpares is how many sandboxes the daemon keeps ready.
const daemonSpares = 8

// ownNetwork is made by prepare; containers on it have a resolver.
const ownNetwork = "own"

// fairlead is package network as the daemon runs it: the store on disk, the journal on
// tmpfs, the ports held by a relay process of its own, the nftables policy table. It
// does all of an attachment, the namespace included. The relay is this program, called
// as fairlead would be.
type fairlead struct {
	dir    string
	spares int
	store  *store.Store
	relay  *relay.Client
	ours   *controller.Controller
}

// execRoot is EXEC_ROOT, on the host's own tmpfs.
const execRoot = "/run/fairlead"

func (f *fairlead) prepare(ctx context.Context) (err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	dataRoot := filepath.Join(f.dir, "data")
	if err := errors.Join(os.Mkdir(execRoot, 0o711), os.Mkdir(dataRoot, 0o711)); err != nil {
		return err
	}
	if f.store, err = store.Open(dataRoot); err != nil {
		return err
	}
	if f.relay, err = relay.Ensure(ctx, relay.Options{ExecRoot: execRoot, Logger: log}); err != nil {
		return err
	}
	f.ours, err = controller.Open(ctx, controller.Config{
		ExecRoot: execRoot, Store: f.store, Relay: f.relay, Log: log,
		Default:   controller.DefaultNetwork{Masquerade: true, ICC: true},
		IPForward: true, UserlandProxy: true, Spares: f.spares,
	})
	if err != nil {
		return err
	}
	if err := f.ours.Restore(ctx); err != nil {
		return err
	}
	return f.makeNetwork(ctx, ownNetwork, "172.18.0.0/16")
}

func (f *fairlead) makeNetwork(ctx context.Context, name, subnet string) error {
	_, err := f.ours.CreateNetwork(ctx, spec.NetworkRequest{Name: name, Subnets: []spec.Subnet{{Prefix: netip.MustParsePrefix(subnet)}}})
	return err
}

func (f *fairlead) attachment(w wish) (*attachment, error) {
	name := fmt.Sprintf("bench%d", w.n)
	req := spec.AttachRequest{ID: containerID(w.n), Name: name}
	endpoint := spec.EndpointRequest{Network: spec.DefaultNetwork}
	if w.network != "" {
		// Who is on the default network cannot choose, and has no name there.
		endpoint = spec.EndpointRequest{Network: w.network, Addr4: w.addr, Names: []string{name}}
	}
	req.Endpoints = []spec.EndpointRequest{endpoint}
	for _, p := range w.ports {
		r := spec.PortRequest{Proto: spec.TCP, Port: p.container, HostPort: p.host, HostPortEnd: p.host}
		if w.only4 {
			r.HostIP = netip.IPv4Unspecified()
		}
		req.Ports = append(req.Ports, r)
	}
	a := &attachment{netns: filepath.Join(execRoot, "netns", req.ID), dial: published}
	if w.network != "" {
		a.dial = nil
	}
	a.up = func(ctx context.Context) error {
		got, err := f.ours.Attach(ctx, req)
		if err == nil {
			a.addr = got.Endpoints[0].Addr4.Addr()
		}
		return err
	}
	a.down = func(ctx context.Context) error { return f.ours.Detach(ctx, req.ID) }
	a.end = func() error { return nil }
	return a, nil
}

func (f *fairlead) close() error {
	var errs []error
	if f.ours != nil {
		errs = append(errs, f.ours.Close())
	}
	if f.store != nil {
		errs = append(errs, f.store.Close())
	}
	return errors.Join(errs...)
}
