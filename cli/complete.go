package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// completePatience is how long a shell waits for names at a TAB.
const completePatience = 2 * time.Second

// lister names objects of one kind.
type lister func(ctx context.Context, c *client.Client) ([]string, error)

func listContainers(all bool) lister {
	return func(ctx context.Context, c *client.Client) ([]string, error) {
		got, err := c.ContainerList(ctx, client.ContainerListOptions{All: all})
		var out []string
		for _, item := range got.Items {
			out = append(out, names(item.Names))
		}
		return out, err
	}
}

func listImages(ctx context.Context, c *client.Client) ([]string, error) {
	got, err := c.ImageList(ctx, client.ImageListOptions{})
	var out []string
	for _, item := range got.Items {
		for _, tag := range item.RepoTags {
			out = append(out, strings.TrimSuffix(tag, ":latest"))
		}
	}
	return out, err
}

func listNetworks(ctx context.Context, c *client.Client) ([]string, error) {
	got, err := c.NetworkList(ctx, client.NetworkListOptions{})
	var out []string
	for _, item := range got.Items {
		out = append(out, item.Name)
	}
	return out, err
}

// complete offers the names that are not on the command line yet, for the first
// most arguments; 0 is for all of them. Without a daemon it offers nothing.
func (a *app) complete(most int, kinds ...lister) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if most > 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completePatience)
		defer cancel()
		var out []string
		_ = a.with(func(c *client.Client) error {
			for _, list := range kinds {
				found, err := list(ctx, c)
				if err != nil {
					return err
				}
				out = append(out, found...)
			}
			return nil
		}) // nobody reads a message in the middle of a line
		out = slices.DeleteFunc(out, func(name string) bool { return slices.Contains(args, name) })
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeEach offers names of another kind for each argument.
func (a *app) completeEach(kinds ...lister) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(kinds) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.complete(0, kinds[len(args)])(cmd, nil, typed)
	}
}

// completing gives a command what its arguments are completed with.
func completing(cmd *cobra.Command, complete cobra.CompletionFunc) *cobra.Command {
	cmd.ValidArgsFunction = complete
	return cmd
}

// fileFlags take paths of this host: the shell completes them.
var fileFlags = []string{"env-file", "label-file", "output", "tlscacert", "tlscert", "tlskey", "cidfile", "input", "mount", "device", "config", "data-root", "exec-root", "config-file", "pidfile", "containerd", "resolv-conf"}

// Finish makes the help and completion of a command of another package as clean as
// those of this one.
func Finish(cmd *cobra.Command) {
	if cmd.Flags().Lookup("help") == nil {
		cmd.Flags().BoolP("help", "h", false, "show this help")
	}
	finish(cmd)
	each(cmd, finishFlags)
}

// each does something to a command and all below it.
func each(cmd *cobra.Command, do func(*cobra.Command)) {
	do(cmd)
	for _, sub := range cmd.Commands() {
		each(sub, do)
	}
}

// finish sets, for a command and all below it, what is the same for all: no files
// are offered where none are meant, and usage lines say what they say once.
func finish(cmd *cobra.Command) {
	each(cmd, func(cmd *cobra.Command) {
		if cmd.ValidArgsFunction == nil {
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
		cmd.DisableFlagsInUseLine = true
		if cmd.HasSubCommands() {
			// A word that is no command is refused as that, not for the flags after it.
			cmd.Flags().SetInterspersed(false)
		}
	})
}

// finishFlags has a flag that may be repeated shown as a list, and offers no files
// where none are meant. It is for help and completion alone: done for every command at
// every start, it would take longer than all else.
func finishFlags(cmd *cobra.Command) {
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Value.Type() == "stringArray" {
			f.Value, f.DefValue = list{f.Value}, ""
		}
		if _, found := cmd.GetFlagCompletionFunc(f.Name); found || slices.Contains(fileFlags, f.Name) {
			return
		}
		// An error says that there is one already.
		_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.NoFileCompletions)
	})
}

// list is a flag's value that Docker's help calls so.
type list struct{ pflag.Value }

func (list) Type() string { return "list" }
