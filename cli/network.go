package cli

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/cli/format"
	"github.com/fairlead/fairlead/internal/netoption"
)

// networkRow is one network as `network ls` shows it.
type networkRow struct {
	CreatedAt, Driver, ID, IPv4, IPv6, Internal, Labels, Name, Scope string
	labels                                                           labelsOf
}

// Label is one label's value, for templates.
func (r networkRow) Label(key string) string { return r.labels.value(key) }

var networkListing = format.Listing[networkRow]{
	Default: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
	Header: networkRow{
		labels:    labelTitles,
		CreatedAt: "CREATED AT", Driver: "DRIVER", ID: "NETWORK ID", IPv4: "IPV4", IPv6: "IPV6",
		Internal: "INTERNAL", Labels: "LABELS", Name: "NAME", Scope: "SCOPE",
	},
}

func (a *app) networkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "network",
		Short: "Create, list, inspect and remove networks, and say who is on them",
		Example: `  fairlead network create mynet                              addresses from the default pools
  fairlead network create --subnet 172.30.0.0/24 mynet       addresses of your choice
  fairlead network create --internal backend                 no way out of it, and none in
  fairlead run -d --network mynet --name db demo server      a container on it
  fairlead network connect mynet web                         web, which runs, is on it too
  fairlead network inspect mynet                             its addresses, used and free, and containers`,
		Args: groupArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.networkCreateCommand(), a.networkListCommand(), a.networkInspectCommand(), a.networkConnectCommand(),
		a.networkDisconnectCommand(), a.networkRemoveCommand(), a.networkPruneCommand())
	return cmd
}

func (a *app) networkListCommand() *cobra.Command {
	var quiet, noTrunc bool
	var filterFlags []string
	var spec string
	cmd := &cobra.Command{
		Use: "ls [OPTIONS]", Aliases: []string{"list"}, Short: "List networks",
		Example: `  fairlead network ls
  fairlead network ls -q --filter driver=bridge`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			chosen, err := filters(filterFlags)
			if err != nil {
				return err
			}
			spec = a.ownFormat(spec, quiet, func(f *configfile.ConfigFile) string { return f.NetworksFormat })
			return a.with(func(c *client.Client) error {
				got, err := c.NetworkList(cmd.Context(), client.NetworkListOptions{Filters: chosen})
				if err != nil {
					return err
				}
				rows := make([]networkRow, len(got.Items))
				for i, item := range got.Items {
					rows[i] = newNetworkRow(item.Network, noTrunc)
				}
				if quiet && (spec == "" || spec == "table") { // a template goes before, as in Docker
					spec = "{{.ID}}"
				}
				return networkListing.Write(a.Out, spec, rows)
			})
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "IDs alone")
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "do not shorten IDs")
	cmd.Flags().StringArrayVarP(&filterFlags, "filter", "f", nil, "only those with KEY=VALUE: id, name, driver, label, scope, type, dangling")
	tableFlag(cmd, &spec)
	filterKeys(cmd, "dangling", "driver", "id", "label", "name", "scope", "type")
	return cmd
}

func newNetworkRow(n network.Network, noTrunc bool) networkRow {
	row := networkRow{
		CreatedAt: n.Created.Local().Format("2006-01-02 15:04:05.999999999 -0700 MST"),
		Driver:    n.Driver, ID: n.ID, Name: n.Name, Scope: n.Scope,
		IPv4: strconv.FormatBool(n.EnableIPv4), IPv6: strconv.FormatBool(n.EnableIPv6),
		Internal: strconv.FormatBool(n.Internal), Labels: labelText(n.Labels), labels: n.Labels,
	}
	if !noTrunc {
		row.ID = format.ShortID(n.ID)
	}
	return row
}

func (a *app) networkInspectCommand() *cobra.Command {
	var spec string
	var verbose bool
	cmd := &cobra.Command{
		Use: "inspect [OPTIONS] NETWORK [NETWORK...]", Short: "Print all that is known of networks, as JSON",
		Example: `  fairlead network inspect bridge
  fairlead network inspect -f '{{range .IPAM.Config}}{{.Subnet}}{{end}}' mynet
  fairlead network inspect -f '{{json .Status.IPAM.Subnets}}' mynet      addresses in use, and left
  fairlead network inspect -f '{{range .Containers}}{{.Name}} {{.IPv4Address}}{{println}}{{end}}' mynet`,
		Args: minArgs(1), ValidArgsFunction: a.complete(0, listNetworks),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(func(c *client.Client) error {
				return a.inspect(cmd.Context(), c, inspectNetwork, spec, args)
			})
		},
	}
	formatFlag(cmd, &spec)
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "also what services use of it: there are none, all else is always told")
	return cmd
}

