package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

// planned is the answer of the paths below /fairlead/v1/plan.
type planned struct {
	Steps []planStep `json:"steps"`
	Notes []string   `json:"notes,omitempty"`
}

type planStep struct {
	Kind     string   `json:"kind"`
	Reason   string   `json:"reason"`
	Commands []string `json:"command"`
	Notes    []string `json:"note,omitempty"`
	There    bool     `json:"there,omitempty"`
}

// planFlags are those of plan itself, which its commands have too.
type planFlags struct {
	diff, here bool
	format     string
}

func (a *app) planCommand() *cobra.Command {
	var f planFlags
	cmd := &cobra.Command{
		Use:   "plan [OPTIONS] COMMAND",
		Short: "Print what a command would do to the network, as ip, sysctl, nft and iptables commands; do none of it",
		Long: `Print what a command would do to the network: every step with its reason and the ip, sysctl, nft or iptables
commands that do the same, in order. Nothing is changed, and no address, port or name is kept for it: those
printed are what the next run takes, if nothing comes before it. What the command would refuse is refused.

The output is a shell script for a host that has nothing of Fairlead's yet, such as a new network namespace:
it makes the same network there. Steps that this host has already are marked; --here leaves them out, and is for
reading where the kernel knows owners of tables (6.9): the script ends before its first change then. What no command
can do (hold a port, answer for a name) is a comment that says so.

With --diff, the differences between what is wanted and what this host has, with the commands that end them:
what healing or a restart would put right now. Nothing is printed where all is well. What is inside containers is
theirs, and not compared, such as their routes: fairlead why says whether it is what keeps one from another.`,
		Example: `  fairlead plan run -p 8080:80 demo httpd -f         the whole way from a bare host to a published port
  fairlead plan --here run -p 8080:80 demo httpd -f  what is still to be done on this one
  fairlead plan network create --internal vault      the rules and the bridge of a network
  fairlead plan network connect back web             a further interface of a container that runs
  fairlead plan --diff                               what healing would put right now
  fairlead plan run demo sh | unshare --net --mount sh -e    make it where nobody sees it`,
		Args: groupArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !f.diff {
				return cmd.Help()
			}
			return a.plan(cmd.Context(), f, http.MethodGet, "diff", nil, nil)
		},
	}
	fl := cmd.PersistentFlags()
	fl.BoolVar(&f.here, "here", false, "only what is still to be done on this host")
	fl.StringVar(&f.format, "format", "", "Go template over the JSON, as '{{range .steps}}{{.kind}} {{end}}'; json for one line")
	cmd.Flags().BoolVar(&f.diff, "diff", false, "what healing would put right now, in place of a command's plan")
	nets := &cobra.Command{
		Use: "network", Short: "Print what a command on networks would do",
		Example: `  fairlead plan network create --subnet 172.30.0.0/24 back
  fairlead plan network connect back web`,
		Args: groupArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	nets.AddCommand(a.planNetworkCreateCommand(&f), a.planNetworkConnectCommand(&f))
	cmd.AddCommand(a.planRunCommand(&f), a.planCreateCommand(&f), nets)
	return cmd
}

func (a *app) planRunCommand(p *planFlags) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use: "run [OPTIONS] IMAGE [COMMAND [ARG...]]", Short: "Print what run would do to the network",
		Long: `Print what run would do to the network, with the options of run; see fairlead plan --help. The image must be
here: a plan pulls nothing.`,
		Example: `  fairlead plan run --name web -p 8080:80 demo httpd -f
  fairlead plan run --network back --ip 172.30.0.10 --format json demo sh`,
		Args: minArgs(1), ValidArgsFunction: a.complete(1, listImages),
		RunE: func(cmd *cobra.Command, args []string) error {
			return startFailure(a.planContainer(cmd, *p, &f.createFlags, args, f.detach))
		},
	}
	f.registerRun(cmd, a)
	return cmd
}

func (a *app) planCreateCommand(p *planFlags) *cobra.Command {
	var f createFlags
	cmd := &cobra.Command{
		Use: "create [OPTIONS] IMAGE [COMMAND [ARG...]]", Short: "Print what the start of a container that create makes would do to the network",
		Long: `Print what the start of a container that create makes would do to the network, with the options of create: until
then there is none. See fairlead plan --help.`,
		Example: `  fairlead plan create -p 8080:80 demo httpd -f`,
		Args:    minArgs(1), ValidArgsFunction: a.complete(1, listImages),
		RunE: func(cmd *cobra.Command, args []string) error { return a.planContainer(cmd, *p, &f, args, false) },
	}
	f.register(cmd, a)
	return cmd
}

func (a *app) planContainer(cmd *cobra.Command, p planFlags, f *createFlags, args []string, detach bool) error {
	o, err := f.request(cmd, args, detach)
	if err != nil {
		return err
	}
	query := url.Values{"name": {o.Name}}
	if o.Platform != nil {
		query.Set("platform", path.Join(o.Platform.OS, o.Platform.Architecture, o.Platform.Variant))
	}
	body := container.CreateRequest{Config: o.Config, HostConfig: o.HostConfig, NetworkingConfig: o.NetworkingConfig}
	err = a.plan(cmd.Context(), p, http.MethodPost, "containers/create", query, body)
	if err != nil && isNoSuchImage(err) {
		err = fmt.Errorf("%w; a plan pulls nothing: %s", err, imageHint)
	}
	return err
}

