package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

func (a *app) execCommand() *cobra.Command {
	var options client.ExecCreateOptions
	var detach, interactive bool
	var envFiles []string
	cmd := &cobra.Command{
		Use:   "exec [OPTIONS] CONTAINER COMMAND [ARG...]",
		Short: "Run a further command in a running container",
		Example: `  fairlead exec web ip addr                 the container's own view of its network
  fairlead exec -it web sh                  a shell inside
  fairlead exec -e DEBUG=1 -w /tmp web env  with a variable, in a directory
  echo hello | fairlead exec -i web cat     pass input to it`,
		Args: minArgs(2), ValidArgsFunction: a.complete(1, listContainers(false)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.settleKeys(cmd, &options.DetachKeys); err != nil {
				return err
			}
			env, err := environment(envFiles, options.Env)
			if err != nil {
				return usageError{err}
			}
			options.Env, options.Cmd = env, args[1:]
			options.AttachStdin = interactive && !detach
			options.AttachStdout, options.AttachStderr = !detach, !detach
			return a.with(func(c *client.Client) error { return a.exec(cmd.Context(), c, args[0], options, detach) })
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().BoolVarP(&detach, "detach", "d", false, "run it in the background")
	cmd.Flags().BoolVarP(&interactive, "interactive", "i", false, "pass our input to it")
	cmd.Flags().BoolVarP(&options.TTY, "tty", "t", false, "give it a terminal")
	cmd.Flags().StringArrayVarP(&options.Env, "env", "e", nil, "environment variable, NAME=VALUE; NAME alone takes this shell's value")
	cmd.Flags().StringArrayVar(&envFiles, "env-file", nil, "file of environment variables, one a line")
	cmd.Flags().StringVarP(&options.WorkingDir, "workdir", "w", "", "working directory inside the container")
	cmd.Flags().StringVarP(&options.User, "user", "u", "", "user it runs as, NAME|UID[:GROUP|GID]")
	cmd.Flags().BoolVar(&options.Privileged, "privileged", false, "every capability")
	detachFlag(cmd, &options.DetachKeys)
	return cmd
}

func (a *app) exec(ctx context.Context, c *client.Client, name string, options client.ExecCreateOptions, detach bool) error {
	if err := a.needTerminal(options.AttachStdin, options.TTY); err != nil {
		return err
	}
	var size client.ConsoleSize
	if height, width, ok := a.terminalSize(); ok && options.TTY {
		size = client.ConsoleSize{Height: height, Width: width}
		options.ConsoleSize = size
	}
	created, err := c.ExecCreate(ctx, name, options)
	if err != nil {
		return err
	}
	if detach {
		_, err := c.ExecStart(ctx, created.ID, client.ExecStartOptions{Detach: true, TTY: options.TTY})
		return startFailure(err)
	}
	attached, err := c.ExecAttach(ctx, created.ID, client.ExecAttachOptions{TTY: options.TTY, ConsoleSize: size})
	if err != nil {
		return startFailure(err)
	}
	streams := attachment{
		conn: attached.HijackedResponse, tty: options.TTY, detachKeys: options.DetachKeys,
		out: a.Out, errs: a.Err,
	}
	if options.AttachStdin {
		streams.in = a.In
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	restore := func() {}
	if options.TTY {
		if options.AttachStdin {
			if restore, err = a.rawTerminal(); err != nil {
				return err
			}
		}
		defer restore()
		a.followSize(ctx, func(height, width uint) error {
			_, err := c.ExecResize(ctx, created.ID, client.ExecResizeOptions{Height: height, Width: width})
			return err
		})
	}
	if err := streams.run(); err != nil {
		if errors.Is(err, errDetached) {
			return nil
		}
		return err
	}
	restore() // ctrl-c is for us again
	defer a.sayRunsOn("the command", "its end is waited for")()
	return execStatus(ctx, c, created.ID)
}

// execStatus returns the command's exit code as an error. Its streams may end
// before it does, and before the daemon has seen it exit; a daemon that is being
// restarted is waited for.
func execStatus(ctx context.Context, c *client.Client, id string) error {
	delay := 5 * time.Millisecond
	var away time.Time // since when the daemon does not answer
	for {
		info, err := c.ExecInspect(ctx, id, client.ExecInspectOptions{})
		switch {
		case err == nil && !info.Running:
			return exitWith(info.ExitCode)
		case err == nil:
			away = time.Time{}
		case !lost(err):
			return err
		case away.IsZero():
			away = time.Now()
		case time.Since(away) > restartPatience:
			return fmt.Errorf("the daemon went away: the command's exit code is not known: %w", err)
		}
		if !pause(ctx, delay) {
			return ctx.Err()
		}
		delay = min(2*delay, 200*time.Millisecond)
	}
}
