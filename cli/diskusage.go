package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/cli/format"
)

// usageRow is the disk space of one kind of object.
type usageRow struct{ Active, Reclaimable, Size, TotalCount, Type string }

var usageListing = format.Listing[usageRow]{
	Default: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
	Header:  usageRow{Active: "ACTIVE", Reclaimable: "RECLAIMABLE", Size: "SIZE", TotalCount: "TOTAL", Type: "TYPE"},
}

func newUsageRow(kind string, total, active, size, reclaimable int64, percent bool) usageRow {
	row := usageRow{
		Type: kind, TotalCount: fmt.Sprint(total), Active: fmt.Sprint(active),
		Size: units.HumanSize(float64(size)), Reclaimable: units.HumanSize(float64(reclaimable)),
	}
	if percent && size > 0 {
		row.Reclaimable += fmt.Sprintf(" (%d%%)", reclaimable*100/size)
	}
	return row
}

func (a *app) diskUsageCommand() *cobra.Command {
	var verbose bool
	var spec string
	cmd := &cobra.Command{
		Use: "df [OPTIONS]", Short: "Show the disk space that images, containers and volumes take",
		Example: `  fairlead system df
  fairlead system df -v     each of them; prune gives back what is reclaimable`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if verbose && spec != "" && spec != "json" {
				return usagef("--format of -v is json alone")
			}
			return a.with(func(c *client.Client) error {
				got, err := c.DiskUsage(cmd.Context(), client.DiskUsageOptions{Verbose: verbose})
				if err != nil {
					return err
				}
				switch {
				case verbose && spec == "json":
					return a.printTemplate(got, spec)
				case verbose:
					return a.printUsage(got)
				}
				return usageListing.Write(a.Out, spec, []usageRow{
					newUsageRow("Images", got.Images.TotalCount, got.Images.ActiveCount, got.Images.TotalSize, got.Images.Reclaimable, true),
					newUsageRow("Containers", got.Containers.TotalCount, got.Containers.ActiveCount, got.Containers.TotalSize, got.Containers.Reclaimable, true),
					newUsageRow("Local Volumes", got.Volumes.TotalCount, got.Volumes.ActiveCount, got.Volumes.TotalSize, got.Volumes.Reclaimable, true),
					newUsageRow("Build Cache", got.BuildCache.TotalCount, got.BuildCache.ActiveCount, got.BuildCache.TotalSize, got.BuildCache.Reclaimable, false),
				})
			})
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "each image, container and volume")
	tableFlag(cmd, &spec)
	return cmd
}

// printUsage lists every object.
func (a *app) printUsage(got client.DiskUsageResult) error {
	now := time.Now()
	fmt.Fprint(a.Out, "Images space usage:\n\n")
	var images []imageRow
	for _, item := range got.Images.Items {
		images = append(images, imageRows(item, false, now)...)
	}
	err := imageListing.Write(a.Out,
		`table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}`, images)
	if err != nil {
		return err
	}
	fmt.Fprint(a.Out, "\nContainers space usage:\n\n")
	rows := make([]psRow, len(got.Containers.Items))
	for i, item := range got.Containers.Items {
		rows[i] = newPsRow(item, false, now)
		rows[i].Size = units.HumanSizeWithPrecision(float64(item.SizeRw), 3)
	}
	if err := psListing.Write(a.Out, `table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}`, rows); err != nil {
		return err
	}
	fmt.Fprint(a.Out, "\nLocal Volumes space usage:\n\n")
	volumes := make([]volumeRow, len(got.Volumes.Items))
	for i, item := range got.Volumes.Items {
		volumes[i] = newVolumeRow(item)
	}
	slices.SortFunc(volumes, func(a, b volumeRow) int { return strings.Compare(a.Name, b.Name) })
	if err := volumeListing.Write(a.Out, `table {{.Name}}\t{{.Links}}\t{{.Size}}`, volumes); err != nil {
		return err
	}
	// There is none ever: images are not built here.
	fmt.Fprintf(a.Out, "\nBuild cache usage: %s\n\nCACHE ID   CACHE TYPE   SIZE      CREATED   LAST USED   USAGE     SHARED\n",
		units.HumanSize(float64(got.BuildCache.TotalSize)))
	return nil
}