func (a *app) planNetworkCreateCommand(p *planFlags) *cobra.Command {
	var f networkFlags
	cmd := &cobra.Command{
		Use: "create [OPTIONS] NAME", Short: "Print what network create would do",
		Example: `  fairlead plan network create --subnet 172.30.0.0/24 --ipv6 back
  fairlead plan network create -o com.docker.network.bridge.enable_icc=false apart`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.requestOf(cmd)
			if err != nil {
				return usageError{err}
			}
			return a.plan(cmd.Context(), *p, http.MethodPost, "networks/create", nil, network.CreateRequest{
				Name: args[0], Driver: o.Driver, Scope: o.Scope, EnableIPv4: o.EnableIPv4, EnableIPv6: o.EnableIPv6, IPAM: o.IPAM,
				Internal: o.Internal, Attachable: o.Attachable, Ingress: o.Ingress, ConfigOnly: o.ConfigOnly,
				ConfigFrom: configFrom(o), Options: o.Options, Labels: o.Labels,
			})
		},
	}
	f.register(cmd)
	return cmd
}

// configFrom is as Docker's client sends it.
func configFrom(o client.NetworkCreateOptions) *network.ConfigReference {
	if o.ConfigFrom == "" {
		return nil
	}
	return &network.ConfigReference{Network: o.ConfigFrom}
}

func (a *app) planNetworkConnectCommand(p *planFlags) *cobra.Command {
	var f connectFlags
	cmd := &cobra.Command{
		Use: "connect [OPTIONS] NETWORK CONTAINER", Short: "Print what network connect would do",
		Example: `  fairlead plan network connect back web
  fairlead plan --here network connect --ip 172.30.0.10 back web`,
		Args: exactArgs(2), ValidArgsFunction: a.completeEach(listNetworks, listContainers(true)),
		RunE: func(cmd *cobra.Command, args []string) error {
			settings, err := f.settings()
			if err != nil {
				return usageError{err}
			}
			return a.plan(cmd.Context(), *p, http.MethodPost, "networks/"+url.PathEscape(args[0])+"/connect", nil,
				network.ConnectRequest{Container: args[1], EndpointConfig: settings})
		},
	}
	f.register(cmd)
	return cmd
}

// plan asks for a plan and prints it.
func (a *app) plan(ctx context.Context, f planFlags, method, path string, query url.Values, body any) error {
	if f.here {
		if query == nil {
			query = make(url.Values)
		}
		query.Set("here", "1")
	}
	if encoded := query.Encode(); encoded != "" {
		path += "?" + encoded
	}
	var p planned
	if err := a.send(ctx, method, "/fairlead/v1/plan/"+path, body, &p); err != nil {
		return a.explain(err)
	}
	if f.format != "" {
		return a.printOwn(p, f.format)
	}
	p.print(a.Out, f)
	return nil
}

// planHead is what a script begins with.
const planHead = `#!/bin/sh
# What would be done to the network%s.%s
# Nothing has been done, and nothing is kept for it: addresses and ports are those that the next run takes if
# nothing comes before it; what is named after an ID has another name then.
set -e
`

// planMakes is said where no table that the script changes has an owner.
const planMakes = " It makes the same one where it is run as root"

// owned says that some are the daemon's alone to change.
func (p planned) owned() bool {
	return slices.ContainsFunc(p.Steps, func(s planStep) bool { return s.Kind == "owner" })
}

func (p planned) print(w io.Writer, f planFlags) {
	switch {
	case f.diff && len(p.Steps) == 0:
	case f.diff:
		fmt.Fprint(w, "#!/bin/sh\n# What healing, or a restart of the daemon, would put right now.\nset -e\n")
	case f.here && p.owned():
		fmt.Fprintf(w, planHead, " of this host", "")
	case f.here:
		fmt.Fprintf(w, planHead, " of this host", planMakes+" here.")
	default:
		fmt.Fprintf(w, planHead, "", planMakes+" in a network namespace\n# that has nothing of Fairlead's yet: unshare --net --mount sh -e FILE. [there] is what this host has already.")
	}
	for _, note := range p.Notes {
		comment(w, "", note)
	}
	for _, s := range p.Steps {
		fmt.Fprintln(w)
		mark := ""
		if s.There {
			mark = "[there] "
		}
		comment(w, mark, s.Reason)
		for _, note := range s.Notes {
			comment(w, "  ", note)
		}
		for _, command := range s.Commands {
			fmt.Fprintln(w, command)
		}
	}
}

// comment is one line that a shell passes over, whatever is in the text.
func comment(w io.Writer, mark, text string) {
	fmt.Fprintln(w, "# "+mark+strings.Join(strings.Fields(text), " "))
}
