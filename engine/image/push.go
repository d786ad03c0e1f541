package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/jsonstream"
	apiregistry "github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead/fairlead/engine/distribution"
	"github.com/fairlead/fairlead/internal/panics"
)

// PushOptions are what a push may be told.
type PushOptions struct {
	// Platform is the one to push of an image of several; nil is all that are here.
	Platform *ocispec.Platform
	Auth     apiregistry.AuthConfig
	// Progress is told of each step, as Docker's clients show them; by one
	// goroutine at a time.
	Progress func(jsonstream.Message)
}

// push is one image on its way out.
type push struct {
	*Store
	ref     reference.Named
	pusher  remotes.Pusher
	tracker docker.StatusTracker
	teller
}

// Push has the registry that the name is of hold the image under it.
func (s *Store) Push(ctx context.Context, ref reference.NamedTagged, o PushOptions) (Image, error) {
	in, err := s.client.ImageService().Get(ctx, ref.String())
	if errdefs.IsNotFound(err) {
		return Image{}, fmt.Errorf("An image does not exist locally with the tag: %s: %w", reference.FamiliarName(ref), errdefs.ErrNotFound) //nolint:staticcheck // Docker's words
	}
	if err != nil {
		return Image{}, fmt.Errorf("push %s: %w", reference.FamiliarString(ref), err)
	}
	target, parts, err := s.pushable(ctx, in, o.Platform)
	if err != nil {
		return Image{}, err
	}
	tracker := docker.NewInMemoryTracker()
	c, err := distribution.Open(s.registries(), ref, o.Auth, tracker)
	if err != nil {
		return Image{}, err
	}
	defer c.Close()
	p := &push{Store: s, ref: ref, tracker: tracker, teller: teller{pass: o.Progress}}
	// The digest is what the tag is for; what is below it goes by its own.
	if p.pusher, err = c.Resolver.Pusher(ctx, ref.String()+"@"+target.Digest.String()); err != nil {
		return Image{}, distribution.Refused("push", ref, err)
	}
	p.tell("", "The push refers to repository ["+ref.Name()+"]", nil)
	if err := p.all(ctx, parts); err != nil {
		return Image{}, distribution.Refused("push", ref, err)
	}
	if target.Digest == in.Target.Digest {
		// Now a registry has it by this name.
		if err := s.name(ctx, ref.String(), in.Target, labelRegistry, "true"); err != nil {
			return Image{}, err
		}
	} else {
		p.tell("", fmt.Sprintf("Not all multiplatform-content is present and only the available single-platform image was pushed: %s -> %s", in.Target.Digest, target.Digest), nil)
	}
	p.tell("", fmt.Sprintf("%s: digest: %s size: %d", ref.Tag(), target.Digest, target.Size), nil)
	p.aux(ref.Tag(), target)
	return s.fill(ctx, in)
}

// aux is the result for programs.
func (p *push) aux(tag string, target ocispec.Descriptor) {
	raw, err := json.Marshal(struct {
		Tag, Digest string
		Size        int64
	}{tag, target.Digest.String(), target.Size})
	if err == nil {
		p.send(jsonstream.Message{Progress: &jsonstream.Progress{}, Aux: (*json.RawMessage)(&raw)})
	}
}

// parts are what an image is made of, from below: blobs, their manifests, and the
// indexes of these.
type parts struct{ blobs, manifests, indexes []ocispec.Descriptor }

// pushable is what to push under the image's name: all of it, or where some is not
// here the manifest of one platform.
func (s *Store) pushable(ctx context.Context, in images.Image, platform *ocispec.Platform) (ocispec.Descriptor, parts, error) {
	var all parts
	if platform == nil {
		err := s.collect(ctx, in.Target, &all)
		if err == nil || !errdefs.IsNotFound(err) {
			return in.Target, all, err
		}
	}
	one, err := s.manifestFor(ctx, in.Target, platform)
	if err != nil {
		return one, all, fmt.Errorf("push %s: %w", familiar(in.Name), err)
	}
	all = parts{}
	if err := s.collect(ctx, one, &all); err != nil {
		return one, all, fmt.Errorf("push %s: a part of it is not here: %w", familiar(in.Name), err)
	}
	return one, all, nil
}

