package fdpass

import (
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/internal/faultpoint"
)

// fault is the error that a test wants of a call, helper.METHOD and a suffix: what one
// gets whose peer is gone.
func fault(method, suffix string) error {
	if !faultpoint.Armed() {
		return nil
	}
	if err := faultpoint.Here("helper." + method + suffix); err != nil {
		return fmt.Errorf("%s: %w (%w)", method, errdefs.ErrUnavailable, err)
	}
	return nil
}
