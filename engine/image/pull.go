package image

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/jsonstream"
	apiregistry "github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead/fairlead/engine/distribution"
	"github.com/fairlead/fairlead/internal/panics"
)

// PullOptions are what a pull may be told.
type PullOptions struct {
	// Platform is the one to take of an image of several; nil is the host's.
	Platform *ocispec.Platform
	Auth     apiregistry.AuthConfig
	// Progress is told of each step, as Docker's clients show them; by one
	// goroutine at a time.
	Progress func(jsonstream.Message)
}

// keptTime is how long what an unfinished pull has brought is kept, for another to
// go on with.
const keptTime = 15 * time.Minute

// pull is one image on its way in.
type pull struct {
	*Store
	ref      reference.Named
	session  *distribution.Session
	fetcher  remotes.Fetcher
	platform platforms.MatchComparer
	asked    *ocispec.Platform
	teller
	// brought is whether anything came that was not there.
	brought bool
}

// Pull gets the image that a registry has under the name, a tag or a digest, and
// gives it that name here.
func (s *Store) Pull(ctx context.Context, ref reference.Named, o PullOptions) (Image, error) {
	c, err := distribution.Open(s.registries(), ref, o.Auth, nil)
	if err != nil {
		return Image{}, err
	}
	defer c.Close()
	p := &pull{Store: s, ref: ref, session: c, platform: s.platform, asked: o.Platform, teller: teller{pass: o.Progress}}
	if o.Platform != nil {
		p.platform = platforms.Only(*o.Platform)
	}
	// The lease keeps what is brought from being collected until it has a name.
	lease, err := s.client.LeasesService().Create(ctx, leases.WithRandomID(), leases.WithExpiration(24*time.Hour))
	if err != nil {
		return Image{}, fmt.Errorf("pull %s: %w", reference.FamiliarString(ref), err)
	}
	target, err := p.run(leases.WithLease(ctx, lease.ID))
	s.endLease(context.WithoutCancel(ctx), lease, err)
	if err != nil {
		return Image{}, err
	}
	in, err := s.client.ImageService().Get(ctx, ref.String())
	if err != nil {
		return Image{}, fmt.Errorf("pull %s: %w", reference.FamiliarString(ref), err)
	}
	s.changed(target.Digest)
	return s.fill(ctx, in)
}

// endLease lets go of what was pulled, at once or, where it was cut off, in a while.
func (s *Store) endLease(ctx context.Context, lease leases.Lease, err error) {
	service := s.client.LeasesService()
	if err != nil && distribution.Transient(err) {
		later, failed := service.Create(ctx, leases.WithRandomID(), leases.WithExpiration(keptTime))
		if failed == nil {
			resources, _ := service.ListResources(ctx, lease)
			for _, r := range resources {
				_ = service.AddResource(ctx, later, r) // only to save time later
			}
		}
	}
	_ = service.Delete(ctx, lease) // it ends by itself in a day
}

func (p *pull) run(ctx context.Context) (ocispec.Descriptor, error) {
	_, target, err := p.session.Resolver.Resolve(ctx, p.ref.String())
	if err != nil {
		return target, distribution.Refused("pull", p.ref, err)
	}
	if p.fetcher, err = p.session.Resolver.Fetcher(ctx, p.ref.String()); err != nil {
		return target, distribution.Refused("pull", p.ref, err)
	}
	p.tell(version(p.ref), "Pulling from "+reference.Path(p.ref), nil)
	manifest, config, err := p.describe(ctx, target)
	if err != nil {
		return target, distribution.Inside(p.ref, err)
	}
	if err := p.layers(ctx, manifest, config); err != nil {
		return target, distribution.Inside(p.ref, err)
	}
	old, err := p.client.ImageService().Get(ctx, p.ref.String())
	isNew := p.brought || err != nil || old.Target.Digest != target.Digest
	if err := p.name(ctx, p.ref.String(), target, labelRegistry, "true"); err != nil {
		return target, err
	}
	p.tell("", "Digest: "+target.Digest.String(), nil)
	if isNew {
		p.tell("", "Status: Downloaded newer image for "+reference.FamiliarString(p.ref), nil)
	} else {
		p.tell("", "Status: Image is up to date for "+reference.FamiliarString(p.ref), nil)
	}
	return target, nil
}

