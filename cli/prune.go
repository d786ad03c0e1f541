package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

// confirm asks, and says whether the answer is yes. No answer is none: that is an
// error, for whoever runs this without a terminal meant something else.
func (a *app) confirm(ctx context.Context, question string) (bool, error) {
	fmt.Fprintf(a.Out, "%s\nAre you sure you want to continue? [y/N] ", question)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(a.In).ReadString('\n') // an error is no answer
		answer <- line
	}()
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case line := <-answer:
		if line == "" {
			fmt.Fprintln(a.Out)
			return false, errors.New("nothing was removed: the question was not answered; -f does not ask")
		}
		line = strings.ToLower(strings.TrimSpace(line))
		return line == "y" || line == "yes", nil
	}
}

// pruneFlags are those that every prune has.
type pruneFlags struct {
	force   bool
	filters []string
}

func (f *pruneFlags) register(cmd *cobra.Command, keys string) {
	cmd.Flags().BoolVarP(&f.force, "force", "f", false, "do not ask first")
	cmd.Flags().StringArrayVar(&f.filters, "filter", nil, "only those with KEY=VALUE: "+keys)
	filterKeys(cmd, strings.Split(keys, ", ")...)
}

// pruned is what one prune removed.
type pruned struct {
	title string   // "Deleted Containers:"
	names []string // a line each
	space uint64   // bytes
	// spaceKnown: the total is printed.
	spaceKnown bool
}

func (a *app) printPruned(all ...pruned) {
	var space uint64
	known := false
	for _, p := range all {
		if len(p.names) > 0 {
			fmt.Fprintf(a.Out, "%s\n%s\n\n", p.title, strings.Join(p.names, "\n"))
		}
		space += p.space
		known = known || p.spaceKnown
	}
	if known {
		fmt.Fprintln(a.Out, "Total reclaimed space:", units.HumanSize(float64(space)))
	}
}

// pruneCall removes what nobody uses of one kind.
type pruneCall func(ctx context.Context, c *client.Client, chosen client.Filters, all bool) (pruned, error)

func pruneContainers(ctx context.Context, c *client.Client, chosen client.Filters, _ bool) (pruned, error) {
	got, err := c.ContainerPrune(ctx, client.ContainerPruneOptions{Filters: chosen})
	return pruned{"Deleted Containers:", got.Report.ContainersDeleted, got.Report.SpaceReclaimed, true}, err
}

func pruneVolumes(ctx context.Context, c *client.Client, chosen client.Filters, all bool) (pruned, error) {
	got, err := c.VolumePrune(ctx, client.VolumePruneOptions{Filters: chosen, All: all})
	return pruned{"Deleted Volumes:", got.Report.VolumesDeleted, got.Report.SpaceReclaimed, true}, err
}

func pruneNetworks(ctx context.Context, c *client.Client, chosen client.Filters, _ bool) (pruned, error) {
	got, err := c.NetworkPrune(ctx, client.NetworkPruneOptions{Filters: chosen})
	return pruned{title: "Deleted Networks:", names: got.Report.NetworksDeleted}, err
}

func pruneImages(ctx context.Context, c *client.Client, chosen client.Filters, all bool) (pruned, error) {
	chosen.Add("dangling", fmt.Sprint(!all))
	got, err := c.ImagePrune(ctx, client.ImagePruneOptions{Filters: chosen})
	var names []string
	for _, item := range got.Report.ImagesDeleted {
		if item.Untagged != "" {
			names = append(names, "untagged: "+item.Untagged)
		} else {
			names = append(names, "deleted: "+item.Deleted)
		}
	}
	return pruned{"Deleted Images:", names, got.Report.SpaceReclaimed, true}, err
}

