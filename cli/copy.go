package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/docker/go-units"
	"github.com/moby/go-archive"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

// copyFlags are those of cp.
type copyFlags struct{ archive, followLink, quiet bool }

// end is one end of a copy: a path in a container, or on this host where the container
// is "".
type end struct{ container, path string }

// parseEnd reads [CONTAINER:]PATH. What begins with a slash or a dot is this host's,
// whatever else is in it.
func parseEnd(text string) end {
	if strings.HasPrefix(text, "/") || strings.HasPrefix(text, ".") {
		return end{path: text}
	}
	name, inside, found := strings.Cut(text, ":")
	if !found || name == "" {
		return end{path: text}
	}
	return end{name, inside}
}

func (a *app) copyCommand() *cobra.Command {
	var f copyFlags
	cmd := &cobra.Command{
		Use:   "cp [OPTIONS] CONTAINER:PATH PATH|- or PATH|- CONTAINER:PATH",
		Short: "Copy files out of a container, or into one, running or not",
		Long: `Copy files out of a container, or into one, running or not.

A directory that is there gets the source into it; one that is not there becomes
the copy. SOURCE/. is what is in a directory, without the directory. - is a tar
archive on standard output or input.`,
		Example: `  fairlead cp web:/etc/motd .
  fairlead cp site/. web:/www
  fairlead cp web:/var/log - | tar -t`,
		Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			source, target := parseEnd(args[0]), parseEnd(args[1])
			if !cmd.Flags().Changed("quiet") {
				_, _, terminal := a.terminalSize()
				f.quiet = !terminal
			}
			for _, e := range []end{source, target} {
				if e.path == "" {
					return usagef("the path is missing: want CONTAINER:PATH")
				}
			}
			switch {
			case source.container != "" && target.container != "":
				return usagef("copying between containers is not supported: copy to this host first, or `fairlead cp A:PATH - | fairlead cp - B:PATH`")
			case source.container == "" && target.container == "":
				return usagef("must specify at least one container source: want CONTAINER:PATH on one side")
			}
			return a.with(func(c *client.Client) error {
				if source.container != "" {
					return a.copyOut(cmd.Context(), c, source, target.path, f)
				}
				return a.copyIn(cmd.Context(), c, source.path, target, f)
			})
		},
		ValidArgsFunction: a.completeEnds,
	}
	cmd.Flags().BoolVarP(&f.archive, "archive", "a", false, "keep who owns the files, by number")
	cmd.Flags().BoolVarP(&f.followLink, "follow-link", "L", false, "copy what a symbolic link leads to, not the link")
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "do not say what was copied (nor where no terminal is)")
	return cmd
}

