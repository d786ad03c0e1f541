package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
	xterm "golang.org/x/term"
)

// registryKey is what a registry is kept by in the configuration file: its host and
// port, or Docker Hub's address.
func registryKey(server string) string {
	server = strings.TrimPrefix(strings.TrimPrefix(server, "https://"), "http://")
	host, _, _ := strings.Cut(server, "/")
	switch host {
	case "", hubDomain, "index.docker.io", "registry-1.docker.io":
		return hubKey
	}
	return host
}

type loginFlags struct {
	user, password string
	passwordStdin  bool
}

func (a *app) loginCommand() *cobra.Command {
	var f loginFlags
	cmd := &cobra.Command{
		Use:   "login [OPTIONS] [SERVER]",
		Short: "Check a registry's credentials and keep them for pull and push",
		Long: `Check a registry's credentials, and keep them where docker does: in
~/.docker/config.json ($DOCKER_CONFIG), or by the credential helper that the file
names. The registry is Docker Hub where none is named.`,
		Example: `  fairlead login registry.example:5000
  fairlead login -u me --password-stdin registry.example:5000 < token`,
		Args: rangeArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			server := ""
			if len(args) == 1 {
				server = args[0]
			}
			key := registryKey(server)
			file := a.credentials()
			auth, err := a.askCredentials(cmd, f, file, key)
			if err != nil {
				return err
			}
			return a.with(func(c *client.Client) error {
				got, err := c.RegistryLogin(cmd.Context(), client.RegistryLoginOptions{
					Username: auth.Username, Password: auth.Password, ServerAddress: key, IdentityToken: auth.IdentityToken,
				})
				if err != nil {
					return err
				}
				if got.Auth.IdentityToken != "" {
					auth.Password, auth.IdentityToken = "", got.Auth.IdentityToken
				}
				auth.ServerAddress = key
				if err := keep(file, key, auth); err != nil {
					return err
				}
				if got.Auth.Status != "" {
					fmt.Fprintln(a.Out, got.Auth.Status)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVarP(&f.user, "username", "u", "", "user name")
	cmd.Flags().StringVarP(&f.password, "password", "p", "", "password or access token; others may see it: --password-stdin is safer")
	cmd.Flags().BoolVar(&f.passwordStdin, "password-stdin", false, "read the password or access token from standard input")
	return cmd
}

// askCredentials takes them from the flags, from what is kept, and from the terminal.
func (a *app) askCredentials(cmd *cobra.Command, f loginFlags, file *configfile.ConfigFile, key string) (types.AuthConfig, error) {
	auth := types.AuthConfig{Username: f.user, Password: f.password}
	switch {
	case cmd.Flags().Changed("password") && f.passwordStdin:
		return auth, usagef("--password and --password-stdin are mutually exclusive")
	case f.passwordStdin && f.user == "":
		return auth, usagef("must provide --username with --password-stdin")
	case f.passwordStdin:
		text, err := io.ReadAll(a.In)
		if err != nil {
			return auth, fmt.Errorf("--password-stdin: %w", err)
		}
		auth.Password = strings.TrimRight(string(text), "\r\n")
		if auth.Password == "" {
			return auth, usagef("--password-stdin: standard input is empty")
		}
		return auth, nil
	case cmd.Flags().Changed("password"):
		fmt.Fprintln(a.Err, "WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
	}
	if auth.Username == "" && auth.Password == "" {
		kept, err := file.GetAuthConfig(key)
		if err == nil && (kept.Username != "" || kept.IdentityToken != "") {
			fmt.Fprintf(a.Out, "Authenticating with existing credentials... [Username: %s]\n", kept.Username)
			return kept, nil
		}
	}
	return a.typeCredentials(auth)
}

// typeCredentials asks for what is missing at the terminal.
func (a *app) typeCredentials(auth types.AuthConfig) (types.AuthConfig, error) {
	if auth.Username != "" && auth.Password != "" {
		return auth, nil
	}
	terminal, ok := a.stdinFile()
	if !ok || !xterm.IsTerminal(int(terminal.Fd())) {
		return auth, errors.New("cannot ask for the credentials: the input is not a terminal; use -u NAME --password-stdin")
	}
	if auth.Username == "" {
		fmt.Fprint(a.Out, "Username: ")
		line, err := bufio.NewReader(terminal).ReadString('\n')
		if err != nil {
			return auth, fmt.Errorf("read the user name: %w", err)
		}
		auth.Username = strings.TrimSpace(line)
	}
	if auth.Password == "" {
		fmt.Fprint(a.Out, "Password: ")
		text, err := xterm.ReadPassword(int(terminal.Fd()))
		fmt.Fprintln(a.Out)
		if err != nil {
			return auth, fmt.Errorf("read the password: %w", err)
		}
		auth.Password = string(text)
	}
	if auth.Username == "" || auth.Password == "" {
		return auth, errors.New("username and password are required")
	}
	return auth, nil
}

// keep puts the credentials into docker's configuration, or its helper's.
func keep(file *configfile.ConfigFile, key string, auth types.AuthConfig) error {
	if err := file.GetCredentialsStore(key).Store(auth); err != nil {
		return fmt.Errorf("keep the credentials of %s: %w", key, err)
	}
	return nil
}

func (a *app) logoutCommand() *cobra.Command {
	return &cobra.Command{
		Use: "logout [SERVER]", Short: "Forget a registry's credentials",
		Example: `  fairlead logout registry.example:5000`,
		Args:    rangeArgs(0, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			server := ""
			if len(args) == 1 {
				server = args[0]
			}
			key := registryKey(server)
			file := a.credentials()
			kept, err := file.GetAuthConfig(key)
			if err == nil && kept.Username == "" && kept.IdentityToken == "" && kept.Password == "" {
				fmt.Fprintln(a.Out, "Not logged in to", key)
				return nil
			}
			fmt.Fprintln(a.Out, "Removing login credentials for", key)
			if err := file.GetCredentialsStore(key).Erase(key); err != nil {
				return fmt.Errorf("could not erase the credentials of %s: %w", key, err)
			}
			return nil
		},
	}
}
