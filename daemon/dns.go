package daemon

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/fairlead/fairlead/dns"
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
		if err != nil || a.IsUnspecified() || a.IsMulticast() {
			return nil, fmt.Errorf("--dns %q is not the address of a name server", s)
		}
		if a.Unmap() == dns.Address.Addr() {
			return nil, fmt.Errorf("--dns %s is where every container finds its resolver, which cannot ask itself", a)
		}
		out = append(out, a.Unmap())
	}
	for _, o := range c.DNSOptions {
		if o == "" || strings.ContainsAny(o, " \t\n#;") {
			return nil, fmt.Errorf("--dns-opt %q is not one option of resolv.conf(5)", o)
		}
		if n, ok := strings.CutPrefix(o, "ndots:"); ok {
			if v, err := strconv.Atoi(n); err != nil || v < 0 {
				return nil, fmt.Errorf("--dns-opt %q: %q is not a number of dots", o, n)
			}
		}
	}
	for _, s := range c.DNSSearch {
		if s == "" || len(s) > 254 || strings.ContainsAny(s, " \t\n#;/:@") {
			return nil, fmt.Errorf("--dns-search %q is not a domain", s)
		}
	}
	return out, nil
}
