package cli

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/cli/format"
)

// imageRow is one name of an image as images shows it.
type imageRow struct {
	Containers, CreatedAt, CreatedSince, Digest, ID, Repository, SharedSize, Size, Tag, UniqueSize string
}

var imageListing = format.Listing[imageRow]{
	Default: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
	Header: imageRow{
		Containers: "CONTAINERS", CreatedAt: "CREATED AT", CreatedSince: "CREATED", Digest: "DIGEST",
		ID: "IMAGE ID", Repository: "REPOSITORY", SharedSize: "SHARED SIZE", Size: "SIZE", Tag: "TAG", UniqueSize: "UNIQUE SIZE",
	},
}

// imageListCommand is `images` and `image ls`.
func (a *app) imageListCommand(use string, aliases ...string) *cobra.Command {
	var all, quiet, noTrunc, digests, tree bool
	var filterFlags []string
	var spec string
	cmd := &cobra.Command{
		Use:     use + " [OPTIONS] [REPOSITORY[:TAG]]",
		Aliases: aliases,
		Short:   "List images",
		Example: `  fairlead images
  fairlead images -q demo                              its ID, for scripts
  fairlead images --format '{{.Repository}}:{{.Tag}}'`,
		Args: rangeArgs(0, 1), ValidArgsFunction: a.complete(1, listImages),
		RunE: func(cmd *cobra.Command, args []string) error {
			chosen, err := filters(filterFlags)
			if err != nil {
				return err
			}
			if tree {
				return usagef("--tree is not supported: leave it out; --format '{{json .}}' has all there is")
			}
			if len(args) == 1 {
				chosen.Add("reference", args[0])
			}
			spec = a.ownFormat(spec, quiet || digests, func(f *configfile.ConfigFile) string { return f.ImagesFormat })
			return a.with(func(c *client.Client) error {
				got, err := c.ImageList(cmd.Context(), client.ImageListOptions{All: all, Filters: chosen})
				if err != nil {
					return err
				}
				var rows []imageRow
				for _, item := range got.Items {
					rows = append(rows, imageRows(item, noTrunc, time.Now())...)
				}
				listing := imageListing
				if digests {
					listing.Default = strings.Replace(listing.Default, "{{.ID}}", `{{.Digest}}\t{{.ID}}`, 1)
				}
				if quiet && (spec == "" || spec == "table") {
					spec = "{{.ID}}"
					rows = distinctIDs(rows)
				}
				return listing.Write(a.Out, spec, rows)
			})
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "images without a name, too")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "IDs alone")
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "do not shorten IDs")
	cmd.Flags().StringArrayVarP(&filterFlags, "filter", "f", nil, "only those with KEY=VALUE: reference, label, dangling, …")
	cmd.Flags().BoolVar(&digests, "digests", false, "with the digests that registries know them by")
	cmd.Flags().BoolVar(&tree, "tree", false, "several platforms as a tree: not supported")
	cmd.Flags().Lookup("tree").Hidden = true
	tableFlag(cmd, &spec)
	filterKeys(cmd, "before", "dangling", "label", "reference", "since", "until")
	return cmd
}

func (a *app) imagesCommand() *cobra.Command { return a.imageListCommand("images") }

// imageRows gives one row for each name of the image, and one without a name
// where it has none.
func imageRows(item image.Summary, noTrunc bool, now time.Time) []imageRow {
	created := time.Unix(item.Created, 0)
	base := imageRow{
		Containers: "N/A", CreatedAt: created.Format("2006-01-02 15:04:05 -0700 MST"),
		CreatedSince: units.HumanDuration(now.Sub(created)) + " ago",
		Digest:       "<none>", ID: item.ID, Repository: "<none>", Tag: "<none>",
		Size: units.HumanSizeWithPrecision(float64(item.Size), 3), SharedSize: "N/A", UniqueSize: "N/A",
	}
	if item.SharedSize >= 0 {
		base.SharedSize = units.HumanSize(float64(item.SharedSize))
		base.UniqueSize = units.HumanSize(float64(item.Size - item.SharedSize))
	}
	if item.Created <= 0 {
		base.CreatedSince = "N/A"
	}
	if item.Containers >= 0 {
		base.Containers = fmt.Sprint(item.Containers)
	}
	if !noTrunc {
		base.ID = format.ShortID(item.ID)
	}
	for _, digest := range item.RepoDigests {
		if _, value, found := strings.Cut(digest, "@"); found {
			base.Digest = value
		}
	}
	var rows []imageRow
	for _, tag := range item.RepoTags {
		row := base
		if i := strings.LastIndex(tag, ":"); i > strings.LastIndex(tag, "/") {
			row.Repository, row.Tag = tag[:i], tag[i+1:]
		} else {
			row.Repository = tag
		}
		rows = append(rows, row)
	}
	if rows == nil {
		rows = append(rows, base)
	}
	return rows
}

