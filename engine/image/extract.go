package image

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/containerd/containerd/v2/pkg/rootfs"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// extract unpacks the layers after the known ones, each once it is there.
func (p *pull) extract(ctx context.Context, m ocispec.Manifest, config dockerspec.DockerOCIImage, known int, there []chan struct{}) error {
	diffs := config.RootFS.DiffIDs
	for i, l := range m.Layers[known:] {
		at := known + i
		select {
		case <-there[at]:
		case <-ctx.Done():
			return ctx.Err()
		}
		layer := rootfs.Layer{Blob: l, Diff: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: diffs[at]}}
		stop := p.extracting(l)
		chain := identity.ChainID(diffs[:at+1]).String()
		unlock, err := p.applying.lock(ctx, chain)
		if err == nil {
			_, err = rootfs.ApplyLayerWithOpts(ctx, layer, diffs[:at], p.client.SnapshotService(p.snapshotter), p.client.DiffService(), nil, nil)
			unlock()
		}
		stop()
		if err != nil {
			return fmt.Errorf("unpack layer %s: %w", l.Digest, err)
		}
		if err := p.label(ctx, l, map[string]string{labels.LabelUncompressed: diffs[at].String(), p.sourceLabel(): reference.Path(p.ref)}); err != nil {
			return err
		}
		p.step(l, "Pull complete")
	}
	if len(diffs) == 0 {
		return nil
	}
	return p.label(ctx, m.Config, map[string]string{"containerd.io/gc.ref.snapshot." + p.snapshotter: identity.ChainID(diffs).String()})
}

// sourceLabel is the label of blobs that the registry has, in the repository that is
// its value: there another repository of the same registry can have them from.
func (p *pull) sourceLabel() string {
	return labels.LabelDistributionSource + "." + reference.Domain(p.ref)
}

func (s *Store) label(ctx context.Context, desc ocispec.Descriptor, add map[string]string) error {
	var paths []string
	for key := range add {
		paths = append(paths, "labels."+key)
	}
	_, err := s.client.ContentStore().Update(ctx, content.Info{Digest: desc.Digest, Labels: add}, paths...)
	return err
}

// extracting tells each second that a layer is still being unpacked, until stopped.
func (p *pull) extracting(l ocispec.Descriptor) (stop func()) {
	began := time.Now()
	ended, gone := make(chan struct{}), make(chan struct{})
	p.tell(shortDigest(l), "Extracting", &jsonstream.Progress{Current: 1, Units: "s"})
	go func() {
		defer close(gone)
		for tick := time.NewTicker(time.Second); ; {
			select {
			case <-ended:
				tick.Stop()
				return
			case <-tick.C:
				p.tell(shortDigest(l), "Extracting", &jsonstream.Progress{Current: int64(time.Since(began).Seconds()) + 1, Units: "s"})
			}
		}
	}()
	return func() {
		close(ended)
		<-gone
	}
}
