package exposure_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/exposure"
	"github.com/fairlead/fairlead/network/spec"
)

// picture is a host with one address of each family, a container web on front and one,
// db, on back; web has port 80 published as 8080 in both families.
func picture() exposure.Picture {
	front := spec.Network{ID: "f", Name: "front", IPv4: true, IPv6: true, ICC: true, Masquerade: true}
	back := spec.Network{ID: "b", Name: "back", IPv4: true, ICC: true, Masquerade: true}
	web := spec.Attachment{
		Sandbox:   spec.Sandbox{ID: "w", Name: "web"},
		Endpoints: []spec.Endpoint{{NetworkID: "f", Network: "front", Addr4: netip.MustParsePrefix("10.1.0.2/24"), Addr6: netip.MustParsePrefix("fd01::2/64")}},
		Ports: []spec.PortBinding{
			{Proto: spec.TCP, Host: netip.MustParseAddrPort("0.0.0.0:8080"), Container: netip.MustParseAddrPort("10.1.0.2:80")},
			{Proto: spec.TCP, Host: netip.MustParseAddrPort("[::]:8080"), Container: netip.MustParseAddrPort("[fd01::2]:80")},
		},
	}
	db := spec.Attachment{
		Sandbox:   spec.Sandbox{ID: "d", Name: "db"},
		Endpoints: []spec.Endpoint{{NetworkID: "b", Network: "back", Addr4: netip.MustParsePrefix("10.2.0.2/24")}},
	}
	return exposure.Picture{
		Backend: "nftables", IPv6Rules: true, Proxy: true,
		Addresses:   []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
		Networks:    []spec.Network{front, back},
		Attachments: []spec.Attachment{web, db},
		Sockets:     map[string][]exposure.Socket{"d": {{Proto: spec.TCP, Local: netip.MustParseAddrPort("[::]:5432")}, {Proto: spec.TCP, Local: netip.MustParseAddrPort("127.0.0.1:9")}}},
		Rule:        func(chain, comment string) string { return chain + " (" + comment + ")" },
		Translation: func(_ string, b spec.PortBinding) string { return "element " + b.String() },
	}
}

// claims are the ways of a report as lines: CONTAINER FROM[:NETWORK] BY yes|no RULE.
func claims(r exposure.Report) (out []string) {
	for _, p := range r.Ports {
		for _, w := range p.Ways {
			from := string(w.From)
			if w.Name != "" {
				from += ":" + w.Name
			}
			for _, by := range w.By {
				out = append(out, strings.Join([]string{p.Container, from, by.String(), map[bool]string{true: "yes", false: "no"}[w.Reachable], w.Rule}, " "))
			}
		}
	}
	return out
}

