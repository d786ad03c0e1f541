package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	apievents "github.com/moby/moby/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fairlead/fairlead/engine/archive"
	"github.com/fairlead/fairlead/engine/image"
	"github.com/fairlead/fairlead/engine/oci"
)

// CommitOptions say what the image is called and tells of itself.
type CommitOptions struct {
	// Name is a reference; "" leaves the image without one.
	Name            string
	Author, Message string
	// Changes are instructions as in a Dockerfile.
	Changes []string
	// Config goes over the container's, if given.
	Config *container.Config
	// Pause freezes the container meanwhile.
	Pause bool
}

// Commit makes an image of the container's image and what the container has written
// since, without what is mounted in it, and returns the image's ID.
func (e *Engine) Commit(ctx context.Context, ref string, o CommitOptions) (id string, err error) {
	leave, err := e.enter()
	if err != nil {
		return "", err
	}
	defer leave()
	c, err := e.registry.find(ref)
	if err != nil {
		return "", err
	}
	rec := c.record()
	if rec.State.Removing || c.isGone() {
		return "", fmt.Errorf("You cannot commit container %s which is being removed: %w", c.id, errdefs.ErrConflict) //nolint:staticcheck // Docker's words
	}
	config, err := committed(rec, o)
	if err != nil {
		return "", err
	}
	if o.Pause && rec.State.Running && !rec.State.Paused {
		if err := e.Pause(ctx, c.id); err != nil && !errdefs.IsConflict(err) { // it has ended, or is paused
			return "", err
		} else if err == nil {
			defer func() {
				if unpaused := e.Unpause(context.WithoutCancel(ctx), c.id); unpaused != nil && !errdefs.IsConflict(unpaused) {
					err = errors.Join(err, unpaused)
				}
			}()
		}
	}
	base, write, finish, err := e.commitLayer(ctx, rec)
	if err != nil {
		return "", err
	}
	defer finish()
	id, err = e.images.Commit(ctx, base, o.Name, image.CommitOptions{
		Config: config, Author: o.Author, Message: o.Message, CreatedBy: strings.Join(rec.Config.Cmd, " "),
	}, write)
	if err != nil {
		return "", fmt.Errorf("commit container %s: %w", rec.Name, err)
	}
	more := []string{"imageID", id, "comment", o.Message}
	if o.Name != "" {
		more = append(more, "imageRef", familiar(o.Name))
	}
	e.emitContainer(rec, apievents.ActionCommit, more...)
	if img, err := e.images.Get(ctx, id); err == nil && o.Name != "" {
		e.emitImage(apievents.ActionTag, id, familiar(o.Name), img)
	}
	return id, nil
}

// commitLayer says what the container's image is, and how the layer above it is
// written. Of a container whose image is gone everything is in the one layer.
func (e *Engine) commitLayer(ctx context.Context, rec Record) (base *image.Image, write func(io.Writer) error, finish func(), err error) {
	fill := func(add func(*archive.Packer) error) func(io.Writer) error {
		return func(w io.Writer) error {
			return archive.Write(ctx, w, func(p *archive.Packer) error {
				p.Whole = true
				return add(p)
			})
		}
	}
	img, err := e.images.Get(ctx, rec.ImageID)
	if errdefs.IsNotFound(err) {
		root, err := e.bareRoot(ctx, rec.ID)
		if err != nil {
			return nil, nil, nil, err
		}
		return nil, fill(func(p *archive.Packer) error { return p.Root(root) }), func() { root.Close() }, nil
	}
	if err != nil {
		return nil, nil, nil, err
	}
	d, err := e.difference(ctx, rec.ID)
	return &img, fill(d.Pack), func() {}, err
}

// committed is the image's configuration: the request's with the changes, and the
// container's where they are silent.
func committed(rec Record, o CommitOptions) (dockerspec.DockerOCIImageConfig, error) {
	from := o.Config
	if from == nil {
		from = rec.Config
	}
	config, err := image.Change(imageConfig(from), o.Changes)
	if err != nil {
		return config, err
	}
	own := imageConfig(rec.Config)
	if len(config.Entrypoint) == 0 && len(config.Cmd) == 0 {
		config.Cmd = own.Cmd
	}
	if config.Entrypoint == nil {
		config.Entrypoint = own.Entrypoint
	}
	for _, text := range []struct {
		to   *string
		from string
	}{{&config.User, own.User}, {&config.WorkingDir, own.WorkingDir}, {&config.StopSignal, own.StopSignal}} {
		if *text.to == "" {
			*text.to = text.from
		}
	}
	if config.Healthcheck == nil {
		config.Healthcheck = own.Healthcheck
	}
	config.Env = oci.MergeEnv(own.Env, config.Env)
	config.Labels = merged(own.Labels, config.Labels)
	config.ExposedPorts = merged(own.ExposedPorts, config.ExposedPorts)
	config.Volumes = merged(own.Volumes, config.Volumes)
	return config, nil
}

// merged has what is in either, over's where both have it.
func merged[V any](own, over map[string]V) map[string]V {
	out := make(map[string]V, len(own)+len(over))
	maps.Copy(out, own)
	maps.Copy(out, over)
	if len(out) == 0 {
		return nil
	}
	return out
}

// imageConfig is what of a container's configuration an image can have. It may be
// changed.
func imageConfig(c *container.Config) dockerspec.DockerOCIImageConfig {
	out := dockerspec.DockerOCIImageConfig{
		ImageConfig: ocispec.ImageConfig{
			User: c.User, Env: slices.Clone(c.Env), Entrypoint: slices.Clone(c.Entrypoint), Cmd: slices.Clone(c.Cmd), Volumes: maps.Clone(c.Volumes),
			WorkingDir: c.WorkingDir, Labels: maps.Clone(c.Labels), StopSignal: c.StopSignal,
		},
		DockerOCIImageConfigExt: dockerspec.DockerOCIImageConfigExt{
			Healthcheck: c.Healthcheck, OnBuild: slices.Clone(c.OnBuild), Shell: slices.Clone(c.Shell),
		},
	}
	for p := range c.ExposedPorts {
		if out.ExposedPorts == nil {
			out.ExposedPorts = make(map[string]struct{})
		}
		out.ExposedPorts[p.String()] = struct{}{}
	}
	return out
}
