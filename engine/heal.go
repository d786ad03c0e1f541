package engine

import (
	"context"

	"github.com/fairlead/fairlead/network/spec"
)

// Healing is what was put back of the network, and what differs now.
type Healing = spec.Healing

// PauseHealing leaves what other programs change of the network as it is.
func (e *Engine) PauseHealing() { e.cfg.Network.PauseHealing() }

// ResumeHealing puts all of that back, and goes on.
func (e *Engine) ResumeHealing() { e.cfg.Network.ResumeHealing() }

// Healing says what was put back, and what of the network differs now.
func (e *Engine) Healing(ctx context.Context) (Healing, error) {
	return e.cfg.Network.Healing(ctx)
}
