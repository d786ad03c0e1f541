package cli

import (
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
	var sized bool
	inspect := a.inspectOne("container", "CONTAINER", func() (getter, error) { return getterOf("container", sized) }, listContainers(true))
	inspect.Flags().BoolVarP(&sized, "size", "s", false, "with the size of their files")
	cmd.AddCommand(
		a.listCommand("ls", "list", "ps"), a.runCommand(), a.createCommand(), a.startCommand(), a.stopCommand(),
		a.restartCommand(), a.killCommand(), a.waitCommand(), remove, a.logsCommand(), a.attachCommand(),
		a.execCommand(), inspect, a.portCommand(), a.renameCommand(), a.pauseCommand(), a.unpauseCommand(), a.updateCommand(),
		a.topCommand(), a.statsCommand(), a.copyCommand(), a.diffCommand(), a.exportCommand(), a.commitCommand(),
		a.containerPruneCommand())
	return cmd
}
