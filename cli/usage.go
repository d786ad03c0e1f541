package cli

import (
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagGroup is the annotation of a flag that says under which title help shows it.
const flagGroup = "fairlead_flag_group"

// The titles, in the order of help. Flags without one are shown first.
const (
	titleNetwork = "Networks, names and ports"
	titleFiles   = "Volumes and files"
	titleHealth  = "Health, restarts and logs"
	titleLimits  = "Limits"
	titleDevices = "Devices"
	titleRights  = "Rights and namespaces"
	titleImage   = "Image"
)

var titles = []string{"Flags", titleNetwork, titleFiles, titleHealth, titleLimits, titleDevices, titleRights, titleImage}

// under has the flags that register adds shown under a title of their own.
func under(fl *pflag.FlagSet, title string, register func()) {
	before := map[string]bool{}
	fl.VisitAll(func(f *pflag.Flag) { before[f.Name] = true })
	register()
	fl.VisitAll(func(f *pflag.Flag) {
		if !before[f.Name] {
			f.Annotations = map[string][]string{flagGroup: {title}}
		}
	})
}

// flagGroups is the help on a command's flags.
func flagGroups(fl *pflag.FlagSet) string {
	groups := map[string]*pflag.FlagSet{}
	fl.VisitAll(func(f *pflag.Flag) {
		title := titles[0]
		if given := f.Annotations[flagGroup]; len(given) > 0 {
			title = given[0]
		}
		if groups[title] == nil {
			groups[title] = pflag.NewFlagSet("", pflag.ContinueOnError)
		}
		groups[title].AddFlag(f)
	})
	var text strings.Builder
	for _, title := range titles {
		if group := groups[title]; group != nil && group.HasAvailableFlags() {
			text.WriteString("\n" + title + ":\n" + strings.TrimRight(group.FlagUsages(), " \n") + "\n")
		}
	}
	return strings.TrimRight(text.String(), "\n")
}

// templateFuncs makes flagGroups known to cobra's templates: one map for the
// whole process, without a lock, while tests make several roots at once.
var templateFuncs = sync.OnceFunc(func() { cobra.AddTemplateFunc("flagGroups", flagGroups) })

// setUsage has help show flags under their titles.
func setUsage(root *cobra.Command) {
	templateFuncs()
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		finishFlags(cmd)
		help(cmd, args)
	})
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(),
		"\n\nFlags:\n{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}", "\n{{flagGroups .LocalFlags}}", 1))
}
