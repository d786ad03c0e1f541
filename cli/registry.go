package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/jsonmessage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	xterm "golang.org/x/term"
)

// hubKey is Docker Hub in the configuration file, hubDomain in images' names.
const (
	hubKey    = "https://index.docker.io/v1/"
	hubDomain = "docker.io"
)

// defaultPlatform is what --platform is where it is not given, as docker's.
const defaultPlatform = "DOCKER_DEFAULT_PLATFORM"

// credentials is docker's configuration file, ~/.docker/config.json or below
// $DOCKER_CONFIG. It names the programs that keep passwords, or holds them; proxies,
// keys and formats are in it too.
func (a *app) credentials() *configfile.ConfigFile {
	return config.LoadDefaultConfigFile(a.Err)
}

// authOf is what is known of the registry that a reference names, as the API takes it.
func (a *app) authOf(ref reference.Named) (string, error) {
	auth, err := a.credentials().GetAuthConfig(reference.Domain(ref)) // which knows Docker Hub's key
	if err != nil {
		return "", fmt.Errorf("read the credentials of %s: %w", reference.Domain(ref), err)
	}
	return authconfig.Encode(authOfConfig(auth))
}

func authOfConfig(auth types.AuthConfig) registry.AuthConfig {
	return registry.AuthConfig{
		Username: auth.Username, Password: auth.Password, Auth: auth.Auth, ServerAddress: auth.ServerAddress,
		IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken,
	}
}

// platformFlag is --platform.
type platformFlag struct{ platform string }

func (f *platformFlag) register(fl *pflag.FlagSet, does string) {
	fl.StringVar(&f.platform, "platform", "", does+", OS[/ARCH[/VARIANT]], as linux/amd64")
}

// platforms is the one that the flag or the environment names, or none.
func (f *platformFlag) platforms() ([]ocispec.Platform, error) {
	text := f.platform
	if text == "" {
		text = os.Getenv(defaultPlatform)
	}
	if text == "" {
		return nil, nil
	}
	platform, err := platforms.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("invalid --platform %q: want OS[/ARCH[/VARIANT]], as linux/amd64", text)
	}
	return []ocispec.Platform{platform}, nil
}

// pullFlags are the flags of run and create for where the image comes from.
type pullFlags struct {
	platformFlag
	pull      string
	quietPull bool
}

func (f *pullFlags) register(cmd *cobra.Command) {
	f.platformFlag.register(cmd.Flags(), "platform of the image")
	cmd.Flags().StringVar(&f.pull, "pull", "missing", "when to pull the image: always, missing or never")
	cmd.Flags().BoolVarP(&f.quietPull, "quiet", "q", false, "do not show the pull's progress")
}

func (f *pullFlags) checkPull() error {
	switch f.pull {
	case "always", "missing", "never", "":
		return nil
	}
	return fmt.Errorf("invalid --pull %q: want always, missing or never", f.pull)
}

// pullRequest is one call of `pull`.
type pullRequest struct {
	ref       reference.Named
	all       bool
	platforms []ocispec.Platform
}

// pullRequest is what was typed: all tags of a name, or one, the default if none was
// named, which is said.
func (a *app) pullRequest(name string, all, quiet bool, platform platformFlag) (pullRequest, error) {
	ref, err := imageName(name)
	if err != nil {
		return pullRequest{}, err
	}
	wanted, err := platform.platforms()
	if err != nil {
		return pullRequest{}, usageError{err}
	}
	if all && !reference.IsNameOnly(ref) {
		return pullRequest{}, usagef("tag can't be used with --all-tags/-a: %s names one", name)
	}
	if !all && reference.IsNameOnly(ref) {
		ref = reference.TagNameOnly(ref)
		if tagged, ok := ref.(reference.Tagged); ok && !quiet {
			fmt.Fprintln(a.Out, "Using default tag:", tagged.Tag())
		}
	}
	return pullRequest{ref, all, wanted}, nil
}

// pull gets an image and shows how far it is.
func (a *app) pull(ctx context.Context, c *client.Client, request pullRequest, progress io.Writer) error {
	auth, err := a.authOf(request.ref)
	if err != nil {
		return err
	}
	answer, err := c.ImagePull(ctx, request.ref.String(), client.ImagePullOptions{
		All: request.all, RegistryAuth: auth, Platforms: request.platforms,
	})
	if err != nil {
		return err
	}
	defer func() { _ = answer.Close() }()
	return showProgress(answer, progress)
}

