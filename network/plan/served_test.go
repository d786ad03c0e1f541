package plan

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/network/spec"
)

// TestASwitchIsAsAFreshStart: whatever served ports before, a sandbox is given those that
// it would be given now, but for what would be refused, of which it has none.
func TestASwitchIsAsAFreshStart(t *testing.T) {
	t.Parallel()
	settings := map[string]func(*Config){
		"the proxy":               func(*Config) {},
		"no proxy":                noProxy,
		"neither proxy nor hooks": func(c *Config) { c.UserlandProxy, c.NoLoopback = false, "no hooks" },
	}
	var requests []spec.PortRequest
	for i, host := range []string{"", "0.0.0.0", "::", "127.0.0.1", "::1", "192.0.2.1", "2001:db8::1"} {
		for j, proto := range []spec.Proto{spec.TCP, spec.UDP, spec.SCTP} {
			p := spec.PortRequest{Proto: proto, Port: 80, HostPort: uint16(8000 + i)}
			if host != "" {
				p.HostIP = netip.MustParseAddr(host)
			}
			requests = append(requests, p)
			p.HostPort, p.HostPortEnd = uint16(9000+10*i), uint16(9009+10*i) // and one of a range
			p.Port += uint16(j)
			requests = append(requests, p)
		}
	}
	for _, network := range []string{"bridge", "dual", "six"} {
		for was, before := range settings {
			for is, after := range settings {
				for _, p := range requests {
					s, fresh := configured(t, before), configured(t, after)
					for _, s := range []*State{s, fresh} {
						s.cfg.SCTP = true
						addNetwork(t, s, spec.NetworkRequest{Name: "six", IPv6: true, IPv4: new(bool), Subnets: []spec.Subnet{{Prefix: netip.MustParsePrefix("fd06::/64")}}})
					}
					a, err := attach(s, 10, []string{network}, p)
					if err != nil {
						continue // it does not run
					}
					want, _ := attach(fresh, 10, []string{network}, p)
					s.cfg.UserlandProxy, s.cfg.NoLoopback = fresh.cfg.UserlandProxy, fresh.cfg.NoLoopback
					turn := s.DecideServed(a.Sandbox.ID, nil)
					if diff := cmp.Diff(append([]spec.PortBinding{}, want.Ports...), turn.After.Ports, cmp.Comparer(func(x, y netip.AddrPort) bool { return x == y })); diff != "" || len(turn.Refused) > 0 {
						t.Errorf("on %s, %+v, from %s to %s: -fresh +switched\n%s%v", network, p, was, is, diff, turn.Refused)
					}
					if len(turn.Withdrawn)-len(turn.Returned) != len(a.Ports)-len(want.Ports) {
						t.Errorf("on %s, %+v, from %s to %s: withdrawn %v, returned %v", network, p, was, is, turn.Withdrawn, turn.Returned)
					}
					if err := s.ReplaceAttachment(turn.After); err != nil {
						t.Fatal(err)
					}
					// What is withdrawn is anybody's, and nothing else is.
					for _, b := range HostPorts(a.Ports) {
						_, taken := s.book.Taken(b.Proto, b.Host)
						if stays := hostPorts(turn.After.Ports).has(b); taken != stays {
							t.Errorf("on %s, %s, from %s to %s: taken %v, published %v", network, b, was, is, taken, stays)
						}
					}
				}
			}
		}
	}
}
