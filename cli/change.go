package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
	xterm "golang.org/x/term"
)

func (a *app) pauseCommand() *cobra.Command {
	return completing(&cobra.Command{
		Use:     "pause CONTAINER [CONTAINER...]",
		Short:   "Halt all processes of containers",
		Example: `  fairlead pause web      unpause has them go on where they were`,
		Args:    minArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(func(c *client.Client) error {
				return a.each(args, func(name string) error {
					_, err := c.ContainerPause(cmd.Context(), name, client.ContainerPauseOptions{})
					return err
				})
			})
		},
	}, a.complete(0, listContainers(false)))
}

func (a *app) unpauseCommand() *cobra.Command {
	return completing(&cobra.Command{
		Use:     "unpause CONTAINER [CONTAINER...]",
		Short:   "Have paused containers go on",
		Example: `  fairlead unpause web`,
		Args:    minArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(func(c *client.Client) error {
				return a.each(args, func(name string) error {
					_, err := c.ContainerUnpause(cmd.Context(), name, client.ContainerUnpauseOptions{})
					return err
				})
			})
		},
	}, a.complete(0, listContainers(false)))
}

func (a *app) updateCommand() *cobra.Command {
	var f resourceFlags
	var restart string
	cmd := &cobra.Command{
		Use:   "update [OPTIONS] CONTAINER [CONTAINER...]",
		Short: "Change the limits and the restart policy of containers, while they run",
		Example: `  fairlead update -m 128m --memory-swap 256m web
  fairlead update --cpus 0.5 web db
  fairlead update --restart unless-stopped web`,
		Args: minArgs(1), ValidArgsFunction: a.complete(0, listContainers(true)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().NFlag() == 0 {
				return usagef("you must provide one or more flags when using this command")
			}
			var resources container.Resources
			if err := f.apply(&resources); err != nil {
				return usageError{err}
			}
			options := client.ContainerUpdateOptions{Resources: &resources}
			if cmd.Flags().Changed("restart") {
				policy, err := restartPolicy(restart)
				if err != nil {
					return usageError{err}
				}
				options.RestartPolicy = &policy
			}
			if cmd.Flags().Changed("pids-limit") {
				resources.PidsLimit = &f.pids
			}
			return a.with(func(c *client.Client) error {
				return a.each(args, func(name string) error {
					got, err := c.ContainerUpdate(cmd.Context(), name, options)
					for _, warning := range got.Warnings {
						fmt.Fprintln(a.Err, "WARNING:", warning)
					}
					return err
				})
			})
		},
	}
	f.register(cmd.Flags())
	cmd.Flags().StringVar(&restart, "restart", "", "when to start it again after it ended: no, on-failure[:TIMES], unless-stopped or always")
	completeFlags(cmd, map[string]cobra.CompletionFunc{"restart": fixed("no", "on-failure", "unless-stopped", "always")})
	return cmd
}

func (a *app) topCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top CONTAINER [ps OPTIONS]",
		Short: "List the processes of a container",
		Example: `  fairlead top web
  fairlead top web -o pid,rss,args    the columns of ps(1); the numbers are the host's`,
		Args: minArgs(1), ValidArgsFunction: a.complete(1, listContainers(false)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(func(c *client.Client) error {
				got, err := c.ContainerTop(cmd.Context(), args[0], client.ContainerTopOptions{Arguments: args[1:]})
				if err != nil {
					return err
				}
				// Docker's own figures.
				w := tabwriter.NewWriter(a.Out, 20, 1, 3, ' ', 0)
				for _, row := range append([][]string{got.Titles}, got.Processes...) {
					for i, cell := range row {
						if i > 0 {
							fmt.Fprint(w, "\t")
						}
						fmt.Fprint(w, cell)
					}
					fmt.Fprintln(w)
				}
				return w.Flush()
			})
		},
	}
	cmd.Flags().SetInterspersed(false)
	return cmd
}

func (a *app) diffCommand() *cobra.Command {
	return completing(&cobra.Command{
		Use:   "diff CONTAINER",
		Short: "List the files that a container changed (C), added (A) or deleted (D)",
		Example: `  fairlead diff web
  fairlead diff web | grep '^D'`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(func(c *client.Client) error {
				got, err := c.ContainerDiff(cmd.Context(), args[0], client.ContainerDiffOptions{})
				if err != nil {
					return err
				}
				for _, change := range got.Changes {
					fmt.Fprintln(a.Out, change.Kind, change.Path)
				}
				return nil
			})
		},
	}, a.complete(1, listContainers(true)))
}

func (a *app) exportCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "export [OPTIONS] CONTAINER",
		Short: "Pack a container's files into a tar archive",
		Example: `  fairlead export -o rootfs.tar web
  fairlead export web | tar -t      volumes are not in it`,
		Args: exactArgs(1), ValidArgsFunction: a.complete(1, listContainers(true)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.checkOutput(output); err != nil {
				return err
			}
			return a.with(func(c *client.Client) error {
				archive, err := c.ContainerExport(cmd.Context(), args[0], client.ContainerExportOptions{})
				if err != nil {
					return err
				}
				defer func() { _ = archive.Close() }()
				return a.writeArchive(output, archive)
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write (default: standard output)")
	return cmd
}

// checkOutput refuses to print an archive to a terminal.
func (a *app) checkOutput(name string) error {
	if file, ok := a.Out.(*os.File); name == "" && ok && xterm.IsTerminal(int(file.Fd())) {
		return usagef("cowardly refusing to save to a terminal. Use the -o flag or redirect")
	}
	return nil
}

// writeArchive writes to the named file or to standard output. A file appears whole or
// not at all, unless what is there is no regular file.
func (a *app) writeArchive(name string, archive io.Reader) error {
	if name == "" {
		_, err := io.Copy(a.Out, archive)
		return cut(err)
	}
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		file, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = io.Copy(file, archive)
		return errors.Join(cut(err), file.Close())
	}
	part := name + ".part"
	file, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, archive)
	if err = errors.Join(cut(err), file.Close()); err == nil {
		err = os.Rename(part, name)
	}
	if err != nil {
		_ = os.Remove(part)
	}
	return err
}

// cut says what an archive that ends too early means.
func cut(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("the archive was cut short: %w", err)
}

func (a *app) commitCommand() *cobra.Command {
	var options client.ContainerCommitOptions
	var stop bool
	cmd := &cobra.Command{
		Use:   "commit [OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
		Short: "Make an image of a container's files",
		Example: `  fairlead commit web web:patched
  fairlead commit --change 'CMD ["server"]' -m 'with a fix' web web:patched`,
		Args: rangeArgs(1, 2), ValidArgsFunction: a.completeEach(listContainers(true), listImages),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				options.Reference = args[1]
			}
			if cmd.Flags().Changed("pause") {
				options.NoPause = !stop
			}
			return a.with(func(c *client.Client) error {
				got, err := c.ContainerCommit(cmd.Context(), args[0], options)
				if err != nil {
					return err
				}
				fmt.Fprintln(a.Out, got.ID)
				return nil
			})
		},
	}
	cmd.Flags().StringVarP(&options.Author, "author", "a", "", "who made it, kept with the image")
	cmd.Flags().StringVarP(&options.Comment, "message", "m", "", "comment kept with the image")
	cmd.Flags().StringArrayVarP(&options.Changes, "change", "c", nil, "Dockerfile instruction for the image: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, WORKDIR, …")
	cmd.Flags().BoolVarP(&stop, "pause", "p", true, "pause the container meanwhile")
	cmd.Flags().BoolVar(&options.NoPause, "no-pause", false, "do not pause the container meanwhile")
	return cmd
}
