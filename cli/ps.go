package cli

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/cli/format"
)

// psRow is one container as ps shows it; the fields are those of Docker's
// --format, in the order its JSON has.
type psRow struct {
	Command, CreatedAt, ID, Image, Labels, LocalVolumes, Mounts string
	Names, Networks                                             string
	Platform                                                    any
	Ports, RunningFor, Size, State, Status                      string
	labels                                                      labelsOf
}

// wantsSize finds in a --format what has the size in it. For the word json alone Docker
// does not ask for it.
var wantsSize = regexp.MustCompile(`\.Size|\bjson\s+\.(\W|$)`)

// Label is one label's value, for templates.
func (r psRow) Label(key string) string { return r.labels.value(key) }

var psListing = format.Listing[psRow]{
	Default: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
	Header: psRow{
		labels:  labelTitles,
		Command: "COMMAND", CreatedAt: "CREATED AT", ID: "CONTAINER ID", Image: "IMAGE", Labels: "LABELS",
		LocalVolumes: "LOCAL VOLUMES", Mounts: "MOUNTS", Names: "NAMES", Networks: "NETWORKS", Ports: "PORTS", Platform: "PLATFORM",
		RunningFor: "CREATED", Size: "SIZE", State: "STATE", Status: "STATUS",
	},
}

func (a *app) psCommand() *cobra.Command { return a.listCommand("ps") }

// listCommand is ps, and `container ls`.
func (a *app) listCommand(use string, aliases ...string) *cobra.Command {
	var all, quiet, noTrunc, latest, size bool
	var last int
	var filterFlags []string
	var spec string
	cmd := &cobra.Command{
		Use: use + " [OPTIONS]", Aliases: aliases,
		Short: "List containers, with their published ports",
		Example: `  fairlead ps                                            those that run
  fairlead ps -a --filter status=exited                  those that have exited
  fairlead ps -q --filter name=web                       an ID, for scripts
  fairlead ps --format 'table {{.Names}}\t{{.Ports}}'    chosen columns`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if latest {
				last = 1
			}
			chosen, err := filters(filterFlags)
			if err != nil {
				return err
			}
			spec = a.ownFormat(spec, quiet, func(f *configfile.ConfigFile) string { return f.PsFormat })
			return a.with(func(c *client.Client) error {
				got, err := c.ContainerList(cmd.Context(), client.ContainerListOptions{
					All: all, Limit: max(last, 0), Filters: chosen, Size: size || wantsSize.MatchString(spec),
				})
				if err != nil {
					return err
				}
				rows := make([]psRow, len(got.Items))
				for i, item := range got.Items {
					rows[i] = newPsRow(item, noTrunc, time.Now())
				}
				listing := psListing
				if size {
					listing.Default += `\t{{.Size}}`
				}
				if quiet && (spec == "" || spec == "table") {
					spec = "{{.ID}}"
				}
				return listing.Write(a.Out, spec, rows)
			})
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "those that do not run, too")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "IDs alone")
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "do not shorten IDs and commands")
	cmd.Flags().IntVarP(&last, "last", "n", -1, "the last N created, running or not")
	cmd.Flags().BoolVarP(&latest, "latest", "l", false, "the last one created, running or not")
	cmd.Flags().StringArrayVarP(&filterFlags, "filter", "f", nil, "only those with KEY=VALUE: id, name, label, status, network, publish, expose, exited, ancestor, before, since, volume, health")
	cmd.Flags().BoolVarP(&size, "size", "s", false, "with the size of the containers' files")
	tableFlag(cmd, &spec)
	filterKeys(cmd, "ancestor", "before", "exited", "expose", "health", "id", "label", "name", "network", "publish", "since", "status", "volume")
	return cmd
}

// platformRow is a platform that templates print as people write it.
type platformRow ocispec.Platform

func (p platformRow) String() string { return platforms.FormatAll(ocispec.Platform(p)) }

func newPsRow(c container.Summary, noTrunc bool, now time.Time) psRow {
	created := time.Unix(c.Created, 0)
	row := psRow{
		ID: c.ID, Image: c.Image, Command: c.Command,
		CreatedAt:  created.Format("2006-01-02 15:04:05 -0700 MST"),
		RunningFor: units.HumanDuration(now.Sub(created)) + " ago",
		Ports:      format.Ports(c.Ports),
		State:      string(c.State), Status: c.Status, Size: units.HumanSizeWithPrecision(float64(c.SizeRw), 3),
		Names: names(c.Names), Labels: labelText(c.Labels), labels: c.Labels,
	}
	var platform *platformRow
	if d := c.ImageManifestDescriptor; d != nil {
		platform = (*platformRow)(d.Platform)
	}
	row.Platform = platform
	if c.SizeRootFs > 0 {
		row.Size += " (virtual " + units.HumanSizeWithPrecision(float64(c.SizeRootFs), 3) + ")"
	}
	row.Mounts, row.LocalVolumes = mountText(c.Mounts, noTrunc)
	if !noTrunc {
		row.ID = format.ShortID(c.ID)
		row.Command = format.Ellipsis(c.Command, 20)
		if strings.HasPrefix(c.Image, "sha256:") {
			row.Image = format.ShortID(c.Image)
		}
	}
	row.Command = strconv.Quote(row.Command)
	if c.NetworkSettings != nil {
		var networks []string
		for name := range c.NetworkSettings.Networks {
			networks = append(networks, name)
		}
		slices.Sort(networks)
		row.Networks = strings.Join(networks, ",")
	}
	return row
}

// mountText names volumes and the paths of binds, and counts the volumes.
func mountText(mounts []container.MountPoint, noTrunc bool) (list, volumes string) {
	var named []string
	count := 0
	for _, m := range mounts {
		name := m.Name
		if name == "" {
			name = m.Source
		}
		if !noTrunc {
			name = format.Ellipsis(name, 15)
		}
		if m.Driver == "local" {
			count++
		}
		named = append(named, name)
	}
	return strings.Join(named, ","), strconv.Itoa(count)
}

// names drops the slash that the API puts before each, and the names a linking
// container has for another.
func names(full []string) string {
	var short []string
	for _, name := range full {
		if name = strings.TrimPrefix(name, "/"); !strings.Contains(name, "/") {
			short = append(short, name)
		}
	}
	return strings.Join(short, ",")
}

// labelsOf are an object's labels; the row of titles has labelTitles.
type labelsOf map[string]string

var labelTitles = labelsOf{"": ""}

// value is a label's, and in the row of titles, which is all that has a label without a
// name, the key.
func (l labelsOf) value(key string) string {
	if _, titles := l[""]; titles {
		return key
	}
	return l[key]
}

func labelText(labels map[string]string) string {
	var pairs []string
	for key, value := range labels {
		pairs = append(pairs, key+"="+value)
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}
