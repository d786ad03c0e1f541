package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/volume"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/cli/format"
)

// volumeRow is one volume as `volume ls` shows it.
type volumeRow struct {
	Availability, Driver, Group, Labels, Links string
	Mountpoint, Name, Scope, Size, Status      string
	labels                                     labelsOf
}

// Label is one label's value, for templates.
func (r volumeRow) Label(key string) string { return r.labels.value(key) }

var volumeListing = format.Listing[volumeRow]{
	Default: "{{.Driver}}\t{{.Name}}",
	Header: volumeRow{
		labels:       labelTitles,
		Availability: "AVAILABILITY", Driver: "DRIVER", Group: "GROUP", Labels: "LABELS", Links: "LINKS",
		Mountpoint: "MOUNTPOINT", Name: "VOLUME NAME", Scope: "SCOPE", Size: "SIZE", Status: "STATUS",
	},
}

func newVolumeRow(v volume.Volume) volumeRow {
	row := volumeRow{
		Availability: "N/A", Driver: v.Driver, Group: "N/A", Labels: labelText(v.Labels), Links: "N/A",
		Mountpoint: v.Mountpoint, Name: v.Name, Scope: v.Scope, Size: "N/A", Status: "N/A", labels: v.Labels,
	}
	if v.UsageData != nil {
		row.Links = fmt.Sprint(v.UsageData.RefCount)
		row.Size = units.HumanSize(float64(v.UsageData.Size))
	}
	return row
}

func listVolumes(ctx context.Context, c *client.Client) ([]string, error) {
	got, err := c.VolumeList(ctx, client.VolumeListOptions{})
	var out []string
	for _, item := range got.Items {
		out = append(out, item.Name)
	}
	return out, err
}

func inspectVolume(ctx context.Context, c *client.Client, name string) (object, error) {
	got, err := c.VolumeInspect(ctx, name, client.VolumeInspectOptions{})
	return object{raw: got.Raw, typed: got.Volume}, err
}

func (a *app) volumeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "volume",
		Short: "Create, list, inspect and remove volumes: files that outlive containers",
		Example: `  fairlead volume create data
  fairlead run -d --name db -v data:/var/lib/db demo server    use it; -v makes it where it is missing
  fairlead volume inspect -f '{{.Mountpoint}}' data            where its files are on this host
  fairlead volume ls --filter dangling=true                    those that no container uses
  fairlead volume rm data`,
		Args: groupArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.volumeCreateCommand(), a.volumeListCommand(),
		a.inspectOne("volume", "VOLUME", always(inspectVolume), listVolumes), a.volumeRemoveCommand(), a.volumePruneCommand())
	return cmd
}

func (a *app) volumeCreateCommand() *cobra.Command {
	var options client.VolumeCreateOptions
	var driverOptions, labels []string
	cmd := &cobra.Command{
		Use: "create [OPTIONS] [VOLUME]", Short: "Create a volume, and print its name",
		Example: `  fairlead volume create data
  fairlead volume create -o type=tmpfs -o device=tmpfs -o o=size=100m scratch
  fairlead volume create -o type=nfs -o o=addr=192.0.2.1,rw -o device=:/export shared`,
		Args: rangeArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if options.DriverOpts, err = keyValues("--opt", driverOptions, true); err != nil {
				return usageError{err}
			}
			if options.Labels, err = keyValues("--label", labels, true); err != nil {
				return usageError{err}
			}
			if len(args) == 1 {
				if options.Name != "" {
					return usagef("conflicting options: cannot specify a volume-name through both --name and as a positional arg")
				}
				options.Name = args[0]
			}
			return a.with(func(c *client.Client) error {
				got, err := c.VolumeCreate(cmd.Context(), options)
				if err != nil {
					return err
				}
				fmt.Fprintln(a.Out, got.Volume.Name)
				return nil
			})
		},
	}
	refuse(cmd.Flags(), map[string]string{
		"availability": clusterOnly, "group": clusterOnly, "limit-bytes": clusterOnly, "required-bytes": clusterOnly,
		"scope": clusterOnly, "secret": clusterOnly, "sharing": clusterOnly, "topology-preferred": clusterOnly,
		"topology-required": clusterOnly, "type": clusterOnly,
	})
	cmd.Flags().StringVarP(&options.Driver, "driver", "d", "local", "driver")
	cmd.Flags().StringArrayVarP(&driverOptions, "opt", "o", nil, "driver option, KEY=VALUE: type, device and o, as of mount(8)")
	cmd.Flags().StringArrayVar(&labels, "label", nil, "label, KEY=VALUE")
	cmd.Flags().StringVar(&options.Name, "name", "", "its name")
	cmd.Flags().Lookup("name").Hidden = true // docker's older way
	return cmd
}

