package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// exposed is the answer of GET /fairlead/v1/exposure.
type exposed struct {
	Backend string        `json:"backend"`
	Ports   []exposedPort `json:"ports"`
}

type exposedPort struct {
	Kind      string  `json:"kind"`
	Container string  `json:"container"`
	ID        string  `json:"id"`
	Proto     string  `json:"proto"`
	Host      string  `json:"host,omitempty"`
	Target    string  `json:"target"`
	Ways      []wayTo `json:"ways"`
}

type wayTo struct {
	From      string   `json:"from"`
	Name      string   `json:"name,omitempty"`
	By        []string `json:"by"`
	Reachable bool     `json:"reachable"`
	Rule      string   `json:"rule"`
}

func (a *app) exposureCommand() *cobra.Command {
	var spec string
	var open bool
	cmd := &cobra.Command{
		Use:   "exposure [OPTIONS]",
		Short: "Say who can reach each port of the containers, and by which rule",
		Long: `Say of each published port, of each port that a program in a container listens on without being published, and of
those of containers on the host's network, who can reach it: other machines (outside), the host, the containers of each
network, interfaces that a network trusts; by which addresses; and the rule, or the element of a map, that lets them
through or keeps them out, as the kernel has it now. What other programs' packet filters drop besides is not told.

Ports that are not published are reached by a container's own address, for which another machine needs a route.`,
		Example: `  fairlead exposure
  fairlead exposure --reachable       without what is kept out
  fairlead exposure -f '{{range .ports}}{{.container}} {{.target}}{{println}}{{end}}'`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.exposure(cmd.Context(), spec, open) },
	}
	formatFlag(cmd, &spec)
	cmd.Flags().BoolVar(&open, "reachable", false, "leave out who is kept out")
	return cmd
}

func (a *app) exposure(ctx context.Context, spec string, open bool) error {
	var e exposed
	if err := a.call(ctx, http.MethodGet, "/fairlead/v1/exposure", &e); err != nil {
		return a.explain(err)
	}
	if spec != "" {
		return a.printOwn(e, spec)
	}
	return e.print(a.Out, open)
}

func (e exposed) print(w io.Writer, open bool) error {
	if len(e.Ports) == 0 {
		fmt.Fprintln(w, "nothing is published, and no program in a container listens")
	}
	for _, p := range e.Ports {
		switch p.Kind {
		case "published":
			fmt.Fprintf(w, "%s  %s->%s/%s\n", p.Container, p.Host, p.Target, p.Proto)
		case "host":
			fmt.Fprintf(w, "%s  %s/%s, on the host's network\n", p.Container, p.Host, p.Proto)
		default:
			fmt.Fprintf(w, "%s  %s/%s, not published\n", p.Container, p.Target, p.Proto)
		}
		tw := tabwriter.NewWriter(w, 0, 1, 2, ' ', 0)
		for _, way := range p.Ways {
			verdict := "reached"
			if !way.Reachable {
				verdict = "kept out"
			}
			if open && !way.Reachable {
				continue
			}
			from := way.From
			if way.Name != "" {
				from += " " + way.Name
			}
			fmt.Fprintf(tw, "  %s\tfrom %s\tby %s\t%s\n", verdict, from, strings.Join(way.By, " "), way.Rule)
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	return nil
}
