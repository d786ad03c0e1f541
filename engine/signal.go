package engine

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// parseSignal reads a signal's name, with or without SIG, or its number. The
// real-time ones are RTMIN+N and RTMAX-N as glibc counts them, see signal(7).
func parseSignal(s string) (int, error) {
	const rtmin, rtmax = 34, 64
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n <= rtmax {
		return n, nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if n := unix.SignalNum("SIG" + name); n != 0 {
		return int(n), nil
	}
	base, offset := rtmin, strings.TrimPrefix(name, "RTMIN")
	if offset == name {
		base, offset = rtmax, strings.TrimPrefix(name, "RTMAX")
	}
	if offset != name {
		n, err := strconv.Atoi(offset)
		if offset == "" {
			n, err = 0, nil
		}
		if err == nil && base+n >= rtmin && base+n <= rtmax {
			return base + n, nil
		}
	}
	return 0, fmt.Errorf("invalid signal: %s: %w", s, errdefs.ErrInvalidArgument)
}
