package firewall

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Mark is a packet's mark under a mask.
type Mark struct{ Value, Mask uint32 }

// ParseMark reads MARK[/MASK], numbers in decimal, or in hex after 0x, as iptables'
// mark match does.
func ParseMark(s string) (Mark, error) {
	value, mask, masked := strings.Cut(s, "/")
	m := Mark{Mask: math.MaxUint32}
	var err error
	if m.Value, err = parseUint32(value); err != nil {
		return Mark{}, fmt.Errorf("invalid firewall mark %q: %q is no number of 32 bits: %w", s, value, errdefs.ErrInvalidArgument)
	}
	if !masked {
		return m, nil
	}
	if m.Mask, err = parseUint32(mask); err != nil {
		return Mark{}, fmt.Errorf("invalid firewall mark %q: its mask %q is no number of 32 bits: %w", s, mask, errdefs.ErrInvalidArgument)
	}
	switch {
	case m.Mask == 0:
		return Mark{}, fmt.Errorf("invalid firewall mark %q: the mask 0 matches every packet: %w", s, errdefs.ErrInvalidArgument)
	case m.Value&^m.Mask != 0:
		return Mark{}, fmt.Errorf("invalid firewall mark %q: it has bits that its mask has not, so that no packet matches: %w", s, errdefs.ErrInvalidArgument)
	}
	return m, nil
}

func parseUint32(s string) (uint32, error) {
	n, err := strconv.ParseUint(strings.ReplaceAll(s, "_", "?"), 0, 32)
	return uint32(n), err
}
