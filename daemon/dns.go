package daemon

import (
	"fmt"
	"net/netip"

	"github.com/spf13/pflag"

	"github.com/fairlead/fairlead/engine/files"
)

// registerDNS is for what containers are told of names that say nothing of it
// themselves.
func (c *Config) registerDNS(f *pflag.FlagSet) {
	f.StringArrayVar(&c.DNS, "dns", nil, "name server of containers that name none, asked from inside them; several times for several (default: the host's, asked from the host)")
	f.StringArrayVar(&c.DNSOptions, "dns-opt", nil, "resolver option of containers that name none, as ndots:2; several times for several")
	f.StringVar(&c.ResolvConf, "resolv-conf", c.ResolvConf, "file that names the host's own name servers, followed as it changes")
	f.StringArrayVar(&c.DNSSearch, "dns-search", nil, "search domain of containers that name none; several times for several")
}

// dnsServers are the addresses, once all of it has been checked.
func (c *Config) dnsServers() ([]netip.Addr, error) {
	var out []netip.Addr
	for _, s := range c.DNS {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("--dns %q is not the address of a name server", s)
		}
		if err := files.CheckServer(a); err != nil {
			return nil, fmt.Errorf("--dns: %w", err)
		}
		out = append(out, a.Unmap())
	}
	for _, o := range c.DNSOptions {
		if err := files.CheckOption(o); err != nil {
			return nil, fmt.Errorf("--dns-opt: %w", err)
		}
	}
	for _, d := range c.DNSSearch {
		if err := files.CheckSearch(d); err != nil {
			return nil, fmt.Errorf("--dns-search: %w", err)
		}
	}
	return out, nil
}
