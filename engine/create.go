package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	apievents "github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"github.com/fairlead/fairlead/engine/image"
	"github.com/fairlead/fairlead/engine/logconfig"
	"github.com/fairlead/fairlead/engine/mounts"
	"github.com/fairlead/fairlead/engine/oci"
	"github.com/fairlead/fairlead/engine/rootfs"
	"github.com/fairlead/fairlead/internal/crashpoint"
	"github.com/fairlead/fairlead/internal/panics"
	"github.com/fairlead/fairlead/internal/wellformed"
	"github.com/fairlead/fairlead/network/spec"
)

// CreateRequest asks for a container.
type CreateRequest struct {
	// Name is chosen when empty; a leading slash is Docker's and ignored.
	Name string
	// Platform that the image must be of, as linux/arm64; "" takes the host's, or
	// what there is. Where there is none of it the error is errdefs.ErrNotFound.
	Platform         string
	Config           *container.Config
	HostConfig       *container.HostConfig
	NetworkingConfig *network.NetworkingConfig
}

// Create makes a container that is ready to be started. Everything that can be
// refused is refused here, before anything is made.
func (e *Engine) Create(ctx context.Context, req CreateRequest) (container.CreateResponse, error) {
	leave, err := e.enter()
	if err != nil {
		return container.CreateResponse{}, err
	}
	defer leave()
	rec, warnings, img, err := e.decide(ctx, req)
	if err != nil {
		return container.CreateResponse{}, err
	}
	if err := e.name(&rec, strings.TrimPrefix(req.Name, "/")); err != nil {
		return container.CreateResponse{}, err
	}
	defer e.registry.work(rec.ID)()
	c := &instance{id: rec.ID, rec: rec}
	if err := e.make(ctx, c, img); err != nil {
		err = errors.Join(err, e.releaseVolumes(c.rec, true)())
		e.registry.release(rec.Name, rec.ID)
		return container.CreateResponse{}, fmt.Errorf("create container %s: %w", rec.Name, err)
	}
	e.registry.add(c)
	e.emitContainer(rec, apievents.ActionCreate)
	return container.CreateResponse{ID: rec.ID, Warnings: append(warnings, e.cfg.Network.Warnings()...)}, nil
}

// name takes the wanted name, or a free one.
func (e *Engine) name(rec *Record, wanted string) error {
	if wanted == "" {
		rec.Name = freeName(func(n string) bool { return e.registry.reserve(n, rec.ID) == nil })
		return nil
	}
	if err := spec.ValidName("container", wanted); err != nil {
		return err
	}
	rec.Name = wanted
	return e.registry.reserve(wanted, rec.ID)
}

