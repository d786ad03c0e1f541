package cli

import (
	"cmp"
	"fmt"
	"net"
	"slices"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

func (a *app) portCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "port CONTAINER [PORT[/PROTO]]",
		Short: "Show where a container's ports are published",
		Example: `  fairlead port web          80/tcp -> 0.0.0.0:8080
  fairlead port web 80       0.0.0.0:8080, for scripts`,
		Args: rangeArgs(1, 2), ValidArgsFunction: a.complete(1, listContainers(false)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(func(c *client.Client) error {
				got, err := c.ContainerInspect(cmd.Context(), args[0], client.ContainerInspectOptions{})
				if err != nil {
					return err
				}
				var ports network.PortMap
				if got.Container.NetworkSettings != nil {
					ports = got.Container.NetworkSettings.Ports
				}
				if len(args) == 2 {
					return a.portOf(ports, args[0], args[1])
				}
				a.allPorts(ports)
				return nil
			})
		},
	}
}

func (a *app) portOf(ports network.PortMap, name, want string) error {
	port, err := network.ParsePort(want)
	if err != nil {
		return usagef("invalid port %q: want PORT[/PROTO], as 80 or 53/udp", want)
	}
	bindings := ports[port]
	if len(bindings) == 0 {
		return fmt.Errorf("port %s of %s is not published: publish it with -p when the container is made", port, name)
	}
	for _, b := range bindings {
		fmt.Fprintln(a.Out, hostPort(b))
	}
	return nil
}

func (a *app) allPorts(ports network.PortMap) {
	var order []network.Port
	for port := range ports {
		order = append(order, port)
	}
	slices.SortFunc(order, func(a, b network.Port) int {
		return cmp.Or(cmp.Compare(a.Num(), b.Num()), cmp.Compare(a.Proto(), b.Proto()))
	})
	for _, port := range order {
		for _, b := range ports[port] {
			fmt.Fprintf(a.Out, "%s -> %s\n", port, hostPort(b))
		}
	}
}

func hostPort(b network.PortBinding) string {
	ip := "0.0.0.0"
	if b.HostIP.IsValid() {
		ip = b.HostIP.String()
	}
	return net.JoinHostPort(ip, b.HostPort)
}
