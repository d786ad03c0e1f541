package engine

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fairlead/fairlead/engine/image"
)

// parsePlatform reads OS/ARCHITECTURE[/VARIANT]; "" is nil.
func parsePlatform(text string) (*ocispec.Platform, error) {
	if text == "" {
		return nil, nil
	}
	p, err := platforms.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("invalid platform %q: want OS/ARCHITECTURE, as linux/arm64: %w", text, errdefs.ErrInvalidArgument)
	}
	return &p, nil
}

// imageFor finds an image as it is for the platform; "" is the host's.
func (e *Engine) imageFor(ctx context.Context, ref, platform string) (image.Image, error) {
	p, err := parsePlatform(platform)
	if err != nil {
		return image.Image{}, err
	}
	img, err := e.images.Get(ctx, ref)
	if err != nil || p == nil {
		return img, err
	}
	return e.images.For(ctx, img, *p)
}
