package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fairlead/fairlead/network"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/relay"
	"github.com/fairlead/fairlead/store"
)

// attacher is package network as the daemon runs it: the store on disk, the
// journal on tmpfs, the ports held by a relay process of its own, the nftables
// policy table. It does all of an attachment, the namespace included.
type attacher struct {
	dir, binary string
	store       *store.Store
	relay       *relay.Client
	network     *network.Controller
	next        int
}

func (a *attacher) prepare(ctx context.Context) (err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	const execRoot = "/run/fairlead" // the host's own tmpfs
	if err := os.Mkdir(execRoot, 0o711); err != nil {
		return err
	}
	if a.store, err = store.Open(filepath.Join(a.dir, "data")); err != nil {
		return err
	}
	a.relay, err = relay.Ensure(ctx, relay.Options{ExecRoot: execRoot, Binary: a.binary})
	if err != nil {
		return err
	}
	a.network, err = network.Open(ctx, network.Config{
		ExecRoot: execRoot, Store: a.store, Relay: a.relay, Log: log,
		Default:   network.DefaultNetwork{Masquerade: true},
		IPForward: true, UserlandProxy: true,
	})
	if err != nil {
		return err
	}
	return a.network.Restore(ctx)
}

func (a *attacher) fill(ctx context.Context, endpoints, ports int) error {
	for n := range endpoints {
		if _, err := a.network.Attach(ctx, a.request(portsOf(n, ports))); err != nil {
			return fmt.Errorf("endpoint %d: %w", n, err)
		}
	}
	return nil
}

func (a *attacher) once(ctx context.Context, _ string) (up, down time.Duration, err error) {
	req := a.request([]uint16{measuredPort})
	start := time.Now()
	if _, err := a.network.Attach(ctx, req); err != nil {
		return 0, 0, err
	}
	up = time.Since(start)
	start = time.Now()
	err = a.network.Detach(ctx, req.ID)
	return up, time.Since(start), err
}

func (a *attacher) request(ports []uint16) spec.AttachRequest {
	a.next++
	req := spec.AttachRequest{
		ID: containerID(a.next), Name: fmt.Sprintf("bench%d", a.next),
		Endpoints: []spec.EndpointRequest{{Network: spec.DefaultNetwork}},
	}
	for _, p := range ports {
		req.Ports = append(req.Ports, spec.PortRequest{Proto: spec.TCP, Port: 80, HostPort: p, HostPortEnd: p})
	}
	return req
}

func (a *attacher) close() error {
	var errs []error
	if a.network != nil {
		errs = append(errs, a.network.Close())
	}
	if a.store != nil {
		errs = append(errs, a.store.Close())
	}
	return errors.Join(errs...)
}