// showProgress draws the daemon's messages: a line for each layer on a terminal, and
// elsewhere a line whenever one's state changes.
func showProgress(answer io.Reader, out io.Writer) error {
	fd, terminal := uintptr(0), false
	if file, ok := out.(*os.File); ok {
		fd = file.Fd()
		terminal = xterm.IsTerminal(int(fd))
	}
	err := jsonmessage.DisplayJSONMessagesStream(answer, out, fd, terminal, nil)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the daemon went away in the middle: %w", err)
	}
	return err
}

func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	return ok && xterm.IsTerminal(int(file.Fd()))
}

// imageName reads the name of an image in a registry.
func imageName(text string) (reference.Named, error) {
	ref, err := reference.ParseNormalizedNamed(text)
	if err != nil {
		return nil, usagef("invalid image name %q: %w", text, err)
	}
	return ref, nil
}

func (a *app) pullCommand() *cobra.Command {
	var platform platformFlag
	var all, quiet bool
	cmd := &cobra.Command{
		Use:   "pull [OPTIONS] NAME[:TAG|@DIGEST]",
		Short: "Get an image from a registry",
		Example: `  fairlead pull alpine                           of Docker Hub, the tag latest
  fairlead pull registry.example:5000/app:1.2    of another registry
  fairlead pull alpine@sha256:1c4e…              exactly that one
  fairlead pull -q alpine                        print the name alone`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			request, err := a.pullRequest(args[0], all, quiet, platform)
			if err != nil {
				return err
			}
			progress := a.Out
			if quiet {
				progress = io.Discard
			}
			return a.with(func(c *client.Client) error {
				if err := a.pull(cmd.Context(), c, request, progress); err != nil {
					return err
				}
				fmt.Fprintln(a.Out, request.ref.String())
				return nil
			})
		},
	}
	platform.register(cmd.Flags(), "platform to get, where there are several")
	cmd.Flags().BoolVarP(&all, "all-tags", "a", false, "every tag there is of it")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "do not show the progress")
	trustFlag(cmd)
	return cmd
}

// trustFlag takes docker's flag for signatures that it no longer has; asking for
// them is refused.
func trustFlag(cmd *cobra.Command) {
	skip := cmd.Flags().Bool("disable-content-trust", true, "signatures are not looked at")
	cmd.Flags().Lookup("disable-content-trust").Hidden = true
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !*skip {
			return usagef("--disable-content-trust=false is not supported: signatures are not looked at; name an image by its digest instead")
		}
		return run(cmd, args)
	}
}

func (a *app) pushCommand() *cobra.Command {
	var platform platformFlag
	var all, quiet bool
	cmd := &cobra.Command{
		Use:   "push [OPTIONS] NAME[:TAG]",
		Short: "Put an image into the registry that its name says",
		Example: `  fairlead tag app registry.example:5000/app:1.2
  fairlead push registry.example:5000/app:1.2
  fairlead push -a registry.example:5000/app       every tag of it that is here`,
		Args: exactArgs(1), ValidArgsFunction: a.complete(1, listImages),
		RunE: func(cmd *cobra.Command, args []string) error {
			request, err := a.pullRequest(args[0], all, quiet, platform)
			if err != nil {
				return err
			}
			return a.with(func(c *client.Client) error { return a.push(cmd.Context(), c, request, quiet) })
		},
	}
	platform.register(cmd.Flags(), "platform to put there alone")
	cmd.Flags().BoolVarP(&all, "all-tags", "a", false, "every tag of it that is here")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "do not show the progress")
	trustFlag(cmd)
	return cmd
}

func (a *app) push(ctx context.Context, c *client.Client, request pullRequest, quiet bool) error {
	auth, err := a.authOf(request.ref)
	if err != nil {
		return err
	}
	options := client.ImagePushOptions{All: request.all, RegistryAuth: auth}
	if len(request.platforms) > 0 {
		options.Platform = &request.platforms[0]
	}
	answer, err := c.ImagePush(ctx, request.ref.String(), options)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Close() }()
	if !quiet {
		return showProgress(answer, a.Out)
	}
	if err := showProgress(answer, io.Discard); err != nil {
		return err
	}
	fmt.Fprintln(a.Out, request.ref.String())
	return nil
}

// isNoSuchImage says whether the image is what was not found.
func isNoSuchImage(err error) bool {
	return strings.Contains(strings.ToLower(err.Error()), "no such image")
}