// version is the tag or digest of a name.
func version(ref reference.Named) string {
	switch r := ref.(type) {
	case reference.Digested:
		return r.Digest().String()
	case reference.Tagged:
		return r.Tag()
	}
	return ""
}

// describe brings the manifest of the wanted platform, those above it, and the
// image's configuration.
func (p *pull) describe(ctx context.Context, target ocispec.Descriptor) (m ocispec.Manifest, config dockerspec.DockerOCIImage, err error) {
	desc, raw := target, []byte(nil)
	for range 4 { // indexes may have indexes
		if raw, err = p.small(ctx, desc); err != nil {
			return m, config, err
		}
		if !images.IsIndexType(desc.MediaType) {
			break
		}
		if desc, err = p.choose(ctx, desc, raw); err != nil {
			return m, config, err
		}
	}
	if !images.IsManifestType(desc.MediaType) {
		return m, config, distribution.Refuse(errdefs.ErrInvalidArgument, "%s is no image: unsupported media type %s", reference.FamiliarString(p.ref), desc.MediaType)
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, config, distribution.Refuse(errdefs.ErrInvalidArgument, "the manifest of %s cannot be read: %w", reference.FamiliarString(p.ref), err)
	}
	if !images.IsConfigType(m.Config.MediaType) {
		return m, config, distribution.Refuse(errdefs.ErrInvalidArgument, "%s is no image: unsupported media type %s of its configuration", reference.FamiliarString(p.ref), m.Config.MediaType)
	}
	if err := sound(m); err != nil {
		return m, config, distribution.Refuse(errdefs.ErrInvalidArgument, "%s is no image: %w", reference.FamiliarString(p.ref), err)
	}
	if raw, err = p.small(ctx, m.Config); err != nil {
		return m, config, err
	}
	if err := json.Unmarshal(raw, &config); err != nil {
		return m, config, distribution.Refuse(errdefs.ErrInvalidArgument, "the configuration of %s cannot be read: %w", reference.FamiliarString(p.ref), err)
	}
	if err := p.checkConfig(m, config); err != nil {
		return m, config, err
	}
	return m, config, p.refer(ctx, desc)
}

func (p *pull) checkConfig(m ocispec.Manifest, config dockerspec.DockerOCIImage) error {
	have := config.Platform
	if p.asked != nil && have.Architecture != "" && !p.platform.Match(platforms.Normalize(have)) {
		return distribution.Refuse(errdefs.ErrNotFound, "image with reference %s was found but does not match the specified platform: wanted %s, actual: %s",
			reference.FamiliarString(p.ref), platforms.Format(*p.asked), platforms.Format(have))
	}
	if have.OS != "" && have.OS != "linux" {
		return distribution.Refuse(errdefs.ErrInvalidArgument, "image %s is of the operating system %q, which cannot be used on this host", reference.FamiliarString(p.ref), have.OS)
	}
	if len(m.Layers) != len(config.RootFS.DiffIDs) {
		return distribution.Refuse(errdefs.ErrInvalidArgument, "the manifest of %s has %d layers, its configuration %d", reference.FamiliarString(p.ref), len(m.Layers), len(config.RootFS.DiffIDs))
	}
	for _, l := range m.Layers {
		if !images.IsLayerType(l.MediaType) {
			return distribution.Refuse(errdefs.ErrInvalidArgument, "%s is no image: unsupported media type %s of a layer", reference.FamiliarString(p.ref), l.MediaType)
		}
	}
	return nil
}

// small brings what is read whole: a manifest or a configuration.
func (p *pull) small(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Size > docker.MaxManifestSize {
		return nil, distribution.Refuse(errdefs.ErrInvalidArgument, "%s of %s has %d bytes, which is too large", desc.MediaType, reference.FamiliarString(p.ref), desc.Size)
	}
	if _, err := p.client.ContentStore().Info(ctx, desc.Digest); errdefs.IsNotFound(err) {
		p.brought = true
	}
	t := &transfer{} // nobody watches
	if err := p.fetch(ctx, t, desc, p.fetcher); err != nil {
		return nil, err
	}
	return content.ReadBlob(ctx, p.client.ContentStore(), desc)
}

