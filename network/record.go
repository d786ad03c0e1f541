package network

import (
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/network/spec"
)

// record is what the journal keeps of an operation: the value its steps are made
// from.
type record struct {
	Attachment *spec.Attachment `json:"attachment,omitempty"`
	Network    *spec.Network    `json:"network,omitempty"`
}

// Whole is one of store.Whole.
func (r record) Whole(id string) error {
	switch a, n := r.Attachment, r.Network; {
	case a != nil && a.Sandbox.ID == id && a.Sandbox.Path != "" && n == nil:
	case n != nil && n.ID == id && n.Bridge != "" && a == nil:
	default:
		return fmt.Errorf("it is no sandbox's nor network's of this name: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}
