package cli

import (
	"fmt"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

// connectFlags are those of `network connect`: the settings of one endpoint.
type connectFlags struct {
	aliases, links, linkLocal, driverOpts []string
	ip, ip6, mac                          string
	gwPriority                            int
}

func (a *app) networkConnectCommand() *cobra.Command {
	var f connectFlags
	cmd := &cobra.Command{
		Use: "connect [OPTIONS] NETWORK CONTAINER", Short: "Put a container on a further network",
		Long: `Put a container on a further network. One that runs has the new interface, its
address and its names when the command returns; one that does not run gets them
when it starts. It stays on the network through restarts, until it is taken off
by network disconnect.`,
		Example: `  fairlead network connect back web                        web is on the network back too
  fairlead network connect --alias db --ip 172.30.0.10 back pg
                                                           under a further name, at an address of your choice
  fairlead network connect --link pg:db back web           web calls pg db on this network
  fairlead network connect --gw-priority 10 uplink web     web's default route leads over uplink`,
		Args: exactArgs(2), ValidArgsFunction: a.completeEach(listNetworks, listContainers(true)),
		RunE: func(cmd *cobra.Command, args []string) error {
			settings, err := f.settings()
			if err != nil {
				return usageError{err}
			}
			return a.with(func(c *client.Client) error {
				_, err := c.NetworkConnect(cmd.Context(), args[0], client.NetworkConnectOptions{Container: args[1], EndpointConfig: settings})
				return err
			})
		},
	}
	f.register(cmd)
	return cmd
}

// register adds the flags.
func (f *connectFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringArrayVar(&f.aliases, "alias", nil, "further name of the container on this network")
	fl.StringVar(&f.ip, "ip", "", "IPv4 address, as 172.30.0.10 (default: the next that is free)")
	fl.StringVar(&f.ip6, "ip6", "", "IPv6 address, as fd00:30::10 (default: the next that is free)")
	fl.StringVar(&f.mac, "mac-address", "", "hardware address, as 02:42:ac:11:00:02")
	fl.StringArrayVar(&f.links, "link", nil, "another container of the network as this one calls it, NAME[:ALIAS]")
	fl.StringArrayVar(&f.linkLocal, "link-local-ip", nil, "further address, of 169.254.0.0/16 or fe80::/10")
	fl.StringArrayVar(&f.driverOpts, "driver-opt", nil, "option of the endpoint, KEY=VALUE, as com.docker.network.endpoint.ifname=up0")
	fl.IntVar(&f.gwPriority, "gw-priority", 0, "the network of the highest priority has the default route; may be negative")
}

func (f *connectFlags) settings() (*network.EndpointSettings, error) {
	settings := &network.EndpointSettings{Aliases: f.aliases, Links: f.links, GwPriority: f.gwPriority}
	for _, flag := range []struct {
		key    string
		values []string
	}{
		{"ip", one(f.ip)}, {"ip6", one(f.ip6)}, {"mac-address", one(f.mac)}, {"link-local-ip", f.linkLocal}, {"driver-opt", f.driverOpts},
	} {
		for _, value := range flag.values {
			if err := setEndpoint(settings, flag.key, value); err != nil {
				return nil, fmt.Errorf("invalid --%s %q: %w", flag.key, value, err)
			}
		}
	}
	return settings, nil
}

// one is a flag's value, where it was given.
func one(value string) []string {
	if value == "" {
		return nil
	}
	return []string{value}
}

func (a *app) networkDisconnectCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "disconnect [OPTIONS] NETWORK CONTAINER", Short: "Take a container off a network",
		Long: `Take a container off a network: its interface, address and names there go, at once
where it runs. Its published ports and its default route move to another of its
networks, where there is one that leads out.`,
		Example: `  fairlead network disconnect back web
  fairlead network disconnect -f back gone    also what is left there of a container that was removed`,
		Args: exactArgs(2), ValidArgsFunction: a.completeEach(listNetworks, listContainers(true)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(func(c *client.Client) error {
				_, err := c.NetworkDisconnect(cmd.Context(), args[0], client.NetworkDisconnectOptions{Container: args[1], Force: force})
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "also what is left of a container that is not there any more")
	return cmd
}
