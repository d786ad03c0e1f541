// Command fairlead is the one binary of the project: the command line, the
// daemon, and the two helpers that the daemon starts. main picks among them;
// what they do is in their packages.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/cli"
	"github.com/fairlead/fairlead/daemon"
	"github.com/fairlead/fairlead/relay"
	"github.com/fairlead/fairlead/streams"
)

// Version and Commit are set by the linker (see the Makefile).
var (
	Version = "dev"
	Commit  = "unknown"
)

// fronts are the commands that are not the CLI's. The constructors run only
// when their front is the one picked.
var fronts = map[string]func() *cobra.Command{
	"daemon":  func() *cobra.Command { return daemon.Command(daemon.Build{Version: Version, Commit: Commit}) },
	"relay":   relay.Command,
	"streams": streams.Command,
}

func main() {
	os.Exit(run(context.Background(), os.Args))
}

// run picks the front by the name the program was called by (fairlead-daemon, or
// dockerd for the daemon in dockerd's place), or else by the first word (fairlead daemon), and returns the exit code.
func run(ctx context.Context, args []string) int {
	called, args := filepath.Base(args[0]), args[1:]
	if called == "dockerd" && !helper(args) {
		cmd := daemon.Dockerd(daemon.Build{Version: Version, Commit: Commit})
		cli.Finish(cmd)
		return finish(ctx, cmd, called, args)
	}
	if name, found := strings.CutPrefix(called, "fairlead-"); found && fronts[name] != nil {
		return execute(ctx, name, args)
	}
	if len(args) > 0 && fronts[args[0]] != nil {
		return execute(ctx, args[0], args[1:])
	}
	// The shell asks for the completion of a front's flags.
	if len(args) > 1 && fronts[args[1]] != nil && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd) {
		return execute(ctx, args[1], args[2:], args[0])
	}
	return cli.Main(ctx, args, cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr},
		cli.Build{Version: Version, Commit: Commit})
}

// execute runs a front; words come before its name.
func execute(ctx context.Context, name string, args []string, words ...string) int {
	// The parent gives the front its full name in its usage text. Errors are
	// printed here, once.
	parent := &cobra.Command{Use: "fairlead", SilenceErrors: true, SilenceUsage: true}
	parent.CompletionOptions.DisableDefaultCmd = true
	front := fronts[name]()
	cli.Finish(front)
	parent.AddCommand(front)
	return finish(ctx, parent, "fairlead "+name, slices.Concat(words, []string{name}, args))
}

// finish runs the command and says what is wrong by its name.
func finish(ctx context.Context, cmd *cobra.Command, name string, args []string) int {
	cmd.SetArgs(args)
	if err := cmd.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %s\n", name, plain(err))
		return 1
	}
	return 0
}

// helper says whether a daemon starts its own program, which may be a copy that is
// called dockerd, as a helper.
func helper(args []string) bool {
	return len(args) > 0 && args[0] != "daemon" && fronts[args[0]] != nil
}

// plain is what an error says, without the word for its class at the end, which is
// for programs: "choose another subnet: permission denied" misleads a person.
func plain(err error) string {
	text := err.Error()
	for _, class := range []error{
		errdefs.ErrInvalidArgument, errdefs.ErrNotFound, errdefs.ErrConflict, errdefs.ErrPermissionDenied,
		errdefs.ErrFailedPrecondition, errdefs.ErrUnavailable, errdefs.ErrResourceExhausted, errdefs.ErrNotImplemented,
	} {
		if errors.Is(err, class) {
			text = strings.TrimSuffix(text, ": "+class.Error())
		}
	}
	return text
}