func (a *app) networkRemoveCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "rm [OPTIONS] NETWORK [NETWORK...]", Aliases: []string{"remove"},
		Short:   "Remove networks that no container is on",
		Example: `  fairlead network rm mynet`,
		Args:    minArgs(1), ValidArgsFunction: a.complete(0, listNetworks),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(func(c *client.Client) error {
				return a.each(args, func(name string) error {
					_, err := c.NetworkRemove(cmd.Context(), name, client.NetworkRemoveOptions{})
					if force && errdefs.IsNotFound(err) {
						return noteError{err}
					}
					return err
				})
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "no failure where there is none of the name")
	return cmd
}

// networkFlags are those of `network create`.
type networkFlags struct {
	driver                         string
	subnets, gateways, ranges, aux []string
	options, labels                []string
	ipamDriver, scope, configFrom  string
	ipamOptions                    []string
	internal, attachable           bool
	ingress, configOnly            bool
	ipv4, ipv6, ipv4Set, ipv6Set   bool
}

func (a *app) networkCreateCommand() *cobra.Command {
	var f networkFlags
	cmd := &cobra.Command{
		Use: "create [OPTIONS] NAME", Short: "Create a network",
		Long: "Create a network.\n\nDriver options, of --opt:\n" + netoption.Lines(netoption.Network),
		Example: `  fairlead network create mynet
  fairlead network create --subnet 172.30.0.0/24 --gateway 172.30.0.1 --ip-range 172.30.0.128/25 mynet
  fairlead network create --subnet 172.30.0.0/24 --ipv6 --subnet fd00:30::/64 dual
  fairlead network create -o com.docker.network.driver.mtu=1400 mynet`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			options, err := f.requestOf(cmd)
			if err != nil {
				return usageError{err}
			}
			return a.with(func(c *client.Client) error {
				got, err := c.NetworkCreate(cmd.Context(), args[0], options)
				if err != nil {
					return err
				}
				for _, warning := range got.Warning {
					fmt.Fprintln(a.Err, "WARNING:", warning)
				}
				fmt.Fprintln(a.Out, got.ID)
				return nil
			})
		},
	}
	f.register(cmd)
	completeFlags(cmd, map[string]cobra.CompletionFunc{"opt": driverOption(netoption.Network)})
	return cmd
}

// driverOption offers the options of a place, and the values of one that has so many.
func driverOption(p netoption.Place) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		directive := cobra.ShellCompDirectiveNoFileComp
		key, _, valued := strings.Cut(typed, "=")
		var out []string
		for _, o := range netoption.Of(p) {
			switch {
			case !valued && strings.HasPrefix(o.Key, typed):
				out, directive = append(out, o.Key+"=\t"+o.What), directive|cobra.ShellCompDirectiveNoSpace
			case valued && o.Key == key:
				for _, val := range o.Values {
					out = append(out, key+"="+val)
				}
			}
		}
		return out, directive
	}
}

// register adds the flags.
func (f *networkFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVarP(&f.driver, "driver", "d", "bridge", "driver")
	fl.StringArrayVar(&f.subnets, "subnet", nil, "subnet, as 172.30.0.0/24, of either family; several for several (default: from the daemon's pools)")
	fl.StringArrayVar(&f.gateways, "gateway", nil, "address of the bridge in a subnet (default: its first)")
	fl.StringArrayVar(&f.ranges, "ip-range", nil, "part of a subnet that containers get addresses from")
	fl.StringArrayVar(&f.aux, "aux-address", nil, "address never handed out, NAME=ADDRESS")
	fl.StringArrayVarP(&f.options, "opt", "o", nil, "driver option, KEY=VALUE: see above")
	fl.StringArrayVar(&f.labels, "label", nil, "label, KEY=VALUE")
	// The daemon says why not.
	fl.StringVar(&f.ipamDriver, "ipam-driver", "default", "who hands out addresses: default is all there is")
	fl.StringArrayVar(&f.ipamOptions, "ipam-opt", nil, "option of the IPAM driver, KEY=VALUE: default has none")
	fl.StringVar(&f.scope, "scope", "", "local is all there is")
	fl.StringVar(&f.configFrom, "config-from", "", "not supported")
	fl.BoolVar(&f.configOnly, "config-only", false, "not supported")
	fl.BoolVar(&f.ingress, "ingress", false, "not supported")
	for _, name := range []string{"ipam-driver", "ipam-opt", "scope", "config-from", "config-only", "ingress"} {
		fl.Lookup(name).Hidden = true
	}
	fl.BoolVar(&f.internal, "internal", false, "no traffic to or from anywhere else, nor published ports")
	fl.BoolVar(&f.attachable, "attachable", false, "shown by inspect, and no more: any container may join a network of this host")
	fl.BoolVar(&f.ipv4, "ipv4", true, "give containers an IPv4 address")
	fl.BoolVar(&f.ipv6, "ipv6", false, "give containers an IPv6 address")
}