func (a *app) volumeListCommand() *cobra.Command {
	var quiet bool
	var filterFlags []string
	var spec string
	cmd := &cobra.Command{
		Use: "ls [OPTIONS]", Aliases: []string{"list"}, Short: "List volumes",
		Example: `  fairlead volume ls
  fairlead volume ls -q --filter dangling=true`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			chosen, err := filters(filterFlags)
			if err != nil {
				return err
			}
			return a.with(func(c *client.Client) error {
				got, err := c.VolumeList(cmd.Context(), client.VolumeListOptions{Filters: chosen})
				if err != nil {
					return err
				}
				for _, warning := range got.Warnings {
					fmt.Fprintln(a.Err, "WARNING:", warning)
				}
				spec = a.ownFormat(spec, quiet, func(f *configfile.ConfigFile) string { return f.VolumesFormat })
				slices.SortFunc(got.Items, func(a, b volume.Volume) int { return strings.Compare(a.Name, b.Name) })
				rows := make([]volumeRow, len(got.Items))
				for i, item := range got.Items {
					rows[i] = newVolumeRow(item)
				}
				if quiet && (spec == "" || spec == "table") {
					spec = "{{.Name}}"
				}
				return volumeListing.Write(a.Out, spec, rows)
			})
		},
	}
	refuse(cmd.Flags(), map[string]string{"cluster": clusterOnly}, "cluster")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "names alone")
	cmd.Flags().StringArrayVarP(&filterFlags, "filter", "f", nil, "only those with KEY=VALUE: name, label, driver, dangling")
	tableFlag(cmd, &spec)
	filterKeys(cmd, "dangling", "driver", "label", "name")
	return cmd
}

func (a *app) volumeRemoveCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "rm [OPTIONS] VOLUME [VOLUME...]", Aliases: []string{"remove"},
		Short:   "Remove volumes that no container uses, and what is in them",
		Example: `  fairlead volume rm data`,
		Args:    minArgs(1), ValidArgsFunction: a.complete(0, listVolumes),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(func(c *client.Client) error {
				return a.each(args, func(name string) error {
					_, err := c.VolumeRemove(cmd.Context(), name, client.VolumeRemoveOptions{Force: force})
					if force && errdefs.IsNotFound(err) {
						return nil // as in docker: gone is what was wanted
					}
					return err
				})
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "no failure where there is none of the name")
	return cmd
}

// ownFormat is the format of docker's configuration file where the command line has
// none and asks for more than IDs.
func (a *app) ownFormat(spec string, quiet bool, of func(*configfile.ConfigFile) string) string {
	if spec != "" || quiet {
		return spec
	}
	return of(a.credentials())
}

// tableFlag registers --format of a command that lists.
func tableFlag(cmd *cobra.Command, spec *string) {
	cmd.Flags().StringVar(spec, "format", "", "table, table TEMPLATE, json, or a Go template as '{{.ID}}'")
	completeFlags(cmd, map[string]cobra.CompletionFunc{"format": fixed("table", "json")})
}