// completeEnds offers containers, with a colon, and this host's files.
func (a *app) completeEnds(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 1 || strings.Contains(typed, ":") {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names, _ := a.complete(0, listContainers(true))(cmd, nil, typed)
	var out []string
	for _, name := range names {
		out = append(out, name+":")
	}
	return out, cobra.ShellCompDirectiveNoSpace
}

// absolute makes a path of this host absolute, and keeps a trailing slash or dot, which
// says that a directory is meant, or what is in it.
func absolute(name string) (string, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	return archive.PreserveTrailingDotOrSeparator(abs, name), nil
}

// copyOut copies from a container to this host.
func (a *app) copyOut(ctx context.Context, c *client.Client, source end, target string, f copyFlags) error {
	if target == "-" {
		if err := a.checkOutput(""); err != nil {
			return err
		}
	}
	from := source.path
	var rebase string
	if f.followLink {
		// A path that is not there is the copy's to report.
		if got, err := c.ContainerStatPath(ctx, source.container, client.ContainerStatPathOptions{Path: from}); err == nil && got.Stat.Mode&os.ModeSymlink != 0 {
			from, rebase = archive.GetRebaseName(from, linkTarget(from, got.Stat))
		}
	}
	got, err := c.CopyFromContainer(ctx, source.container, client.CopyFromContainerOptions{SourcePath: from})
	if err != nil {
		return err
	}
	defer func() { _ = got.Content.Close() }()
	if target == "-" {
		_, err := io.Copy(a.Out, got.Content)
		return cut(err)
	}
	if target, err = absolute(target); err != nil {
		return err
	}
	count := &counter{reader: got.Content}
	var content io.Reader = count
	info := archive.CopyInfo{Path: from, Exists: true, IsDir: got.Stat.Mode.IsDir(), RebaseName: rebase}
	if rebase != "" {
		_, base := archive.SplitPathDirEntry(info.Path)
		renamed := archive.RebaseArchiveEntries(content, base, rebase)
		defer func() { _ = renamed.Close() }()
		content = renamed
	}
	if err := archive.CopyTo(content, info, target); err != nil {
		return fmt.Errorf("copy to %s: %w", target, err)
	}
	a.copied(count, target, f)
	return nil
}

// linkTarget is where a symbolic link in a container leads.
func linkTarget(name string, stat container.PathStat) string {
	if path.IsAbs(stat.LinkTarget) {
		return stat.LinkTarget
	}
	return path.Join(path.Dir(path.Clean(name)), stat.LinkTarget)
}

// copyIn copies from this host to a container.
func (a *app) copyIn(ctx context.Context, c *client.Client, source string, target end, f copyFlags) error {
	to, err := containerTarget(ctx, c, target)
	if err != nil {
		return err
	}
	count := &counter{}
	directory := to.Path
	if source == "-" {
		if !to.IsDir {
			return fmt.Errorf("destination \"%s:%s\" must be a directory", target.container, target.path)
		}
		input, _, err := a.archive("-")
		if err != nil {
			return err
		}
		count.reader = input
	} else {
		if source, err = absolute(source); err != nil {
			return err
		}
		info, err := archive.CopyInfoSourcePath(source, f.followLink)
		if err != nil {
			return err
		}
		packed, err := archive.TarResource(info)
		if err != nil {
			return err
		}
		defer func() { _ = packed.Close() }()
		prepared, err := prepare(packed, info, &to)
		if err != nil {
			return err
		}
		defer func() { _ = prepared.Close() }()
		directory, count.reader = to.Path, prepared
	}
	_, err = c.CopyToContainer(ctx, target.container, client.CopyToContainerOptions{
		DestinationPath: directory, Content: count, CopyUIDGID: f.archive,
	})
	if err != nil {
		return err
	}
	a.copied(count, target.container+":"+target.path, f)
	return nil
}

// prepare has the archive's names fit the target, whose path becomes the directory that
// it is unpacked in.
func prepare(packed io.Reader, info archive.CopyInfo, to *archive.CopyInfo) (io.ReadCloser, error) {
	directory, prepared, err := archive.PrepareArchiveCopy(packed, info, *to)
	switch {
	case errors.Is(err, archive.ErrCannotCopyDir):
		return nil, fmt.Errorf("cannot copy a directory onto the file %s", to.Path)
	case errors.Is(err, archive.ErrDirNotExists):
		return nil, fmt.Errorf("no such directory: %s", to.Path)
	case err != nil:
		return nil, err
	}
	to.Path = directory
	return prepared, nil
}

// containerTarget looks at where files are to go, through one symbolic link. A path that
// is not there may be what is to be made.
func containerTarget(ctx context.Context, c *client.Client, target end) (archive.CopyInfo, error) {
	to := archive.CopyInfo{Path: target.path}
	got, err := c.ContainerStatPath(ctx, target.container, client.ContainerStatPathOptions{Path: to.Path})
	if err == nil && got.Stat.Mode&os.ModeSymlink != 0 {
		to.Path = linkTarget(to.Path, got.Stat)
		got, err = c.ContainerStatPath(ctx, target.container, client.ContainerStatPathOptions{Path: to.Path})
	}
	if err != nil {
		if unreachable(err) {
			return to, err
		}
		return to, nil // the copy itself says what is wrong
	}
	if kind := got.Stat.Mode.Type(); kind&(os.ModeDevice|os.ModeSocket|os.ModeNamedPipe|os.ModeIrregular) != 0 {
		return to, fmt.Errorf("destination \"%s:%s\" must be a directory or a regular file", target.container, target.path)
	}
	to.Exists, to.IsDir = true, got.Stat.Mode.IsDir()
	return to, nil
}

func (a *app) copied(count *counter, target string, f copyFlags) {
	if !f.quiet {
		fmt.Fprintf(a.Err, "Successfully copied %s to %s\n", units.HumanSizeWithPrecision(float64(count.n.Load()), 3), target)
	}
}

// counter counts the bytes that go through. The API's client reads it on a goroutine of
// its own.
type counter struct {
	reader io.Reader
	n      atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}
