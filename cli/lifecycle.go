package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

func (a *app) startCommand() *cobra.Command {
	var attach, interactive bool
	var detachKeys string
	cmd := &cobra.Command{
		Use:   "start [OPTIONS] CONTAINER [CONTAINER...]",
		Short: "Start containers that are stopped or only created",
		Example: `  fairlead start web db        start both in the background
  fairlead start -a job        start it and print its output; its exit code is this command's
  fairlead start -ai shell     and pass input to it`,
		Args: minArgs(1), ValidArgsFunction: a.complete(0, listContainers(true)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !attach && !interactive {
				return a.with(func(c *client.Client) error {
					return a.each(args, func(name string) error {
						_, err := c.ContainerStart(cmd.Context(), name, client.ContainerStartOptions{})
						return err
					})
				})
			}
			if len(args) > 1 {
				return usagef("-a and -i attach to one container: %d given", len(args))
			}
			if err := a.settleKeys(cmd, &detachKeys); err != nil {
				return err
			}
			return startFailure(a.with(func(c *client.Client) error {
				return a.attach(cmd.Context(), c, args[0], attachOptions{
					stdin: interactive, start: true, sigProxy: true, detachKeys: detachKeys,
				})
			}))
		},
	}
	refuse(cmd.Flags(), map[string]string{
		"checkpoint": otherWords["checkpoint"], "checkpoint-dir": otherWords["checkpoint"],
	})
	cmd.Flags().BoolVarP(&attach, "attach", "a", false, "print the container's output and pass signals on")
	cmd.Flags().BoolVarP(&interactive, "interactive", "i", false, "attach, and pass our input to the container")
	detachFlag(cmd, &detachKeys)
	return cmd
}

func (a *app) attachCommand() *cobra.Command {
	var noStdin, sigProxy bool
	var detachKeys string
	cmd := &cobra.Command{
		Use:   "attach [OPTIONS] CONTAINER",
		Short: "Connect to a running container's streams",
		Example: `  fairlead attach shell             what you type goes in, what it prints comes out
  fairlead attach --no-stdin web    only look; ctrl-p ctrl-q leaves a container with a terminal`,
		Args: exactArgs(1), ValidArgsFunction: a.complete(1, listContainers(false)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.settleKeys(cmd, &detachKeys); err != nil {
				return err
			}
			return a.with(func(c *client.Client) error {
				return a.attach(cmd.Context(), c, args[0], attachOptions{
					stdin: !noStdin, sigProxy: sigProxy, detachKeys: detachKeys,
				})
			})
		},
	}
	cmd.Flags().BoolVar(&noStdin, "no-stdin", false, "do not pass our input to the container")
	cmd.Flags().BoolVar(&sigProxy, "sig-proxy", true, "pass signals on to the container (never where it has a terminal)")
	detachFlag(cmd, &detachKeys)
	return cmd
}

type attachOptions struct {
	stdin, start, sigProxy bool
	detachKeys             string
}

// attach connects to a container as it was created: with its terminal or not,
// with its input where that is open.
func (a *app) attach(ctx context.Context, c *client.Client, name string, options attachOptions) error {
	got, err := c.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
	if err != nil {
		return err
	}
	info := got.Container
	if info.Config == nil || info.State == nil || info.HostConfig == nil {
		return fmt.Errorf("the daemon says too little about %s to attach to it", name)
	}
	switch {
	case !options.start && info.State.Paused:
		return fmt.Errorf("cannot attach to a paused container, unpause it first: `fairlead unpause %s`", name)
	case !options.start && info.State.Restarting:
		return fmt.Errorf("cannot attach to a restarting container, wait until it is running: `fairlead logs -f %s` shows its output", name)
	case !options.start && !info.State.Running:
		return fmt.Errorf("container %s is not running: start it with `fairlead start -a %[1]s`", name)
	case options.start && info.State.Running:
		return fmt.Errorf("container %s is running already: `fairlead attach %[1]s`", name)
	}
	stdin := options.stdin && info.Config.OpenStdin
	if err := a.needTerminal(stdin, info.Config.Tty); err != nil {
		return err
	}
	return a.foreground(ctx, c, info.ID, foreground{
		tty: info.Config.Tty, stdin: stdin, stdout: true, stderr: true,
		autoRemove: info.HostConfig.AutoRemove, sigProxy: options.sigProxy,
		detachKeys: options.detachKeys, start: options.start,
	})
}

// stopFlags are those of stop and restart.
type stopFlags struct {
	signal  string
	seconds int
}

func (f *stopFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.signal, "signal", "s", "", "signal to send (default: the container's own, SIGTERM)")
	cmd.Flags().IntVarP(&f.seconds, "timeout", "t", 0, "seconds to SIGKILL; -1 waits for ever (default: the container's own, 10)")
	cmd.Flags().SetNormalizeFunc(alias(map[string]string{"time": "timeout"}))
	completeFlags(cmd, map[string]cobra.CompletionFunc{"signal": fixed(signalNames...)})
}

