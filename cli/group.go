package cli

import (
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

// containerCommand groups the commands on containers under the longer names that
// Docker has for them.
func (a *app) containerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "container",
		Short: "The same commands on containers, by Docker's longer names",
		Example: `  fairlead container ls
  fairlead container run --rm demo echo hello
  fairlead container inspect web`,
		Args: groupArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	remove := a.rmCommand()
	remove.Aliases = []string{"remove"}
	var spec string
	inspect := completing(&cobra.Command{
		Use: "inspect [OPTIONS] CONTAINER [CONTAINER...]", Short: "Print all that is known of containers, as JSON",
		Args: minArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(func(c *client.Client) error {
				return a.inspect(cmd.Context(), c, inspectContainer, spec, args)
			})
		},
	}, a.complete(0, listContainers(true)))
	formatFlag(inspect, &spec)
	cmd.AddCommand(
		a.listCommand("ls", "list", "ps"), a.runCommand(), a.createCommand(), a.startCommand(), a.stopCommand(),
		a.restartCommand(), a.killCommand(), a.waitCommand(), remove, a.logsCommand(), a.attachCommand(),
		a.execCommand(), inspect, a.portCommand(), a.renameCommand(), a.pauseCommand(), a.unpauseCommand(), a.updateCommand(),
		a.topCommand(), a.statsCommand(), a.copyCommand(), a.diffCommand(), a.exportCommand(), a.commitCommand(),
		a.containerPruneCommand())
	return cmd
}
