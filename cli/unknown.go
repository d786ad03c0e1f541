package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// destructive commands are not suggested: who mistypes and follows would lose
// something.
var destructive = []string{"kill", "prune", "rm", "rmi", "stop", "system"}

// hint is what to do in place of a word that is no command of a group: docker's way
// where the word is docker's, otherwise the commands that are written almost so.
func hint(group *cobra.Command, word string) string {
	if way, known := otherWords[word]; known && !group.HasParent() {
		return ": " + way
	}
	// Two letters of three make another word.
	group.SuggestionsMinimumDistance = 1
	if len(word) > 3 {
		group.SuggestionsMinimumDistance = 2
	}
	near := slices.DeleteFunc(group.SuggestionsFor(word), func(name string) bool { return slices.Contains(destructive, name) })
	if len(near) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(near, " or ") + "?"
}

func unknownCommand(root *cobra.Command, word string) error {
	return countf("%q is not a fairlead command%s", word, hint(root, word))
}

// groupArgs refuses an unknown word after a command that only groups others.
func groupArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return countf("%q is not a command of %q%s", args[0], cmd.CommandPath(), hint(cmd, args[0]))
}

// helpTopics has `help` refuse what it knows nothing of.
func helpTopics(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	help, _, err := root.Find([]string{"help"})
	if err != nil || help == root {
		return
	}
	help.PreRunE = func(_ *cobra.Command, args []string) error {
		group, rest, err := root.Find(args)
		if err == nil && len(rest) == 0 {
			return nil
		}
		text := "unknown help topic: " + strings.Join(args, " ")
		if group != nil && len(rest) > 0 {
			text += hint(group, rest[0])
		}
		return fmt.Errorf("%s", text)
	}
}
