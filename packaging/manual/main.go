// Command manual writes what the packages say of the program: the manual pages and
// the completions of the shells, from the commands themselves.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/fairlead/fairlead/cli"
	"github.com/fairlead/fairlead/daemon"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: manual VERSION DATE DIRECTORY")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "manual:", err)
		os.Exit(1)
	}
}

// write makes man/ and completions/ in the directory. The date is in RFC 3339.
func write(version, date, dir string) error {
	day, err := time.Parse(time.RFC3339, date)
	if err != nil {
		return err
	}
	root := commands(version)
	pages, completions := filepath.Join(dir, "man"), filepath.Join(dir, "completions")
	if err := errors.Join(os.MkdirAll(pages, 0o755), os.MkdirAll(completions, 0o755)); err != nil {
		return err
	}
	header := &doc.GenManHeader{Section: "1", Source: "Fairlead " + version, Manual: "Fairlead", Date: &day} // a page's title is its command
	err = doc.GenManTreeFromOpts(root, doc.GenManTreeOptions{Header: header, Path: pages, CommandSeparator: "-"})
	return errors.Join(err, ragged(pages),
		root.GenBashCompletionFileV2(filepath.Join(completions, "fairlead.bash"), true),
		root.GenZshCompletionFile(filepath.Join(completions, "fairlead.zsh")),
		root.GenFishCompletionFile(filepath.Join(completions, "fairlead.fish"), true))
}

// ragged has the pages' lines end where they end: what flags take is too long a word
// for lines of one width, of which troff warns.
func ragged(pages string) error {
	all, err := filepath.Glob(filepath.Join(pages, "*.1"))
	if err != nil {
		return err
	}
	for _, path := range all {
		page, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, bytes.Replace(page, []byte("\n\n.SH NAME"), []byte("\n.ad l\n\n.SH NAME"), 1), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// commands are those of the program, whose daemon is a front of its own.
func commands(version string) *cobra.Command {
	root := cli.Commands(cli.Build{Version: version})
	root.DisableAutoGenTag = true
	for _, cmd := range root.Commands() {
		if cmd.Name() == "daemon" {
			root.RemoveCommand(cmd)
		}
	}
	front := daemon.Command(daemon.Build{Version: version})
	cli.Finish(front)
	root.AddCommand(front)
	return root
}