// pruneOf makes `KIND prune`. everything is the help of -a, "" where there is none.
func (a *app) pruneOf(kind, warning, warningAll, everything, keys string, call pruneCall) *cobra.Command {
	var f pruneFlags
	var all bool
	cmd := &cobra.Command{
		Use: "prune [OPTIONS]", Short: "Remove all " + kind + "s that nobody uses",
		Example: fmt.Sprintf(`  fairlead %s prune                            asks first
  fairlead %[1]s prune -f --filter label!=keep    all but those with the label, without asking`, kind),
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			chosen, err := filters(f.filters)
			if err != nil {
				return err
			}
			question := warning
			if all {
				question = warningAll
			}
			if !f.force {
				if yes, err := a.confirm(cmd.Context(), "WARNING! This will remove "+question+"."); err != nil || !yes {
					return err
				}
			}
			return a.with(func(c *client.Client) error {
				got, err := call(cmd.Context(), c, chosen, all)
				if err != nil {
					return err
				}
				a.printPruned(got)
				return nil
			})
		},
	}
	f.register(cmd, keys)
	if everything != "" {
		cmd.Flags().BoolVarP(&all, "all", "a", false, everything)
	}
	return cmd
}

func (a *app) containerPruneCommand() *cobra.Command {
	return a.pruneOf("container", "all stopped containers", "", "", "label, label!, until", pruneContainers)
}

func (a *app) volumePruneCommand() *cobra.Command {
	return a.pruneOf("volume", "anonymous local volumes not used by at least one container",
		"all local volumes not used by at least one container", "volumes with a name, too", "label, label!", pruneVolumes)
}

func (a *app) networkPruneCommand() *cobra.Command {
	return a.pruneOf("network", "all custom networks not used by at least one container", "", "", "label, label!, until", pruneNetworks)
}

func (a *app) imagePruneCommand() *cobra.Command {
	return a.pruneOf("image", "all dangling images", "all images without at least one container associated to them",
		"images with a name that no container uses, too", "label, label!, until", pruneImages)
}

func (a *app) systemPruneCommand() *cobra.Command {
	var f pruneFlags
	var all, volumes bool
	cmd := &cobra.Command{
		Use: "prune [OPTIONS]", Short: "Remove stopped containers, unused networks and images, and volumes if asked",
		Example: `  fairlead system prune
  fairlead system prune -a --volumes -f    everything that nobody uses`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			chosen, err := filters(f.filters)
			if err != nil {
				return err
			}
			if _, until := chosen["until"]; until && volumes {
				return usagef(`ERROR: The "until" filter is not supported with "--volumes"`)
			}
			if !f.force {
				if yes, err := a.confirm(cmd.Context(), systemPruneQuestion(all, volumes, f.filters)); err != nil || !yes {
					return err
				}
			}
			calls := []pruneCall{pruneContainers, pruneNetworks}
			if volumes {
				calls = append(calls, func(ctx context.Context, c *client.Client, chosen client.Filters, _ bool) (pruned, error) {
					return pruneVolumes(ctx, c, chosen, false)
				})
			}
			calls = append(calls, pruneImages)
			return a.with(func(c *client.Client) error {
				var done []pruned
				defer func() { a.printPruned(done...) }()
				for _, call := range calls {
					got, err := call(cmd.Context(), c, chosen.Clone(), all)
					if err != nil {
						return err
					}
					done = append(done, got)
				}
				return nil
			})
		},
	}
	f.register(cmd, "label, label!, until")
	cmd.Flags().BoolVarP(&all, "all", "a", false, "images with a name that no container uses, too")
	cmd.Flags().BoolVar(&volumes, "volumes", false, "volumes without a name, too")
	return cmd
}

func systemPruneQuestion(all, volumes bool, chosen []string) string {
	lines := []string{"WARNING! This will remove:", "  - all stopped containers", "  - all networks not used by at least one container"}
	if volumes {
		lines = append(lines, "  - all anonymous volumes not used by at least one container")
	}
	if all {
		lines = append(lines, "  - all images without at least one container associated to them")
	} else {
		lines = append(lines, "  - all dangling images")
	}
	if len(chosen) > 0 {
		lines = append(lines, "", "  Items to be pruned will be filtered with:")
		for _, filter := range chosen {
			lines = append(lines, "  - "+filter)
		}
	}
	return strings.Join(lines, "\n") + "\n"
}