// make gives the container its root, its directory and its record, at once. The
// record is what makes it exist: without one the rest is swept up by Restore.
func (e *Engine) make(ctx context.Context, c *instance, img image.Image) error {
	var wg sync.WaitGroup
	errs := make([]error, 3)
	claim := func() error { return e.claimVolumes(&c.rec) }
	if slices.ContainsFunc(c.rec.volumes(), func(m mounts.Mount) bool { return m.Name == "" }) {
		// They get their names now, which the labels have too.
		if err := claim(); err != nil {
			return err
		}
		claim = func() error { return nil }
	}
	labels := e.cfg.Store.labels(c.rec)
	wg.Go(func() {
		defer panics.Catch(&errs[0])
		if c.root, errs[0] = e.rt.Prepare(ctx, c.id, img.Parent, labels); errdefs.IsNotFound(errs[0]) {
			// The image came by other hands than ours and is not unpacked.
			if errs[0] = e.images.Unpack(ctx, img); errs[0] == nil {
				c.root, errs[0] = e.rt.Prepare(ctx, c.id, img.Parent, labels)
			}
		}
		if errs[0] == nil {
			errs[0] = rootfs.Layers(c.root.Layers()).Initialize()
		}
	})
	wg.Go(func() { errs[1] = os.Mkdir(e.dir(c.id), 0o710) })
	wg.Go(func() {
		defer panics.Catch(&errs[2])
		errs[2] = claim()
	})
	wg.Wait()
	err := errors.Join(errs...)
	if err == nil {
		err = e.fillVolumes(ctx, c)
	}
	crashpoint.Here("engine-create-made")
	if err == nil {
		err = e.cfg.Store.Put(c.id, c.rec)
	}
	if err == nil {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	return errors.Join(err, e.rt.RemoveSnapshot(ctx, c.id), os.RemoveAll(e.dir(c.id)))
}

// decide makes the record out of the request, its image and the defaults.
func (e *Engine) decide(ctx context.Context, req CreateRequest) (rec Record, warnings []string, img image.Image, err error) {
	if req.Config == nil {
		return rec, nil, img, fmt.Errorf("config cannot be empty in order to create a container: %w", errdefs.ErrInvalidArgument)
	}
	if err := wellformed.Check(req); err != nil {
		return rec, nil, img, err
	}
	config, host := *req.Config, container.HostConfig{}
	if req.HostConfig != nil {
		host = *req.HostConfig
	}
	e.cfg.record(&host)
	if err := errors.Join(refuse(&config, &host), e.cfg.checkDenied(&host)); err != nil {
		return rec, nil, img, err
	}
	host.LogConfig = logconfig.Merge(host.LogConfig, e.cfg.LogConfig)
	if err := logconfig.Check(host.LogConfig); err != nil {
		return rec, nil, img, err
	}
	if warnings, err = e.fitLimits(&host); err != nil {
		return rec, nil, img, err
	}
	warnings = append(warnings, e.cfg.deniedWarnings(&host)...)
	if err := errors.Join(checkAppArmor(&host), e.decideNamespaces(&host)); err != nil {
		return rec, nil, img, err
	}
	if img, err = e.imageFor(ctx, config.Image, req.Platform); err != nil {
		return rec, nil, img, err
	}
	rec = Record{
		ID: newID(), Created: time.Now().UTC(), Config: &config, HostConfig: &host,
		ImageID: img.ID.String(), ImageName: img.Name,
	}
	warnings = append(warnings, inherit(&config, img)...)
	if err := wellformed.Check(config); err != nil {
		return rec, nil, img, fmt.Errorf("image %s: %w", config.Image, err)
	}
	if len(config.Entrypoint) == 0 && len(config.Cmd) == 0 {
		return rec, nil, img, fmt.Errorf("no command specified: %w", errdefs.ErrInvalidArgument)
	}
	if err := e.decideNetwork(&rec, req.NetworkingConfig); err != nil {
		return rec, nil, img, err
	}
	warnings = append(warnings, e.unpublished(rec)...)
	if err := e.decideHostname(&rec); err != nil {
		return rec, nil, img, err
	}
	if err := e.decideMounts(&rec); err != nil {
		return rec, nil, img, err
	}
	if e.wantsInit(&host) {
		if _, err := e.initPath(); err != nil {
			return rec, nil, img, err
		}
	}
	// What the specification would refuse at the start is refused now.
	if _, err := oci.Spec(oci.Container{ID: rec.ID, Config: &config, HostConfig: &host, Args: rec.args()}); err != nil {
		return rec, nil, img, err
	}
	if _, err := e.extraHosts(rec); err != nil {
		return rec, nil, img, err
	}
	return rec, warnings, img, nil
}

// inherit fills in from the image what the request left open, by Docker's rules:
// a given entrypoint does away with the image's command.
func inherit(c *container.Config, img image.Image) (warnings []string) {
	from := img.Config.Config
	if len(c.Entrypoint) == 0 {
		if len(c.Cmd) == 0 {
			c.Cmd = slices.Clone(from.Cmd)
		}
		if c.Entrypoint == nil {
			c.Entrypoint = slices.Clone(from.Entrypoint)
		}
	}
	if len(c.Entrypoint) == 1 && c.Entrypoint[0] == "" {
		c.Entrypoint = nil // how a client asks for none
	}
	c.Env = oci.MergeEnv(from.Env, c.Env)
	if c.User == "" {
		c.User = from.User
	}
	if c.WorkingDir == "" {
		c.WorkingDir = from.WorkingDir
	}
	if c.StopSignal == "" {
		c.StopSignal = from.StopSignal
	}
	labels := maps.Clone(from.Labels)
	if labels == nil {
		labels = make(map[string]string)
	}
	maps.Copy(labels, c.Labels)
	c.Labels = labels
	exposed := maps.Clone(c.ExposedPorts)
	for s := range from.ExposedPorts {
		p, err := network.ParsePort(s)
		if err != nil || p.Num() == 0 {
			warnings = append(warnings, fmt.Sprintf("the image exposes %q, which is not a port; it is ignored", s))
			continue
		}
		if exposed == nil {
			exposed = make(network.PortSet)
		}
		exposed[p] = struct{}{}
	}
	c.ExposedPorts = exposed
	if len(from.Volumes) > 0 {
		volumes := maps.Clone(from.Volumes)
		maps.Copy(volumes, c.Volumes)
		c.Volumes = volumes
	}
	c.Healthcheck = inheritHealth(c.Healthcheck, from.Healthcheck)
	return warnings
}

// decideHostname: a container is called by its short ID unless told otherwise,
// and in the host's or another's network as they are.
func (e *Engine) decideHostname(rec *Record) error {
	h, c := rec.HostConfig, rec.Config
	switch {
	case h.NetworkMode.IsContainer():
		if c.Hostname != "" {
			return fmt.Errorf("conflicting options: hostname and the network mode: %w", errdefs.ErrInvalidArgument)
		}
		other, err := e.registry.find(h.NetworkMode.ConnectedContainer())
		if err != nil {
			return err
		}
		c.Hostname, c.Domainname = other.record().Config.Hostname, other.record().Config.Domainname
	case h.UTSMode.IsHost():
		if c.Hostname != "" {
			return fmt.Errorf("conflicting options: hostname and the UTS mode: %w", errdefs.ErrInvalidArgument)
		}
		fallthrough
	case h.NetworkMode.IsHost() && c.Hostname == "":
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("find the host's name: %w", err)
		}
		c.Hostname = name
	case c.Hostname == "":
		c.Hostname = short(rec.ID)
	}
	for what, name := range map[string]string{"hostname": c.Hostname, "domain name": c.Domainname} {
		if name == "" {
			continue
		}
		if err := wellformed.HostName(name); err != nil {
			return fmt.Errorf("invalid %s: %w", what, err)
		}
		if len(name) > 64 { // __NEW_UTS_LEN of uname(2)
			return fmt.Errorf("invalid %s %q: want at most 64 bytes: %w", what, name, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}
