package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
)

// runFlags are run's own beside those it shares with create.
type runFlags struct {
	createFlags
	detach     bool
	sigProxy   bool
	detachKeys string
}

func (a *app) runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [OPTIONS] IMAGE [COMMAND [ARG...]]",
		Short: "Create a container and start it",
		Long: `Create a container of an image and start it.

Without -d the container runs in the foreground: its output is printed, signals
are passed on, and its exit code is this command's. 125 says that the daemon
refused, 126 that the command cannot be run, 127 that it was not found; nothing
is left of the container then. The daemon may be restarted meanwhile: the
container does not notice.`,
		Example: `  fairlead run --rm demo echo hello                      say hello, and leave nothing behind
  fairlead run -it --rm demo sh                          a shell; ctrl-p ctrl-q leaves it running
  fairlead run -d --name web -p 8080:80 demo httpd -f    port 8080 of the host is port 80 of web
  fairlead run -d -p 127.0.0.1:8080:80 demo httpd -f     the same, reachable from this host alone
  fairlead run -d -p 8000-8009:8000-8009 demo server     ten ports at once
  fairlead run --rm --network host demo ip addr          no network of its own: the host's
  fairlead run -it --rm --network container:web demo sh  share web's network
  fairlead run -d --network mynet --ip 172.30.0.10 demo server`,
		Args: minArgs(1), ValidArgsFunction: a.complete(1, listImages),
		RunE: func(cmd *cobra.Command, args []string) error {
			options, err := f.request(cmd, args, f.detach)
			if err != nil {
				return err
			}
			if err := a.settleKeys(cmd, &f.detachKeys); err != nil {
				return err
			}
			if err := a.with(func(c *client.Client) error { return a.run(cmd.Context(), c, &f, options) }); err != nil {
				return startFailure(err)
			}
			return nil
		},
	}
	f.registerRun(cmd, a)
	return cmd
}

// registerRun adds all flags of run.
func (f *runFlags) registerRun(cmd *cobra.Command, a *app) {
	f.register(cmd, a)
	cmd.Flags().BoolVarP(&f.detach, "detach", "d", false, "run in the background and print the container's ID")
	cmd.Flags().BoolVar(&f.sigProxy, "sig-proxy", true, "pass signals on to the container (never with -t)")
	detachFlag(cmd, &f.detachKeys)
}

func (a *app) run(ctx context.Context, c *client.Client, f *runFlags, options client.ContainerCreateOptions) error {
	if err := a.needTerminal(options.Config.AttachStdin, f.tty); err != nil {
		return err
	}
	if height, width, ok := a.terminalSize(); ok && f.tty {
		options.HostConfig.ConsoleSize = [2]uint{height, width}
	}
	id, err := a.create(ctx, c, &f.createFlags, options)
	if err != nil {
		return err
	}
	if f.detach {
		if _, err := c.ContainerStart(ctx, id, client.ContainerStartOptions{}); err != nil {
			return errors.Join(err, discard(ctx, c, id))
		}
		fmt.Fprintln(a.Out, id)
		return nil
	}
	return a.foreground(ctx, c, id, foreground{
		tty:   f.tty,
		stdin: options.Config.AttachStdin, stdout: options.Config.AttachStdout, stderr: options.Config.AttachStderr,
		autoRemove: f.autoRemove, sigProxy: f.sigProxy, detachKeys: f.detachKeys, start: true, created: true,
	})
}

