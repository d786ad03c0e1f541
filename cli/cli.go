// Package cli is what a person types: the commands of `fairlead` that talk to a
// daemon over its API, with Docker's words, output and exit codes.
//
// A command reads its flags, makes one or a few API calls and prints. It decides
// nothing about containers or networks, and never touches the kernel, the store
// or the engine: a docker client can do all that these commands do.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/internal/printable"
)

// Build says which build of the program is running.
type Build struct {
	// Version is a tag or `git describe`, Commit the commit's short hash.
	Version, Commit string
}

// Streams are what a command reads from and writes to.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// app is what every command has in common.
type app struct {
	Streams
	build Build
	host  string // -H
	tls   tlsFlags
}

// Main runs the command line and returns the exit code of the process: the
// container's own where one was run in the foreground, 125 for flags that are wrong
// (as Docker), 1 for other failures. args are without the program's name.
func Main(ctx context.Context, args []string, streams Streams, build Build) int {
	a := &app{Streams: streams, build: build}
	root := a.root()
	if len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd) {
		each(root, finishFlags)
	}
	root.SetArgs(args)
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	code := 1
	var exit exitError
	if errors.As(err, &exit) {
		code = exit.code
		err = exit.err
	}
	if err != nil {
		for _, one := range apart(err) {
			fmt.Fprintf(streams.Err, "%s: %s\n", root.Name(), message(one))
		}
	}
	var usage usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(streams.Err, "See '%s --help'.\n", cmd.CommandPath())
		if !errors.As(err, new(countError)) {
			code = exitDaemon
		}
	}
	return code
}

// message is the one line an error is shown as. The client's "Error response
// from daemon" says nothing to someone who asked for one thing.
func message(err error) string {
	return printable.Lines(strings.ReplaceAll(err.Error(), "Error response from daemon: ", ""))
}

// apart are the errors that were joined into one, so that each is told on a line of
// its own.
func apart(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	var lines []string
	for _, one := range joined.Unwrap() {
		all = append(all, apart(one)...)
		lines = append(lines, one.Error())
	}
	if strings.Join(lines, "\n") != err.Error() { // several %w of one sentence
		return []error{err}
	}
	return all
}

// rootLong teaches: what there is, in the order somebody new needs it.
const rootLong = `Fairlead runs containers and connects them: to each other, to the host, and to
the world by published ports.

A first session, as root, with the daemon running (fairlead daemon &):

  fairlead import rootfs.tar demo              make an image of a root file system
  fairlead run -d --name web -p 8080:80 demo httpd -f -p 80 -h /www
                                               run a web server in the background
  curl http://127.0.0.1:8080/                  reach it by its published port
  fairlead ps                                  what is running, and its ports
  fairlead logs -f web                         what it printed
  fairlead exec -it web sh                     a shell inside
  fairlead inspect web                         everything known about it
  fairlead rm -f web                           stop and remove it`

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "fairlead",
		Short: "Run containers and connect them",
		Long:  rootLong,
		// Errors are printed once, by Main, and without the usage text.
		SilenceErrors:    true,
		SilenceUsage:     true,
		TraverseChildren: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return unknownCommand(cmd, args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	// Before any command: where docker's configuration is.
	root.PersistentPreRun = func(*cobra.Command, []string) {
		if a.tls.configDir != "" {
			config.SetDir(a.tls.configDir)
		}
	}
	root.Version = a.build.Version // makes --version and -v
	root.SetVersionTemplate("fairlead version " + a.build.Version + ", build " + a.build.Commit + "\n")
	root.PersistentFlags().StringVarP(&a.host, "host", "H", "",
		"daemon to talk to, unix://PATH or tcp://HOST:PORT (default $FAIRLEAD_HOST, else $DOCKER_HOST, else "+defaultHost+")")
	a.tls.register(root.Flags())
	refuseGlobal(root.Flags())
	// Without the shorthand -h, which is run's --hostname as in Docker.
	root.PersistentFlags().Bool("help", false, "show help for a command")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddGroup(
		&cobra.Group{ID: "containers", Title: "Containers:"},
		&cobra.Group{ID: "images", Title: "Images:"},
		&cobra.Group{ID: "networks", Title: "Networks:"},
		&cobra.Group{ID: "volumes", Title: "Volumes:"},
		&cobra.Group{ID: "system", Title: "System:"},
	)
	root.SetCompletionCommandGroupID("system")
	root.SetHelpCommandGroupID("system")
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("containers",
		a.runCommand(), a.createCommand(), a.startCommand(), a.stopCommand(), a.restartCommand(),
		a.killCommand(), a.waitCommand(), a.rmCommand(), a.psCommand(), a.logsCommand(), a.attachCommand(),
		a.execCommand(), a.inspectCommand(), a.portCommand(), a.renameCommand(), a.pauseCommand(), a.unpauseCommand(),
		a.updateCommand(), a.ratesCommand(), a.statsCommand(), a.copyCommand(), a.diffCommand(), a.exportCommand(), a.commitCommand(),
		a.containerCommand())
	add("images", a.imagesCommand(), a.pullCommand(), a.pushCommand(), a.loginCommand(), a.logoutCommand(), a.imageCommand(), a.importCommand(), a.loadCommand(), a.tagCommand(), a.rmiCommand(),
		a.saveCommand(), a.historyCommand(), buildCommand(), searchCommand())
	add("volumes", a.volumeCommand())
	add("networks", a.networkCommand(), a.captureCommand(), a.whyCommand(), a.planCommand())
	add("system", a.eventsCommand(), a.infoCommand(), a.versionCommand(), a.systemCommand(), a.healCommand(), a.topologyCommand(), a.doctorCommand(), a.exposureCommand(), a.debugCommand(), daemonHelp())
	setUsage(root)
	helpTopics(root)
	finish(root)
	return root
}

// daemonHelp is there for the list: the program picks its daemon front before
// this package is asked (see cmd/fairlead).
func daemonHelp() *cobra.Command {
	return &cobra.Command{
		Use:                "daemon [OPTIONS]",
		Short:              "Run the daemon (fairlead daemon --help)",
		DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("daemon is the first word: fairlead daemon [OPTIONS]")}
		},
	}
}

// stdinFile is the command's input where it is a file or terminal.
func (a *app) stdinFile() (*os.File, bool) {
	f, ok := a.In.(*os.File)
	return f, ok && f != nil
}
