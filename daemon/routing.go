package daemon

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/fairlead/fairlead/network/firewall"
)

func (c *Config) registerRouting(f *pflag.FlagSet) {
	f.BoolVar(&c.DirectRouting, "allow-direct-routing", c.DirectRouting, "let published ports be reached by the container's own address too, from where there is a route to it")
	f.StringVar(&c.AcceptFWMark, "bridge-accept-fwmark", "", "accept what is forwarded with this firewall mark, or mark/mask")
}

// acceptMark is the mark of --bridge-accept-fwmark, the zero Mark without one.
func (c *Config) acceptMark() (firewall.Mark, error) {
	if c.AcceptFWMark == "" {
		return firewall.Mark{}, nil
	}
	m, err := firewall.ParseMark(c.AcceptFWMark)
	if err != nil {
		return m, fmt.Errorf("--bridge-accept-fwmark: %w", err)
	}
	return m, nil
}