// requestOf is what the API takes, by the flags that were given.
func (f *networkFlags) requestOf(cmd *cobra.Command) (client.NetworkCreateOptions, error) {
	f.ipv4Set, f.ipv6Set = cmd.Flags().Changed("ipv4"), cmd.Flags().Changed("ipv6")
	return f.request()
}

func (f *networkFlags) request() (client.NetworkCreateOptions, error) {
	var options client.NetworkCreateOptions
	driverOptions, err := keyValues("--opt", f.options, true)
	if err != nil {
		return options, err
	}
	labels, err := keyValues("--label", f.labels, true)
	if err != nil {
		return options, err
	}
	ipamOptions, err := someKeyValues("--ipam-opt", f.ipamOptions)
	if err != nil {
		return options, err
	}
	pools, err := f.pools()
	if err != nil {
		return options, err
	}
	options = client.NetworkCreateOptions{
		Driver: f.driver, Internal: f.internal, Attachable: f.attachable, Options: driverOptions, Labels: labels,
		IPAM:  &network.IPAM{Driver: f.ipamDriver, Config: pools, Options: ipamOptions},
		Scope: f.scope, ConfigFrom: f.configFrom, ConfigOnly: f.configOnly, Ingress: f.ingress,
	}
	if f.ipv4Set {
		options.EnableIPv4 = &f.ipv4
	}
	if f.ipv6Set {
		options.EnableIPv6 = &f.ipv6
	}
	return options, nil
}

// pools puts each gateway, range and auxiliary address with the subnet it is in.
// What is in no subnet is refused here, where it can be said by flag.
func (f *networkFlags) pools() ([]network.IPAMConfig, error) {
	var pools []network.IPAMConfig
	for _, text := range f.subnets {
		subnet, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("invalid --subnet %q: want ADDRESS/LENGTH, as 172.30.0.0/24", text)
		}
		pools = append(pools, network.IPAMConfig{Subnet: subnet})
	}
	in := func(flag, text string, addr netip.Addr) (*network.IPAMConfig, error) {
		for i := range pools {
			if pools[i].Subnet.Contains(addr) {
				return &pools[i], nil
			}
		}
		if len(pools) == 0 {
			return nil, fmt.Errorf("--%s %s needs a --subnet that it is in", flag, text)
		}
		return nil, fmt.Errorf("--%s %s is in no --subnet of this network", flag, text)
	}
	for _, text := range f.gateways {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("invalid --gateway %q: want an IP address", text)
		}
		pool, err := in("gateway", text, addr)
		if err != nil {
			return nil, err
		}
		if pool.Gateway.IsValid() {
			return nil, fmt.Errorf("--gateway %s: subnet %s has gateway %s already", text, pool.Subnet, pool.Gateway)
		}
		pool.Gateway = addr
	}
	for _, text := range f.ranges {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("invalid --ip-range %q: want ADDRESS/LENGTH, as 172.30.0.128/25", text)
		}
		pool, err := in("ip-range", text, prefix.Addr())
		if err != nil {
			return nil, err
		}
		if pool.IPRange.IsValid() {
			return nil, fmt.Errorf("--ip-range %s: subnet %s has range %s already", text, pool.Subnet, pool.IPRange)
		}
		pool.IPRange = prefix
	}
	return pools, f.auxiliary(in)
}

func (f *networkFlags) auxiliary(in func(flag, text string, addr netip.Addr) (*network.IPAMConfig, error)) error {
	named, err := keyValues("--aux-address", f.aux, false)
	if err != nil {
		return err
	}
	for name, text := range named {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("invalid --aux-address %s=%q: want an IP address", name, text)
		}
		pool, err := in("aux-address", text, addr)
		if err != nil {
			return err
		}
		if pool.AuxAddress == nil {
			pool.AuxAddress = map[string]netip.Addr{}
		}
		pool.AuxAddress[name] = addr
	}
	return nil
}
