package daemon

import (
	"fmt"
	"net/netip"

	"github.com/spf13/pflag"
)

// registerHostGateway is for the word host-gateway in a container's extra hosts.
func (c *Config) registerHostGateway(f *pflag.FlagSet) {
	f.StringArrayVar(&c.HostGateways, "host-gateway-ip", nil,
		"address that host-gateway stands for in --add-host; twice for IPv4 and IPv6 (default: those of the default network's bridge)")
}

// hostGateways are the addresses, at most one of each family.
func (c *Config) hostGateways() ([]netip.Addr, error) {
	given := c.HostGateways
	if c.HostGateway != "" {
		if len(given) > 0 {
			return nil, fmt.Errorf("host-gateway-ip %s and host-gateway-ips are mutually exclusive", c.HostGateway)
		}
		given = []string{c.HostGateway}
	}
	var out []netip.Addr
	for _, s := range given {
		a, err := netip.ParseAddr(s)
		if err != nil || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
			return nil, fmt.Errorf("--host-gateway-ip %q is not an address of a host", s)
		}
		a = a.Unmap()
		for _, o := range out {
			if o.Is4() == a.Is4() {
				return nil, fmt.Errorf("--host-gateway-ip %s and %s: only one address of each family is possible", o, a)
			}
		}
		out = append(out, a)
	}
	return out, nil
}
