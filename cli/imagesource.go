package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
	xterm "golang.org/x/term"
)

func (a *app) importCommand() *cobra.Command {
	var options client.ImageImportOptions
	var platform platformFlag
	cmd := &cobra.Command{
		Use:   "import [OPTIONS] FILE|- [REPOSITORY[:TAG]]",
		Short: "Make an image of a root file system in a tar archive",
		Example: `  tar -C rootfs -c . | fairlead import - demo
  fairlead import --change 'CMD ["/bin/sh"]' --change 'EXPOSE 80' rootfs.tar.gz demo:1`,
		Args: rangeArgs(1, 2),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return nil, cobra.ShellCompDirectiveDefault // a file
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			wanted, err := platform.platforms()
			if err != nil {
				return usageError{err}
			}
			if len(wanted) > 0 {
				options.Platform = wanted[0]
			}
			ref := ""
			if len(args) == 2 {
				ref = args[1]
			}
			source, closeSource, err := a.archive(args[0])
			if err != nil {
				return err
			}
			defer closeSource()
			return a.with(func(c *client.Client) error {
				answer, err := c.ImageImport(cmd.Context(), client.ImageImportSource{Source: source, SourceName: "-"}, ref, options)
				if err != nil {
					return err
				}
				defer func() { _ = answer.Close() }()
				return a.printProgress(answer, a.Out)
			})
		},
	}
	cmd.Flags().StringArrayVarP(&options.Changes, "change", "c", nil, "Dockerfile instruction for the image: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, WORKDIR, …")
	platform.register(cmd.Flags(), "platform that it is for")
	cmd.Flags().StringVarP(&options.Message, "message", "m", "", "comment kept with the image")
	return cmd
}

func (a *app) loadCommand() *cobra.Command {
	var input string
	var quiet bool
	var platform platformFlag
	cmd := &cobra.Command{
		Use:   "load [OPTIONS]",
		Short: "Load images from an archive that docker save, or another OCI tool, wrote",
		Example: `  fairlead load -i demo.tar
  docker save demo | fairlead load`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Without a terminal the layers' progress says nothing.
			quiet = quiet || !isTerminal(a.Out)
			options := []client.ImageLoadOption{client.ImageLoadWithQuiet(quiet)}
			if platform.platform != "" {
				wanted, err := platform.platforms()
				if err != nil {
					return usageError{err}
				}
				options = append(options, client.ImageLoadWithPlatforms(wanted...))
			}
			source, closeSource, err := a.archive(input)
			if err != nil {
				return err
			}
			defer closeSource()
			return a.with(func(c *client.Client) error {
				answer, err := c.ImageLoad(cmd.Context(), source, options...)
				if err != nil {
					return err
				}
				defer func() { _ = answer.Close() }()
				if quiet {
					return a.printProgress(answer, io.Discard)
				}
				return showProgress(answer, a.Out)
			})
		},
	}
	platform.register(cmd.Flags(), "platform to load alone")
	cmd.Flags().StringVarP(&input, "input", "i", "-", "archive's file, - for standard input")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the images' names alone, not the progress")
	return cmd
}

// archive opens the named file, or our standard input for "-", which must not be
// a terminal: nobody types an archive.
func (a *app) archive(name string) (io.Reader, func(), error) {
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, nil, err
		}
		if info, err := file.Stat(); err == nil && info.IsDir() {
			_ = file.Close()
			return nil, nil, fmt.Errorf("%s is a directory: pack it with `tar -C %[1]s -c .` and pass that to -", name)
		}
		return file, func() { _ = file.Close() }, nil
	}
	if file, ok := a.stdinFile(); ok && xterm.IsTerminal(int(file.Fd())) {
		return nil, nil, usagef("no archive: name a file, or pass one to standard input")
	}
	return a.In, func() {}, nil
}

// printProgress prints the daemon's messages, results to the command's output
// and progress to the other writer, and returns the error among them.
func (a *app) printProgress(answer io.Reader, progress io.Writer) error {
	dec := json.NewDecoder(answer)
	for {
		var m jsonstream.Message
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read the daemon's answer: %w", err)
		}
		switch {
		case m.Error != nil:
			return errors.New(m.Error.Message)
		case m.Stream != "":
			fmt.Fprintln(a.Out, strings.TrimSuffix(m.Stream, "\n"))
		case m.Status != "":
			fmt.Fprintln(progress, m.Status)
		}
	}
}