// timeout is nil where the container's own holds.
func (f *stopFlags) timeout(cmd *cobra.Command) *int {
	if cmd.Flags().Changed("timeout") {
		return &f.seconds
	}
	return nil
}

func (a *app) stopCommand() *cobra.Command {
	var f stopFlags
	cmd := &cobra.Command{
		Use:   "stop [OPTIONS] CONTAINER [CONTAINER...]",
		Short: "Stop containers: a signal, and SIGKILL if that does not help",
		Example: `  fairlead stop web            SIGTERM, and SIGKILL after 10 seconds
  fairlead stop -t 1 web db    be less patient`,
		Args: minArgs(1), ValidArgsFunction: a.complete(0, listContainers(false)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(func(c *client.Client) error {
				return a.each(args, func(name string) error {
					_, err := c.ContainerStop(cmd.Context(), name, client.ContainerStopOptions{Signal: f.signal, Timeout: f.timeout(cmd)})
					return err
				})
			})
		},
	}
	f.register(cmd)
	return cmd
}

func (a *app) restartCommand() *cobra.Command {
	var f stopFlags
	cmd := &cobra.Command{
		Use:     "restart [OPTIONS] CONTAINER [CONTAINER...]",
		Short:   "Stop containers and start them again",
		Example: `  fairlead restart web`,
		Args:    minArgs(1), ValidArgsFunction: a.complete(0, listContainers(true)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(func(c *client.Client) error {
				return a.each(args, func(name string) error {
					_, err := c.ContainerRestart(cmd.Context(), name, client.ContainerRestartOptions{Signal: f.signal, Timeout: f.timeout(cmd)})
					return err
				})
			})
		},
	}
	f.register(cmd)
	return cmd
}

func (a *app) killCommand() *cobra.Command {
	var signal string
	cmd := &cobra.Command{
		Use:   "kill [OPTIONS] CONTAINER [CONTAINER...]",
		Short: "Send a signal to containers",
		Example: `  fairlead kill web            SIGKILL
  fairlead kill -s HUP web     have it read its configuration again`,
		Args: minArgs(1), ValidArgsFunction: a.complete(0, listContainers(false)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(func(c *client.Client) error {
				return a.each(args, func(name string) error {
					_, err := c.ContainerKill(cmd.Context(), name, client.ContainerKillOptions{Signal: signal})
					return err
				})
			})
		},
	}
	cmd.Flags().StringVarP(&signal, "signal", "s", "KILL", "signal's name or number")
	completeFlags(cmd, map[string]cobra.CompletionFunc{"signal": fixed(signalNames...)})
	return cmd
}

func (a *app) waitCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "wait CONTAINER [CONTAINER...]",
		Short:   "Wait until containers exit, and print their exit codes",
		Example: `  fairlead wait job    prints 0 when it went well`,
		Args:    minArgs(1), ValidArgsFunction: a.complete(0, listContainers(true)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(func(c *client.Client) error {
				var errs []error
				for _, name := range args {
					status := <-awaitExit(cmd.Context(), c, name, container.WaitConditionNotRunning)
					if status.err != nil {
						errs = append(errs, errors.New(message(a.explain(status.err))))
						continue
					}
					fmt.Fprintln(a.Out, status.code)
				}
				return errors.Join(errs...)
			})
		},
	}
}

func (a *app) rmCommand() *cobra.Command {
	var options client.ContainerRemoveOptions
	cmd := &cobra.Command{
		Use:   "rm [OPTIONS] CONTAINER [CONTAINER...]",
		Short: "Remove containers",
		Example: `  fairlead rm job                        one that has exited
  fairlead rm -f web                     one that runs: it is killed first
  fairlead rm -f $(fairlead ps -aq)      all of them
  fairlead rm --link web/db              not a container, but web's link called db`,
		Args: minArgs(1), ValidArgsFunction: a.complete(0, listContainers(true)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(func(c *client.Client) error {
				return a.each(args, func(name string) error {
					_, err := c.ContainerRemove(cmd.Context(), name, options)
					if options.Force && errdefs.IsNotFound(err) {
						// What is to be gone is: said, and no failure, as in Docker.
						return noteError{err}
					}
					return err
				})
			})
		},
	}
	cmd.Flags().BoolVarP(&options.Force, "force", "f", false, "kill a running container first")
	cmd.Flags().BoolVarP(&options.RemoveLinks, "link", "l", false, "remove a link, CONTAINER/ALIAS, and no container")
	cmd.Flags().BoolVarP(&options.RemoveVolumes, "volumes", "v", false, "remove its anonymous volumes too")
	return cmd
}

func (a *app) renameCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "rename CONTAINER NEW_NAME",
		Short:   "Give a container another name",
		Example: `  fairlead rename web web-old`,
		Args:    exactArgs(2), ValidArgsFunction: a.complete(1, listContainers(true)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(func(c *client.Client) error {
				_, err := c.ContainerRename(cmd.Context(), args[0], client.ContainerRenameOptions{NewName: args[1]})
				return err
			})
		},
	}
}
