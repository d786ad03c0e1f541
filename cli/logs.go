package cli

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

func (a *app) logsCommand() *cobra.Command {
	options := client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true}
	cmd := &cobra.Command{
		Use:   "logs [OPTIONS] CONTAINER",
		Short: "Print what a container printed",
		Example: `  fairlead logs web                 all of it
  fairlead logs -f --tail 10 web    the last ten lines, and what comes
  fairlead logs -t --since 5m web   the last five minutes, with times`,
		Args: exactArgs(1), ValidArgsFunction: a.complete(1, listContainers(true)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(func(c *client.Client) error {
				info, err := c.ContainerInspect(cmd.Context(), args[0], client.ContainerInspectOptions{})
				if err != nil {
					return err
				}
				now := time.Now()
				options.Since, options.Until = moment(options.Since, now), moment(options.Until, now)
				logs, err := c.ContainerLogs(cmd.Context(), info.Container.ID, options)
				if err != nil {
					return err
				}
				defer func() { _ = logs.Close() }()
				if info.Container.Config != nil && info.Container.Config.Tty {
					_, err = io.Copy(a.Out, logs)
				} else {
					_, err = stdcopy.StdCopy(a.Out, a.Err, logs)
				}
				if errors.Is(err, io.ErrUnexpectedEOF) {
					return fmt.Errorf("the daemon went away; what was printed is complete, `fairlead logs -f --tail 0 %s` goes on: %w", args[0], err)
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&options.Follow, "follow", "f", false, "go on printing until the container exits")
	cmd.Flags().BoolVarP(&options.Timestamps, "timestamps", "t", false, "put the time before each line")
	cmd.Flags().StringVarP(&options.Tail, "tail", "n", "all", "the last N lines alone")
	cmd.Flags().StringVar(&options.Since, "since", "", "lines from then on: a time, or how long ago, as 5m")
	cmd.Flags().BoolVar(&options.Details, "details", false, "with what --log-opt labels, env and tag add to each line")
	cmd.Flags().StringVar(&options.Until, "until", "", "lines up to then")
	return cmd
}