// collect finds everything below the descriptor; errdefs.ErrNotFound is what is not
// here.
func (s *Store) collect(ctx context.Context, desc ocispec.Descriptor, into *parts) error {
	store := s.client.ContentStore()
	info, err := store.Info(ctx, desc.Digest)
	if err != nil {
		return err
	}
	switch {
	case images.IsIndexType(desc.MediaType):
		into.indexes = append([]ocispec.Descriptor{desc}, into.indexes...)
	case images.IsManifestType(desc.MediaType):
		into.manifests = append(into.manifests, desc)
	default:
		for _, there := range into.blobs {
			if there.Digest == desc.Digest {
				return nil
			}
		}
		desc.Annotations = make(map[string]string)
		for key, value := range info.Labels {
			if len(key) > len(labels.LabelDistributionSource) && key[:len(labels.LabelDistributionSource)] == labels.LabelDistributionSource {
				desc.Annotations[key] = value
			}
		}
		into.blobs = append(into.blobs, desc)
		return nil
	}
	children, err := images.Children(ctx, store, desc)
	if err != nil {
		return err
	}
	for _, c := range children {
		if err := s.collect(ctx, c, into); err != nil {
			return err
		}
	}
	return nil
}

func (p *push) all(ctx context.Context, all parts) error {
	for _, b := range all.blobs {
		if images.IsLayerType(b.MediaType) {
			p.step(b, "Preparing")
		}
	}
	g, within := errgroup.WithContext(ctx)
	g.SetLimit(p.registries().Uploads())
	for _, b := range all.blobs {
		g.Go(func() (err error) {
			defer panics.Catch(&err)
			return p.one(within, b)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, d := range append(all.manifests, all.indexes...) {
		if err := p.one(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// one pushes a blob or manifest that the registry does not have.
func (p *push) one(ctx context.Context, desc ocispec.Descriptor) error {
	layer := images.IsLayerType(desc.MediaType)
	w, err := p.pusher.Push(ctx, desc)
	if errdefs.IsAlreadyExists(err) {
		if layer {
			p.step(desc, p.already(ctx, desc))
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer w.Close()
	from, err := p.client.ContentStore().ReaderAt(ctx, desc)
	if err != nil {
		return err
	}
	defer from.Close()
	sent := &sending{r: io.NewSectionReader(from, 0, desc.Size)}
	stop := func() {}
	if layer {
		stop = p.pushing(desc, &sent.n)
	}
	err = content.Copy(ctx, w, sent, desc.Size, desc.Digest)
	stop()
	if err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	if layer {
		p.step(desc, "Pushed")
		key := labels.LabelDistributionSource + "." + reference.Domain(p.ref)
		return p.label(ctx, desc, map[string]string{key: reference.Path(p.ref)})
	}
	return nil
}

// already says how it is that the registry has the layer.
func (p *push) already(ctx context.Context, desc ocispec.Descriptor) string {
	status, err := p.tracker.GetStatus(remotes.MakeRefKey(ctx, desc))
	if err == nil && status.MountedFrom != "" {
		return "Mounted from " + status.MountedFrom
	}
	return "Layer already exists"
}

// sending counts what was read to be sent.
type sending struct {
	r *io.SectionReader
	n atomic.Int64
}

func (s *sending) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	s.n.Add(int64(n))
	return n, err
}

// Seek begins again where the registry asks for it.
func (s *sending) Seek(offset int64, whence int) (int64, error) {
	at, err := s.r.Seek(offset, whence)
	s.n.Store(at)
	return at, err
}

// pushing tells how much of a layer was sent, until stopped.
func (p *push) pushing(desc ocispec.Descriptor, sent *atomic.Int64) (stop func()) {
	ended, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		tick := time.NewTicker(progressTime)
		defer tick.Stop()
		for told := int64(0); ; {
			select {
			case <-ended:
				return
			case <-tick.C:
			}
			if n := sent.Load(); n != told {
				told = n
				p.tell(shortDigest(desc), "Pushing", &jsonstream.Progress{Current: n, Total: desc.Size})
			}
		}
	}()
	return func() {
		close(ended)
		<-gone
	}
}
