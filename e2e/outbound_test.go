package e2e

import (
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestE5: outside sees the outbound address that a network was given, one of the
// host's, whatever the interface has first; other networks keep theirs.
func TestE5(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newSiteOn(t, backend)
		s.Must("network", "create", "--ipv6", "plain")
		for i, c := range []struct{ four, six string }{{host4, host6}, {second4, second6}} {
			name := "out" + itoa(i)
			s.Must("network", "create", "--ipv6", "-o", "com.docker.network.host_ipv4="+c.four, "-o", "com.docker.network.host_ipv6="+c.six, name)
			b := s.idle("--network", name)
			for range 2 { // the second time after a restart
				for _, proto := range []string{"tcp", "udp"} {
					for addr, want := range map[string]string{outside4: c.four, outside6: c.six} {
						srv := s.outside.Listen(proto, at(addr, "0"))
						if r := lab.Seen(t, b.Host, proto, srv.Addr.String()); r.Peer.Addr().String() != want {
							t.Errorf("outside sees %s by %s, want %s", r.Peer.Addr(), proto, want)
						}
						srv.Close()
					}
				}
				s.Must("exec", b.id, "ping", "-c1", "-W5", outside4)
				s.Restart()
			}
		}
		plain := s.idle("--network", "plain")
		srv := s.outside.Listen("tcp", at(outside4, "0"))
		if r := lab.Seen(t, plain.Host, "tcp", srv.Addr.String()); r.Peer.Addr().String() != host4 {
			t.Errorf("outside sees %s of a network with no outbound address, want %s", r.Peer.Addr(), host4)
		}
		s.consistent()
	})
}