// TestDerive: each line is a claim, by the beginning of it and a part of the rule that it
// gives; where the claim begins with a !, the report has none that begins so.
func TestDerive(t *testing.T) {
	t.Parallel()
	port := func(p *exposure.Picture, i int) *spec.PortBinding { return &p.Attachments[0].Ports[i] }
	for name, c := range map[string]struct {
		change func(p *exposure.Picture)
		claims []string
	}{
		"published and not": {func(*exposure.Picture) {}, []string{
			"web outside 192.0.2.1:8080 yes|nat_local (published on every address); forward_inbound (published ports)",
			"web outside [2001:db8::1]:8080 yes|element [::]:8080->80/tcp",
			"web host 192.0.2.1:8080 yes|nat_local",
			"web host 127.0.0.1:8080 yes|userland proxy",
			"web host [::1]:8080 yes|userland proxy",
			"web network:back 192.0.2.1:8080 yes|forward_inbound (published ports)",
			"web network:front 192.0.2.1:8080 yes|between containers of one network",
			"!web network:back [2001:db8::1]:8080|", "!web network:back [fd01::2]:80|", // it has no IPv6
			"web outside 10.1.0.2:80 no|not published",
			"web host 10.1.0.2:80 yes|no rule is about what the host itself sends",
			"web network:front 10.1.0.2:80 yes|bridged",
			"web network:back 10.1.0.2:80 no|not published",
			"db outside 10.2.0.2:5432 no|not published",
			"db network:back 10.2.0.2:5432 yes|bridged",
			"db network:front 10.2.0.2:5432 no|not published",
			"!db outside 127.0.0.1|", "!db host 127.0.0.1|",
		}},
		"on one address": {func(p *exposure.Picture) { port(p, 0).Host = netip.MustParseAddrPort("192.0.2.1:8080") }, []string{
			"web outside 192.0.2.1:8080 yes|published on this address", "!web host 127.0.0.1:8080|",
		}},
		"on loopback": {func(p *exposure.Picture) {
			port(p, 0).Host, port(p, 1).Host = netip.MustParseAddrPort("127.0.0.1:8080"), netip.MustParseAddrPort("[::1]:8080")
		}, []string{
			"web outside 127.0.0.1:8080 no|what is published on loopback is not for elsewhere",
			"web outside [::1]:8080 no|routes nothing", "web host 127.0.0.1:8080 yes|proxy", "!web network:back 127.0.0.1|", "!web outside 192.0.2.1|",
		}},
		"without the proxy": {func(p *exposure.Picture) { p.Proxy = false }, []string{
			"web host 127.0.0.1:8080 no|--userland-proxy=false", "web outside 192.0.2.1:8080 yes|published ports",
		}},
		"by hooks": {func(p *exposure.Picture) { p.Proxy, p.Hooks = false, true }, []string{"web host 127.0.0.1:8080 yes|cgroup root"}},
		"an element is gone": {func(p *exposure.Picture) {
			p.Translation = func(string, spec.PortBinding) string { return "" }
			p.Proxy = false
		}, []string{"web outside 192.0.2.1:8080 no|nothing serves it", "web host 192.0.2.1:8080 no|nothing serves it"}},
		"of another family": {func(p *exposure.Picture) {
			p.Attachments[0].Ports = []spec.PortBinding{{Proto: spec.TCP, Host: netip.MustParseAddrPort("[::]:8080"), Container: netip.MustParseAddrPort("10.1.0.2:80")}}
		}, []string{"web outside [2001:db8::1]:8080 yes|userland proxy"}},
		"no rules": {func(p *exposure.Picture) { p.Backend = "none" }, []string{
			"web outside 192.0.2.1:8080 yes|userland proxy", "web outside 10.1.0.2:80 yes|no rule is about it", "db network:front 10.2.0.2:5432 yes|no rule",
		}},
		"no rules of IPv6": {func(p *exposure.Picture) { p.IPv6Rules = false }, []string{
			"web outside [fd01::2]:80 yes|no rule", "web outside 10.1.0.2:80 no|not published",
		}},
		"iptables": {func(p *exposure.Picture) {
			p.Backend, p.Rule = "iptables", func(string, string) string { return "" }
		}, []string{"web network:back 192.0.2.1:8080 yes|userland proxy", "db outside 10.2.0.2:5432 no|chain DOCKER: not published"}},
		"internal": {func(p *exposure.Picture) { p.Networks[1].Internal = true }, []string{
			"db outside 10.2.0.2:5432 no|an internal network has no way in", "db network:back 10.2.0.2:5432 yes|bridged", "db host 10.2.0.2:5432 yes|",
			"web network:back 192.0.2.1:8080 no|an internal network has no way out", "web network:back 10.1.0.2:80 no|no way out",
		}},
		"isolated": {func(p *exposure.Picture) { p.Networks[1].Gateway4 = spec.GatewayIsolated }, []string{
			"db host 10.2.0.2:5432 no|given no address", "db outside 10.2.0.2:5432 no|no way in",
		}},
		"without a gateway": {func(p *exposure.Picture) { p.Networks[1].InhibitIPv4 = true }, []string{"db host 10.2.0.2:5432 no|given no address"}},
		"of IPv6 alone":     {func(p *exposure.Picture) { p.Sockets["d"][0].IPv6Only = true }, []string{"!db outside 10.2.0.2:5432", "!db network:back 10.2.0.2:5432", "!db host 10.2.0.2:5432"}},
		"apart": {func(p *exposure.Picture) { p.Networks[0].ICC = false }, []string{
			"web network:front 10.1.0.2:80 no|kept apart", "web network:front 192.0.2.1:8080 yes|forward_apart", "web outside 192.0.2.1:8080 yes|",
		}},
		"routed": {func(p *exposure.Picture) {
			p.Networks[0].Gateway4 = spec.GatewayRouted
			port(p, 0).Host = netip.MustParseAddrPort("0.0.0.0:0")
		}, []string{"web outside 10.1.0.2:80 yes|by the container's own address", "!web outside 192.0.2.1|"}},
		"unprotected":    {func(p *exposure.Picture) { p.Networks[1].Gateway4 = spec.GatewayNATUnprotected }, []string{"db outside 10.2.0.2:5432 yes|without protection", "db network:front 10.2.0.2:5432 yes|without protection"}},
		"direct routing": {func(p *exposure.Picture) { p.Direct = true }, []string{"web outside 10.1.0.2:80 yes|by the container's own address", "db outside 10.2.0.2:5432 no|not published"}},
		"trusted":        {func(p *exposure.Picture) { p.Networks[1].Trusted = []string{"wg0"} }, []string{"db interface:wg0 10.2.0.2:5432 yes|the network trusts", "db outside 10.2.0.2:5432 no|"}},
		"on the host": {func(p *exposure.Picture) {
			p.Networks[1].Internal = true
			for _, at := range []string{"[::]:53", "127.0.0.1:54"} {
				p.OnHost = append(p.OnHost, exposure.OnHostSocket{Container: "dns", ID: "n", Socket: exposure.Socket{Proto: spec.UDP, Local: netip.MustParseAddrPort(at)}})
			}
		}, []string{
			"dns outside 192.0.2.1:53 yes|no rule of Fairlead's", "dns outside [2001:db8::1]:53 yes|", "dns network:front 192.0.2.1:53 yes|",
			"dns network:back 192.0.2.1:53 no|does not reach the host", "dns host 127.0.0.1:54 yes|", "!dns outside 127.0.0.1|",
		}},
	} {
		p := picture()
		c.change(&p)
		got := claims(exposure.Derive(p))
		for _, claim := range c.claims {
			begins, rule, _ := strings.Cut(claim, "|")
			begins, none := strings.CutPrefix(begins, "!")
			made := slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, begins) && strings.Contains(line, rule) })
			if made == none {
				t.Errorf("%s: claimed %q with %q: %v\n%s", name, begins, rule, made, strings.Join(got, "\n"))
			}
		}
	}
}

// TestAddressesInOrder: the host's addresses are told in their order, however the kernel
// lists them.
func TestAddressesInOrder(t *testing.T) {
	t.Parallel()
	p := picture()
	p.Addresses = nil
	for _, a := range []string{"2001:db8::11", "192.0.2.10", "2001:db8::1", "192.0.2.9"} {
		p.Addresses = append(p.Addresses, netip.MustParseAddr(a))
	}
	before := slices.Clone(p.Addresses)
	var got []string
	for _, port := range exposure.Derive(p).Ports {
		for _, w := range port.Ways {
			if port.Kind == exposure.Published && w.From == exposure.Outside && len(w.By) > 1 {
				for _, by := range w.By {
					got = append(got, by.Addr().String())
				}
			}
		}
	}
	if want := []string{"192.0.2.9", "192.0.2.10", "2001:db8::1", "2001:db8::11"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if !slices.Equal(p.Addresses, before) {
		t.Error("the picture was changed")
	}
}
