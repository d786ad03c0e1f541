package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/cli/format"
)

// historyRow is one step of an image's making.
type historyRow struct{ Comment, CreatedAt, CreatedBy, CreatedSince, ID, Size string }

var historyListing = format.Listing[historyRow]{
	Default: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
	Header: historyRow{
		Comment: "COMMENT", CreatedAt: "CREATED AT", CreatedBy: "CREATED BY", CreatedSince: "CREATED", ID: "IMAGE", Size: "SIZE",
	},
}

func newHistoryRow(item image.HistoryResponseItem, human, noTrunc bool, now time.Time) historyRow {
	created := time.Unix(item.Created, 0)
	row := historyRow{
		Comment: item.Comment, CreatedAt: created.Format(time.RFC3339), CreatedSince: "N/A",
		CreatedBy: strings.ReplaceAll(item.CreatedBy, "\t", " "), ID: item.ID, Size: strconv.FormatInt(item.Size, 10),
	}
	if item.Created > 0 {
		row.CreatedSince = units.HumanDuration(now.Sub(created)) + " ago"
	}
	if human {
		row.Size = units.HumanSizeWithPrecision(float64(item.Size), 3)
	}
	if !noTrunc {
		row.CreatedBy = format.Ellipsis(row.CreatedBy, 45)
		row.ID = format.ShortID(item.ID)
	}
	return row
}

func (a *app) historyCommand() *cobra.Command {
	var platform platformFlag
	var human, noTrunc, quiet bool
	var spec string
	cmd := &cobra.Command{
		Use: "history [OPTIONS] IMAGE", Short: "Show how an image was made, the last step first",
		Example: `  fairlead history demo
  fairlead history --no-trunc --format '{{.CreatedBy}}' demo`,
		Args: exactArgs(1), ValidArgsFunction: a.complete(1, listImages),
		RunE: func(cmd *cobra.Command, args []string) error {
			wanted, err := platform.platforms()
			if err != nil {
				return usageError{err}
			}
			var options []client.ImageHistoryOption
			if len(wanted) > 0 {
				options = append(options, client.ImageHistoryWithPlatform(wanted[0]))
			}
			return a.with(func(c *client.Client) error {
				got, err := c.ImageHistory(cmd.Context(), args[0], options...)
				if err != nil {
					return err
				}
				rows := make([]historyRow, len(got.Items))
				for i, item := range got.Items {
					rows[i] = newHistoryRow(item, human, noTrunc, time.Now())
				}
				listing := historyListing
				if !human {
					listing.Default = strings.Replace(listing.Default, "CreatedSince", "CreatedAt", 1)
				}
				if quiet && (spec == "" || spec == "table") {
					spec = "{{.ID}}"
				}
				return listing.Write(a.Out, spec, rows)
			})
		},
	}
	// -H is docker's --human here: the daemon goes before the command, or is --host.
	cmd.Flags().StringVar(&a.host, "host", "", "daemon to talk to")
	cmd.Flags().BoolVarP(&human, "human", "H", true, "sizes and times for people")
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "do not shorten IDs and commands")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "IDs alone")
	platform.register(cmd.Flags(), "platform, where the image has several")
	tableFlag(cmd, &spec)
	return cmd
}

func (a *app) saveCommand() *cobra.Command {
	var platform platformFlag
	var output string
	cmd := &cobra.Command{
		Use: "save [OPTIONS] IMAGE [IMAGE...]", Short: "Pack images into an archive that load, docker and other OCI tools read",
		Example: `  fairlead save -o demo.tar demo:1 demo:2
  fairlead save demo | ssh other fairlead load`,
		Args: minArgs(1), ValidArgsFunction: a.complete(0, listImages),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.checkOutput(output); err != nil {
				return err
			}
			wanted, err := platform.platforms()
			if err != nil {
				return usageError{err}
			}
			var options []client.ImageSaveOption
			if len(wanted) > 0 {
				options = append(options, client.ImageSaveWithPlatforms(wanted...))
			}
			return a.with(func(c *client.Client) error {
				archive, err := c.ImageSave(cmd.Context(), args, options...)
				if err != nil {
					return err
				}
				defer func() { _ = archive.Close() }()
				return a.writeArchive(output, archive)
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write (default: standard output)")
	platform.register(cmd.Flags(), "platform to save alone")
	return cmd
}

// elsewhere is a command of docker's that is not here, and what to do in its place.
func elsewhere(use, short, way string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, DisableFlagParsing: true, Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fmt.Errorf("%s is not supported: %s", cmd.Name(), way)
		},
	}
}

func buildCommand() *cobra.Command {
	return elsewhere("build", "Images are built by other tools",
		"build with another tool, as `buildah build -t NAME .` or `buildctl build`, and take the result by `fairlead load` or from a registry by `fairlead pull`")
}

func searchCommand() *cobra.Command {
	return elsewhere("search", "Registries are searched on their web pages",
		"search on the registry's web page, as https://hub.docker.com/search, and get the image by `fairlead pull NAME`")
}