// choose picks the manifest of the wanted platform out of an index.
func (p *pull) choose(ctx context.Context, desc ocispec.Descriptor, raw []byte) (best ocispec.Descriptor, err error) {
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return best, distribution.Refuse(errdefs.ErrInvalidArgument, "the index of %s cannot be read: %w", reference.FamiliarString(p.ref), err)
	}
	// Also of other platforms: the index is kept as it is.
	if err := valid(index.Manifests); err != nil {
		return best, distribution.Refuse(errdefs.ErrInvalidArgument, "the index of %s is not valid: %w", reference.FamiliarString(p.ref), err)
	}
	found := false
	for _, d := range index.Manifests {
		if d.Platform != nil && !p.platform.Match(platforms.Normalize(*d.Platform)) {
			continue
		}
		if !found || (d.Platform != nil && (best.Platform == nil || p.platform.Less(*d.Platform, *best.Platform))) {
			best, found = d, true
		}
	}
	if !found {
		want := platforms.DefaultSpec()
		if p.asked != nil {
			want = *p.asked
		}
		return best, distribution.Refuse(errdefs.ErrNotFound, "no matching manifest for %s in the manifest list entries", platforms.Format(want))
	}
	return best, p.refer(ctx, desc)
}

// refer notes in the store what the manifest or index refers to: so long as it is
// wanted so are they.
func (p *pull) refer(ctx context.Context, desc ocispec.Descriptor) error {
	store := p.client.ContentStore()
	h := images.SetChildrenMappedLabels(store, images.ChildrenHandler(store), nil)
	_, err := h(ctx, desc)
	return err
}

// layers brings the layers, several at once, and unpacks them in turn as they come.
func (p *pull) layers(ctx context.Context, m ocispec.Manifest, config dockerspec.DockerOCIImage) error {
	g, ctx := errgroup.WithContext(ctx)
	there := make([]chan struct{}, len(m.Layers))
	known := 0
	for known < len(m.Layers) && p.has(ctx, m.Layers[known], identity.ChainID(config.RootFS.DiffIDs[:known+1]).String()) {
		known++
	}
	for i, l := range m.Layers {
		there[i] = make(chan struct{})
		if i < known {
			p.step(l, "Already exists")
			close(there[i])
			continue
		}
		p.brought = true
		p.step(l, "Pulling fs layer")
	}
	for i, l := range m.Layers[known:] {
		g.Go(func() (err error) {
			defer panics.Catch(&err)
			if err := p.download(ctx, l); err != nil {
				return err
			}
			close(there[known+i])
			return nil
		})
	}
	g.Go(func() (err error) {
		defer panics.Catch(&err)
		return p.extract(ctx, m, config, known, there)
	})
	return g.Wait()
}

// has says whether the layer is stored and unpacked.
func (p *pull) has(ctx context.Context, layer ocispec.Descriptor, chain string) bool {
	if _, err := p.client.ContentStore().Info(ctx, layer.Digest); err != nil {
		return false
	}
	_, err := p.client.SnapshotService(p.snapshotter).Stat(ctx, chain)
	return err == nil
}

// download brings one layer, by a transfer of this pull's or of another's.
func (p *pull) download(ctx context.Context, l ocispec.Descriptor) error {
	for {
		t, mine, leave := p.transfer(l, p.fetcher)
		err := p.follow(ctx, l, t)
		leave()
		if err == nil {
			p.step(l, "Download complete")
			return nil
		}
		if mine || ctx.Err() != nil {
			return err
		}
		// It was another's, who may have less of a right to it, or went away.
	}
}

// follow tells how the transfer goes on until it is done.
func (p *pull) follow(ctx context.Context, l ocispec.Descriptor, t *transfer) error {
	tick := time.NewTicker(progressTime)
	defer tick.Stop()
	var told int64 = -1
	var retries int32
	waiting := false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.done:
			return t.err
		case <-tick.C:
		}
		if !t.running.Load() {
			if !waiting {
				p.step(l, "Waiting")
			}
			waiting = true
			continue
		}
		if n := t.retries.Load(); n != retries {
			retries = n
			p.step(l, "Retrying")
		}
		if n := t.current.Load(); n != told && n > 0 {
			told = n
			p.tell(shortDigest(l), "Downloading", &jsonstream.Progress{Current: n, Total: t.total})
		}
	}
}