// distinctIDs drops the further names of an image: -q lists each once.
func distinctIDs(rows []imageRow) []imageRow {
	seen := map[string]bool{}
	var out []imageRow
	for _, row := range rows {
		if !seen[row.ID] {
			seen[row.ID] = true
			out = append(out, row)
		}
	}
	return out
}

func (a *app) imageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "List, inspect, name and remove images",
		Example: `  fairlead image ls
  fairlead image inspect demo
  fairlead image tag demo demo:1
  fairlead image rm demo:1`,
		Args: groupArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var platform platformFlag
	inspect := a.inspectOne("image", "IMAGE", func() (getter, error) { return inspectImageOf(platform) }, listImages)
	platform.register(inspect.Flags(), "platform, where the image has several")
	cmd.AddCommand(a.imageListCommand("ls", "list"), a.removeImages("rm", "remove"), inspect, a.tagCommand(), a.importCommand(), a.loadCommand(),
		a.pullCommand(), a.pushCommand(), a.saveCommand(), a.historyCommand(), a.imagePruneCommand(), buildCommand())
	return cmd
}

// inspectImageOf inspects the image of one platform. The variable for pulls is not
// looked at: what is there is to be seen.
func inspectImageOf(f platformFlag) (getter, error) {
	if f.platform == "" {
		return inspectImage, nil
	}
	wanted, err := f.platforms()
	if err != nil {
		return nil, usageError{err}
	}
	return func(ctx context.Context, c *client.Client, name string) (object, error) {
		var raw bytes.Buffer
		got, err := c.ImageInspect(ctx, name, client.ImageInspectWithRawResponse(&raw), client.ImageInspectWithPlatform(&wanted[0]))
		return object{raw: raw.Bytes(), typed: got.InspectResponse}, err
	}, nil
}

func (a *app) tagCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "tag SOURCE[:TAG] TARGET[:TAG]",
		Short:   "Give an image a further name",
		Example: `  fairlead tag demo demo:1`,
		Args:    exactArgs(2), ValidArgsFunction: a.complete(1, listImages),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(func(c *client.Client) error {
				_, err := c.ImageTag(cmd.Context(), client.ImageTagOptions{Source: args[0], Target: args[1]})
				return err
			})
		},
	}
}

func (a *app) rmiCommand() *cobra.Command { return a.removeImages("rmi") }

func (a *app) removeImages(use string, aliases ...string) *cobra.Command {
	var force, noPrune bool
	var platform platformFlag
	cmd := &cobra.Command{
		Use:     use + " [OPTIONS] IMAGE [IMAGE...]",
		Aliases: aliases,
		Short:   "Remove images",
		Example: `  fairlead rmi demo:1    the image goes when its last name does`,
		Args:    minArgs(1), ValidArgsFunction: a.complete(0, listImages),
		RunE: func(cmd *cobra.Command, args []string) error {
			var options client.ImageRemoveOptions
			options.Force, options.PruneChildren = force, !noPrune
			if platform.platform != "" {
				wanted, err := platform.platforms()
				if err != nil {
					return usageError{err}
				}
				options.Platforms = wanted
			}
			return a.with(func(c *client.Client) error {
				return a.quietly(args, func(name string) error {
					got, err := c.ImageRemove(cmd.Context(), name, options)
					for _, item := range got.Items {
						if item.Untagged != "" {
							fmt.Fprintln(a.Out, "Untagged:", item.Untagged)
						}
						if item.Deleted != "" {
							fmt.Fprintln(a.Out, "Deleted:", item.Deleted)
						}
					}
					return err
				})
			})
		},
	}
	cmd.Flags().BoolVar(&noPrune, "no-prune", false, "keep parents without a name")
	platform.register(cmd.Flags(), "platform to remove alone")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "also where a stopped container uses it, or it has several names")
	return cmd
}
