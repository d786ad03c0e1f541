package wellformed

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/containerd/errdefs"
)

// lengths of names in the DNS, in bytes (RFC 1035, 2.3.4).
const (
	maxName  = 253
	maxLabel = 63
)

// HostName refuses what no host can be called in /etc/hosts, in a search list and in
// the DNS alike: labels of letters, digits, hyphens and, as people use them, underscores
// (RFC 1123, 2.1), with a dot between and at most one behind. Names in other scripts are
// written as their xn-- form; whoever reads one could not tell it from another.
func HostName(name string) error {
	whole := strings.TrimSuffix(name, ".")
	if whole == "" || len(whole) > maxName {
		return badName(name, "want 1 to 253 bytes")
	}
	for label := range strings.SplitSeq(whole, ".") {
		switch {
		case label == "" || len(label) > maxLabel:
			return badName(name, "want 1 to 63 bytes between two dots")
		case label[0] == '-':
			return badName(name, "it begins with a hyphen")
		case strings.ContainsFunc(label, func(c rune) bool { return !wordRune(c) && c != '-' }):
			return badName(name, "want letters, digits, '-', '_' and '.'; a name in another script is written as xn--…")
		}
	}
	return nil
}

func badName(name, why string) error {
	if len(name) > maxName {
		name = name[:maxName] + "…"
	}
	return fmt.Errorf("%q is not a host name: %s: %w", name, why, errdefs.ErrInvalidArgument)
}

func wordRune(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}

// Addr refuses an address whose zone is no interface's name: netip takes any text for
// one, line ends too.
func Addr(a netip.Addr) error {
	zone := a.Zone()
	if len(zone) > 15 || strings.ContainsFunc(zone, func(c rune) bool { return !wordRune(c) && c != '-' && c != '.' }) {
		return fmt.Errorf("invalid address %q: its zone is not the name of an interface: %w", a, errdefs.ErrInvalidArgument)
	}
	return nil
}
