package socket

import (
	"net"
	"net/netip"
	"testing"

	"github.com/containerd/errdefs"
)

func TestListenOpen(t *testing.T) {
	t.Parallel()
	loopback := netip.MustParseAddr("127.0.0.1")
	for _, proto := range []string{"tcp", "udp"} {
		f, at, err := ListenOpen(proto, netip.AddrPortFrom(loopback, 0))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if at.Addr() != loopback || at.Port() == 0 {
			t.Errorf("%s is bound to %s", proto, at)
		}
		c, err := net.Dial(proto, at.String())
		if err != nil {
			t.Errorf("%s takes nothing in: %v", proto, err)
			continue
		}
		_ = c.Close()
		if _, _, err := ListenOpen(proto, at); !errdefs.IsConflict(err) {
			t.Errorf("%s twice: %v", proto, err)
		}
	}
	for name, c := range map[string]struct {
		proto, at string
		is        func(error) bool
	}{
		"another protocol": {"sctp", "127.0.0.1:0", errdefs.IsInvalidArgument},
		"IPv6":             {"udp", "[::1]:0", errdefs.IsInvalidArgument},
		"not ours":         {"udp", "192.0.2.1:0", errdefs.IsInvalidArgument},
	} {
		if _, _, err := ListenOpen(c.proto, netip.MustParseAddrPort(c.at)); !c.is(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
