package engine

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"

	"github.com/fairlead/fairlead/engine/image"
)

// checkPlatform refuses an image of another platform than was asked for: no other is
// looked for elsewhere. An image that says nothing of its own is the host's.
func checkPlatform(asked, name string, img image.Image) error {
	if asked == "" {
		return nil
	}
	want, err := platforms.Parse(asked)
	if err != nil {
		return fmt.Errorf("invalid platform %q: want OS/ARCHITECTURE, as linux/arm64: %w", asked, errdefs.ErrInvalidArgument)
	}
	have := img.Config.Platform
	if have.Architecture == "" {
		have = platforms.DefaultSpec()
	}
	if !platforms.OnlyStrict(want).Match(platforms.Normalize(have)) {
		return fmt.Errorf("image %s is of %s, not of the platform asked for (%s): %w", name, platforms.Format(have), platforms.Format(want), errdefs.ErrInvalidArgument)
	}
	return nil
}
