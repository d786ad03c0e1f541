package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	fairlead "github.com/fairlead/fairlead/network"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/relay"
	"github.com/fairlead/fairlead/store"
)

// attacher is package network as the daemon runs it: the store on disk, the
// journal on tmpfs, the ports held by a relay process of its own, the nftables
// policy table. It does all of an attachment, the namespace included. The relay
// is this program, called as fairlead would be.
type attacher struct {
	dir        string
	store      *store.Store
	relay      *relay.Client
	controller *fairlead.Controller
}

// attacherRoot is EXEC_ROOT, on the host's own tmpfs.
const attacherRoot = "/run/fairlead"

func (a *attacher) prepare(ctx context.Context) (err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	dataRoot := filepath.Join(a.dir, "data")
	if err := errors.Join(os.Mkdir(attacherRoot, 0o711), os.Mkdir(dataRoot, 0o711)); err != nil {
		return err
	}
	if a.store, err = store.Open(dataRoot); err != nil {
		return err
	}
	if a.relay, err = relay.Ensure(ctx, relay.Options{ExecRoot: attacherRoot, Logger: log}); err != nil {
		return err
	}
	a.controller, err = fairlead.Open(ctx, fairlead.Config{
		ExecRoot: attacherRoot, Store: a.store, Relay: a.relay, Log: log,
		Default:   fairlead.DefaultNetwork{Masquerade: true},
		IPForward: true, UserlandProxy: true,
	})
	if err != nil {
		return err
	}
	return a.controller.Restore(ctx)
}

func (a *attacher) attachment(n int, ports []uint16) (attachment, error) {
	req := spec.AttachRequest{
		ID: containerID(n), Name: fmt.Sprintf("bench%d", n),
		Endpoints: []spec.EndpointRequest{{Network: spec.DefaultNetwork}},
	}
	for _, p := range ports {
		req.Ports = append(req.Ports, spec.PortRequest{Proto: spec.TCP, Port: 80, HostPort: p, HostPortEnd: p})
	}
	return attachment{
		netns: filepath.Join(attacherRoot, "netns", req.ID), dial: published,
		up: func(ctx context.Context) error {
			_, err := a.controller.Attach(ctx, req)
			return err
		},
		down: func(ctx context.Context) error { return a.controller.Detach(ctx, req.ID) },
		end:  func() error { return nil },
	}, nil
}

func (a *attacher) close() error {
	var errs []error
	if a.controller != nil {
		errs = append(errs, a.controller.Close())
	}
	if a.store != nil {
		errs = append(errs, a.store.Close())
	}
	return errors.Join(errs...)
}
