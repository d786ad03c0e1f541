package cli

import (
	"context"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/topology"
)

// drawings are the forms of the picture that --format names, beside json and
// templates.
var drawings = map[string]func(topology.Host, io.Writer) error{
	"":        topology.Host.WriteText,
	"text":    topology.Host.WriteText,
	"dot":     topology.Host.WriteDOT,
	"mermaid": topology.Host.WriteMermaid,
	"svg":     topology.Host.WriteSVG,
}

func (a *app) topologyCommand() *cobra.Command {
	var spec string
	cmd := &cobra.Command{
		Use:   "topology [OPTIONS] [NETWORK]",
		Short: "Show the host's networks as a tree or a drawing: what is connected with what",
		Long: `Show the host, its uplinks, its networks with their bridges, and what is attached to them: containers, the two
ends of each one's cable, addresses and published ports. With NETWORK, of that network alone. DOWN is what the kernel
says passes no packets: a link that is not there, is off, or is off its bridge.`,
		Example: `  fairlead topology
  fairlead topology back
  fairlead topology --format svg > net.svg          a drawing, for a browser
  fairlead topology --format dot | dot -Tpng > net.png
  fairlead topology --format mermaid                for Markdown that draws it
  fairlead topology -f '{{range .networks}}{{.name}} {{.bridge}}{{println}}{{end}}'`,
		Args: rangeArgs(0, 1), ValidArgsFunction: a.complete(1, listNetworks),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/fairlead/v1/topology"
			if len(args) > 0 {
				path += "?network=" + url.QueryEscape(args[0])
			}
			return a.showTopology(cmd.Context(), path, spec)
		},
	}
	cmd.Flags().StringVarP(&spec, "format", "f", "", "text, dot (Graphviz), mermaid, svg, json, or a Go template over the JSON")
	completeFlags(cmd, map[string]cobra.CompletionFunc{"format": cobra.FixedCompletions([]string{"text", "dot", "mermaid", "svg", "json"}, cobra.ShellCompDirectiveNoFileComp)})
	return cmd
}

func (a *app) showTopology(ctx context.Context, path, spec string) error {
	var h topology.Host
	if err := a.call(ctx, http.MethodGet, path, &h); err != nil {
		return a.explain(err)
	}
	if draw, known := drawings[spec]; known {
		return draw(h, a.Out)
	}
	return a.printOwn(h, spec)
}
