package cli

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"

	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

func (a *app) infoCommand() *cobra.Command {
	var spec string
	cmd := &cobra.Command{
		Use: "info [OPTIONS]", Short: "Show what the daemon runs on and with",
		Example: `  fairlead info
  fairlead info -f '{{.KernelVersion}}'`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(func(c *client.Client) error {
				got, err := c.Info(cmd.Context(), client.InfoOptions{})
				if err != nil {
					return err
				}
				if spec != "" {
					return a.printTemplate(got.Info, spec)
				}
				fmt.Fprintf(a.Out, "Client:\n Version: %s\n\n", a.build.Version)
				printInfo(a.Out, got.Info)
				for _, warning := range got.Info.Warnings {
					fmt.Fprintln(a.Err, "WARNING:", strings.TrimPrefix(warning, "WARNING: "))
				}
				return nil
			})
		},
	}
	formatFlag(cmd, &spec)
	return cmd
}

// printTemplate prints a value by --format, by the names of its JSON and those of its
// fields in Go, which Docker's users know.
func (a *app) printTemplate(value any, spec string) error { return a.printNamed(value, value, spec) }

// printOwn prints by --format what Docker has not, by the names of its JSON alone.
func (a *app) printOwn(value any, spec string) error { return a.printNamed(value, nil, spec) }

func (a *app) printNamed(value, typed any, spec string) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if spec == "json" {
		spec = "{{json .}}" // the thing itself: there is one alone
	}
	return a.printObjects([]object{{raw: raw, typed: typed}}, spec)
}

// clientVersion is this program's part of `fairlead version`.
type clientVersion struct {
	Version, GitCommit, GoVersion, Os, Arch string
	APIVersion                              string `json:"ApiVersion"`
}

func (a *app) versionCommand() *cobra.Command {
	var clientOnly bool
	var spec string
	cmd := &cobra.Command{
		Use: "version [OPTIONS]", Short: "Show the versions of this program and of the daemon",
		Example: `  fairlead version
  fairlead version --client                       without asking the daemon
  fairlead version -f '{{.Server.ApiVersion}}'`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			own := clientVersion{
				Version: a.build.Version, GitCommit: a.build.Commit, APIVersion: client.MaxAPIVersion,
				GoVersion: runtime.Version(), Os: runtime.GOOS, Arch: runtime.GOARCH,
			}
			if clientOnly {
				return a.printVersion(own, nil, spec)
			}
			return a.with(func(c *client.Client) error {
				got, err := c.ServerVersion(cmd.Context(), client.ServerVersionOptions{})
				if err != nil {
					if spec == "" { // what is known is shown before the error
						_ = a.printVersion(own, nil, "")
					}
					return err
				}
				own.APIVersion = c.ClientVersion()
				return a.printVersion(own, &got, spec)
			})
		},
	}
	cmd.Flags().BoolVar(&clientOnly, "client", false, "this program alone")
	formatFlag(cmd, &spec)
	return cmd
}

func (a *app) printVersion(own clientVersion, server *client.ServerVersionResult, spec string) error {
	if spec != "" {
		var answer struct {
			Client clientVersion
			Server any `json:",omitempty"`
		}
		answer.Client = own
		if server != nil {
			answer.Server = server
		}
		return a.printTemplate(answer, spec)
	}
	fmt.Fprintf(a.Out, "Client:\n Version:           %s\n API version:       %s\n Go version:        %s\n Git commit:        %s\n OS/Arch:           %s/%s\n",
		own.Version, own.APIVersion, own.GoVersion, own.GitCommit, own.Os, own.Arch)
	if server == nil {
		return nil
	}
	fmt.Fprintf(a.Out, "\nServer: %s\n", server.Platform.Name)
	for _, part := range server.Components {
		fmt.Fprintf(a.Out, " %s:\n  %-17s %s\n", part.Name, "Version:", part.Version)
		detail := part.Details
		for _, line := range []struct{ title, value string }{
			{"API version:", versionRange(detail["ApiVersion"], detail["MinAPIVersion"])},
			{"Go version:", detail["GoVersion"]},
			{"Git commit:", detail["GitCommit"]},
			{"Built:", detail["BuildTime"]},
			{"Kernel version:", detail["KernelVersion"]},
			{"OS/Arch:", strings.Trim(detail["Os"]+"/"+detail["Arch"], "/")},
			{"Experimental:", detail["Experimental"]},
		} {
			if line.value != "" {
				fmt.Fprintf(a.Out, "  %-17s %s\n", line.title, line.value)
			}
		}
	}
	return nil
}

// versionRange is the newest version of the API and, where it is told, the oldest.
func versionRange(newest, oldest string) string {
	if newest == "" || oldest == "" {
		return newest
	}
	return newest + " (minimum version " + oldest + ")"
}
