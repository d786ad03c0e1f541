package daemon

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/fairlead/fairlead/network"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
)

// NetworkOptions are options of networks that set none, by driver and key.
type NetworkOptions map[string]map[string]string

func (c *Config) registerDefaultNetwork(f *pflag.FlagSet) {
	f.BoolVar(&c.ICC, "icc", c.ICC, "let containers of the default network reach each other")
	f.BoolVar(&c.IPv6, "ipv6", c.IPv6, "give the default network IPv6, too")
	f.StringVar(&c.BIP6, "bip6", "", "IPv6 address of the default network's bridge, with its length: fd00:5::1/64")
	f.StringVar(&c.FixedCIDR6, "fixed-cidr-v6", "", "IPv6 subnet of the default network, or with --bip6 the part of it that containers get addresses of")
	f.StringVar(&c.DefaultGateway6, "default-gateway-v6", "", "the containers' IPv6 default route on the default network, where it is not the bridge")
	f.Var(optionsFlag{&c.NetworkOptions}, "default-network-opt", "option of new networks that do not set it: bridge=com.docker.network.driver.mtu=1400; several times for several")
}

// checkDefaultNetwork refuses settings of the default network that contradict each
// other.
func (c *Config) checkDefaultNetwork(d network.DefaultNetwork) error {
	for _, p := range []struct {
		flag, val string
		is6, want bool
	}{
		{"bip", c.BIP, d.Address.Addr().Is6(), false},
		{"bip6", c.BIP6, d.Address6.Addr().Is6(), true},
		{"fixed-cidr", c.FixedCIDR, d.Range.Addr().Is6(), false},
		{"fixed-cidr-v6", c.FixedCIDR6, d.Range6.Addr().Is6(), true},
		{"default-gateway", c.DefaultGateway, d.Gateway.Is6(), false},
		{"default-gateway-v6", c.DefaultGateway6, d.Gateway6.Is6(), true},
	} {
		switch {
		case p.val == "":
		case p.is6 != p.want:
			return fmt.Errorf("--%s %s is of the other family", p.flag, p.val)
		case p.want && !c.IPv6:
			return fmt.Errorf("--%s needs --ipv6", p.flag)
		}
	}
	switch {
	case d.Foreign != "" && c.BIP6 != "":
		return errors.New("--bridge and --bip6 are mutually exclusive: an existing bridge keeps its own address")
	case c.IPv6 && c.MTU != 0 && c.MTU < plan.LeastMTU6:
		return fmt.Errorf("--mtu %d: IPv6 needs %d", c.MTU, plan.LeastMTU6)
	}
	for _, driver := range slices.Sorted(maps.Keys(c.NetworkOptions)) {
		if driver != spec.DriverBridge {
			return fmt.Errorf("--default-network-opt %s=…: network driver %q is not here; use %q", driver, driver, spec.DriverBridge)
		}
	}
	if err := plan.CheckDefaultOptions(c.NetworkOptions[spec.DriverBridge]); err != nil {
		return fmt.Errorf("--default-network-opt: %w", err)
	}
	return nil
}

// optionsFlag reads driver=key=value.
type optionsFlag struct{ options *NetworkOptions }

func (o optionsFlag) Type() string { return "driver=key=value" }

func (o optionsFlag) String() string {
	var out []string
	for driver, options := range *o.options {
		for key, val := range options {
			out = append(out, driver+"="+key+"="+val)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (o optionsFlag) Set(v string) error {
	driver, option, _ := strings.Cut(v, "=")
	key, val, ok := strings.Cut(option, "=")
	if driver == "" || key == "" || !ok {
		return fmt.Errorf("%q: want DRIVER=KEY=VALUE", v)
	}
	if *o.options == nil {
		*o.options = make(NetworkOptions)
	}
	if (*o.options)[driver] == nil {
		(*o.options)[driver] = make(map[string]string)
	}
	(*o.options)[driver][key] = val
	return nil
}
