package image

import (
	"fmt"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxLayers is how many layers an image may have, as Docker's: a container is mounted
// in one system call, whose options have to fit into a page.
const maxLayers = 127

// sound refuses a manifest that nobody can have made in earnest, before anything that
// it names is asked for. Errors are errdefs.ErrInvalidArgument.
func sound(m ocispec.Manifest) error {
	if n := len(m.Layers); n > maxLayers {
		return fmt.Errorf("max depth exceeded: the image has %d layers, more than %d: %w", n, maxLayers, errdefs.ErrInvalidArgument)
	}
	for _, d := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if err := d.Digest.Validate(); err != nil {
			return fmt.Errorf("invalid digest %.100q in the manifest: %w: %w", d.Digest.String(), err, errdefs.ErrInvalidArgument)
		}
		if d.Size < 0 {
			return fmt.Errorf("invalid size %d of %s in the manifest: %w", d.Size, d.Digest, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}