// discard removes a container that run made and that could not be started: a run
// that is refused changes nothing. One that --rm has removed is no error.
func discard(ctx context.Context, c *client.Client, id string) error {
	_, err := c.ContainerRemove(context.WithoutCancel(ctx), id, client.ContainerRemoveOptions{Force: true})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// create makes the container, prints the daemon's warnings, and writes the ID
// to --cidfile.
func (a *app) create(ctx context.Context, c *client.Client, f *createFlags, options client.ContainerCreateOptions) (string, error) {
	if f.cidfile != "" {
		if _, err := os.Lstat(f.cidfile); err == nil {
			return "", usagef("--cidfile %s: the file is there already; another container may be using it", f.cidfile)
		}
	}
	options.Config.Env = a.withProxies(options.Config.Env)
	created, err := a.createPulling(ctx, c, &f.pullFlags, options)
	if err != nil {
		return "", err
	}
	for _, warning := range created.Warnings {
		fmt.Fprintln(a.Err, "WARNING:", warning)
	}
	if f.cidfile != "" {
		if err := os.WriteFile(f.cidfile, []byte(created.ID), 0o644); err != nil {
			return "", fmt.Errorf("--cidfile: %w; the container %s was created", err, created.ID)
		}
	}
	return created.ID, nil
}

// imageHint is where images come from.
const imageHint = "`fairlead pull` gets one of a registry; `fairlead import` (a root file system) and `fairlead load` (an archive) make one"

// createPulling makes the container, of an image that is pulled first where --pull
// says so.
func (a *app) createPulling(ctx context.Context, c *client.Client, f *pullFlags, options client.ContainerCreateOptions) (client.ContainerCreateResult, error) {
	if f.pull == "always" {
		if err := a.pullFor(ctx, c, f, options); err != nil {
			return client.ContainerCreateResult{}, exitError{code: exitDaemon, err: err}
		}
	}
	created, err := c.ContainerCreate(ctx, options)
	if err == nil || !errdefs.IsNotFound(err) || !isNoSuchImage(err) {
		return created, err
	}
	if f.pull == "never" || f.pull == "always" {
		return created, fmt.Errorf("%w\n%s; `fairlead images` lists what is there", err, imageHint)
	}
	if ref, refErr := reference.ParseNormalizedNamed(options.Config.Image); refErr == nil && !f.quietPull {
		fmt.Fprintf(a.Err, "Unable to find image '%s' locally\n", reference.FamiliarString(reference.TagNameOnly(ref)))
	}
	if err := a.pullFor(ctx, c, f, options); err != nil {
		return created, exitError{code: exitDaemon, err: err}
	}
	return c.ContainerCreate(ctx, options)
}

// pullFor pulls a container's image. Standard output is the container's.
func (a *app) pullFor(ctx context.Context, c *client.Client, f *pullFlags, options client.ContainerCreateOptions) error {
	ref, err := imageName(options.Config.Image)
	if err != nil {
		return err
	}
	request := pullRequest{ref: reference.TagNameOnly(ref)}
	if options.Platform != nil {
		request.platforms = []ocispec.Platform{*options.Platform}
	}
	progress := a.Err
	if f.quietPull {
		progress = io.Discard
	}
	return a.pull(ctx, c, request, progress)
}

// foreground says how a container is attached to: by run, start -a and attach.
type foreground struct {
	tty                   bool
	stdin, stdout, stderr bool
	autoRemove, sigProxy  bool
	detachKeys            string
	// start the container once attached; else it runs already.
	start bool
	// created says that the container is the command's own, to be removed if it
	// does not start.
	created bool
}

// removePatience is how long a container that did not start may take to go.
const removePatience = 10 * time.Second

// foreground attaches to a container, starts it where asked, and returns when it
// ends, or its detach keys are typed. The attachment and the wait stand before
// the start: nothing the container prints or does is missed.
func (a *app) foreground(ctx context.Context, c *client.Client, id string, f foreground) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	attached, err := c.ContainerAttach(ctx, id, client.ContainerAttachOptions{
		Stream: true, Stdin: f.stdin, Stdout: f.stdout, Stderr: f.stderr, DetachKeys: f.detachKeys,
	})
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	condition := container.WaitConditionNextExit
	switch {
	case f.autoRemove:
		condition = container.WaitConditionRemoved
	case !f.start:
		condition = container.WaitConditionNotRunning
	}
	exit := awaitExit(ctx, c, id, condition)
	if f.sigProxy && !f.tty {
		defer proxySignals(ctx, c, id)()
	}
	streams := attachment{conn: attached.HijackedResponse, tty: f.tty, detachKeys: f.detachKeys}
	if f.stdin {
		streams.in = a.In
	}
	if f.stdout || f.tty {
		streams.out = a.Out
	}
	if f.stderr {
		streams.errs = a.Err
	}
	if f.start {
		if _, err := c.ContainerStart(ctx, id, client.ContainerStartOptions{}); err != nil {
			attached.Close()
			if f.autoRemove { // the daemon removes what did not start
				select {
				case <-exit:
				case <-time.After(removePatience):
				}
			}
			if f.created {
				err = errors.Join(err, discard(ctx, c, id))
			}
			return err
		}
	}
	restore := func() {}
	if f.tty {
		if f.stdin {
			if restore, err = a.rawTerminal(); err != nil {
				return err
			}
		}
		defer restore()
		a.followSize(ctx, func(height, width uint) error {
			_, err := c.ContainerResize(ctx, id, client.ContainerResizeOptions{Height: height, Width: width})
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
	defer a.sayRunsOn("the container", "its end is waited for, `fairlead attach "+id[:min(len(id), 12)]+"` joins it again")()
	status := <-exit
	if status.err != nil {
		return exitError{code: exitDaemon, err: status.err}
	}
	return exitWith(status.code)
}

func (a *app) createCommand() *cobra.Command {
	var f createFlags
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] IMAGE [COMMAND [ARG...]]",
		Short: "Create a container without starting it",
		Example: `  id=$(fairlead create -p 8080:80 demo httpd -f)   make it, and keep its ID
  fairlead start "$id"                             run it later`,
		Args: minArgs(1), ValidArgsFunction: a.complete(1, listImages),
		RunE: func(cmd *cobra.Command, args []string) error {
			options, err := f.request(cmd, args, false)
			if err != nil {
				return err
			}
			return a.with(func(c *client.Client) error {
				id, err := a.create(cmd.Context(), c, &f, options)
				if err == nil {
					fmt.Fprintln(a.Out, id)
				}
				return err
			})
		},
	}
	f.register(cmd, a)
	return cmd
}
