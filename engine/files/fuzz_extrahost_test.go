package files

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// FuzzExtraHost: what is taken for an extra host is one name and one address, in a hosts
// file too.
func FuzzExtraHost(f *testing.F) {
	gateways := []netip.Addr{netip.MustParseAddr("172.17.0.1"), netip.MustParseAddr("fd00::1")}
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := ParseExtraHost(text, gateways)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		file := string(AppendHosts(nil, entries))
		if strings.Count(file, "\n") != len(entries) || len(entries) == 0 || len(entries) > len(gateways) {
			t.Errorf("%q: %q", text, file)
		}
		for line := range strings.Lines(file) {
			fields := strings.Fields(line)
			if len(fields) != 2 || !strings.HasPrefix(text, fields[1]+":") || strings.ContainsAny(line, "#\r") {
				t.Errorf("%q: line %q", text, line)
				continue
			}
			if _, err := netip.ParseAddr(fields[0]); err != nil {
				t.Errorf("%q: %v", text, err)
			}
		}
	})
}
