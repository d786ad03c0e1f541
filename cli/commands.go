package cli

import "github.com/spf13/cobra"

// Commands is the whole command line, for those who describe it: manual pages and
// the shells' completions. It is not for running.
func Commands(build Build) *cobra.Command {
	root := (&app{build: build}).root()
	each(root, finishFlags)
	return root
}
