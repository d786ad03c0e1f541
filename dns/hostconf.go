package dns

import (
	"net/netip"
	"slices"
	"strings"
)

// HostConfig is what a resolv.conf says (resolv.conf(5)).
type HostConfig struct {
	Servers []netip.Addr
	Search  []string
	Options []string
}

// ParseHostConfig reads a resolv.conf. What cannot be read is passed over, as the
// C library does.
func ParseHostConfig(file []byte) HostConfig {
	var c HostConfig
	for line := range strings.Lines(string(file)) {
		if i := strings.IndexAny(line, "#;"); i >= 0 {
			line = line[:i]
		}
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			if addr, err := netip.ParseAddr(words[1]); err == nil {
				c.Servers = append(c.Servers, addr)
			}
		case "search", "domain":
			c.Search = words[1:]
		case "options":
			c.Options = append(c.Options, words[1:]...)
		}
	}
	return c
}

// stub is where systemd-resolved answers the host's programs
// (systemd-resolved.service(8)).
var stub = netip.AddrFrom4([4]byte{127, 0, 0, 53})

// Stub says that the only server is systemd-resolved's, which reaches nobody but
// the host itself.
func (c HostConfig) Stub() bool { return len(c.Servers) == 1 && c.Servers[0] == stub }

// HostServers are the host's servers from its resolv.conf, and from the file in
// which systemd-resolved says whom it asks itself: behind the stub, which knows
// more, these are asked when it does not answer.
func HostServers(conf, uplinks []byte) []netip.AddrPort {
	c := ParseHostConfig(conf)
	addrs := c.Servers
	if c.Stub() {
		addrs = slices.Concat(addrs, ParseHostConfig(uplinks).Servers)
	}
	var out []netip.AddrPort
	for _, a := range addrs {
		if to := netip.AddrPortFrom(a, 53); !slices.Contains(out, to) && len(out) < MaxServers {
			out = append(out, to)
		}
	}
	return out
}
