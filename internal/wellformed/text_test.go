package wellformed_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/internal/wellformed"
)

func TestHostName(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"a", "web-1", "_srv._tcp.example.org", "example.org.", "10", "xn--e1awd7f", "a--b", "web-", strings.Repeat("a", 63)} {
		if err := wellformed.HostName(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{
		"", ".", "..", "a..b", ".a", "a..", "../x", "a/b", "a b", "a\tb", "a\nb", "a\rb", "a\x00b", "a#b", "a;b", "-rf", "a.-b", "$(x)", "`x`", "a\"b",
		"a:b", "a,b", "*.a", "\u0430dmin", "a\u202eb", "b\xff", strings.Repeat("a", 64), strings.Repeat("a.", 127) + "a",
	} {
		if err := wellformed.HostName(bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestAddrZones: a zone is an interface, and no way to bring in lines of one's own.
func TestAddrZones(t *testing.T) {
	t.Parallel()
	for text, good := range map[string]bool{
		"1.2.3.4": true, "fe80::1": true, "fe80::1%eth0": true, "fe80::1%br-0123456789ab": true,
		"fe80::1%a\n6.6.6.6 example.org": false, "fe80::1%a b": false, "fe80::1%\"": false, "fe80::1%0123456789abcdef": false,
	} {
		a := netip.MustParseAddr(text)
		if err := wellformed.Addr(a); (err == nil) != good || err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", text, err)
		}
		raw, err := json.Marshal(map[string]any{"HostConfig": map[string]any{"Dns": []string{text}}})
		if err != nil {
			t.Fatal(err)
		}
		var req container.CreateRequest
		if err := json.Unmarshal(raw, &req); err != nil {
			t.Fatal(err)
		}
		if err := wellformed.Check(&req); (err == nil) != good || err != nil && !strings.Contains(err.Error(), "HostConfig.Dns[0]") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
