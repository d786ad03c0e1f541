package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// healing is the answer of GET /fairlead/v1/heal.
type healing struct {
	Paused  bool              `json:"paused"`
	Since   time.Time         `json:"since,omitzero"`
	Counts  map[string]uint64 `json:"counts"`
	Last    []mend            `json:"last"`
	Pending []string          `json:"pending"`
}

type mend struct {
	Time time.Time     `json:"time"`
	Kind string        `json:"kind"`
	What string        `json:"what"`
	Took time.Duration `json:"took"`
}

func (a *app) healCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "heal",
		Short: "Put back what other programs change of the network, or leave it for a while",
		Long: `The daemon puts back what other programs change of what is Fairlead's on the host: bridges, links, addresses,
routes, sysctls, rules, namespaces, held ports. What is yours, and what a container does to its own end, stays as it is.`,
		Example: `  fairlead heal status    what was put back, and what differs now
  fairlead heal pause     leave what I change, while I work on the network by hand
  fairlead heal resume    put it all back, and go on`,
		Args: groupArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	order := func(name, short, example string) *cobra.Command {
		return &cobra.Command{
			Use: name, Short: short, Example: example, Args: exactArgs(0),
			RunE: func(cmd *cobra.Command, _ []string) error {
				return a.explain(a.call(cmd.Context(), http.MethodPost, "/fairlead/v1/heal/"+name, nil))
			},
		}
	}
	cmd.AddCommand(
		order("pause", "Leave what other programs change as it is, until resume or the daemon's next start", "  fairlead heal pause"),
		order("resume", "Put back what was changed meanwhile, and go on", "  fairlead heal resume"),
		a.healStatusCommand())
	return cmd
}

func (a *app) healStatusCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "status [OPTIONS]", Short: "Show what was put back since the daemon started, and what differs now",
		Example: `  fairlead heal status
  fairlead heal status -f '{{.counts.veth}}'`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.healStatus(cmd.Context(), format) },
	}
	formatFlag(cmd, &format)
	return cmd
}

func (a *app) healStatus(ctx context.Context, format string) error {
	var h healing
	if err := a.call(ctx, http.MethodGet, "/fairlead/v1/heal", &h); err != nil {
		return a.explain(err)
	}
	if format != "" {
		return a.printOwn(h, format)
	}
	h.print(a.Out)
	return nil
}

// shownMends is how many of the last mends are shown.
const shownMends = 10

func (h healing) print(w io.Writer) {
	if h.Paused {
		fmt.Fprintf(w, "Healing: paused since %s\n", h.Since.Local().Format(time.RFC3339))
	} else {
		fmt.Fprintln(w, "Healing: on")
	}
	var done strings.Builder
	for _, kind := range slices.Sorted(maps.Keys(h.Counts)) {
		if n := h.Counts[kind]; n > 0 {
			fmt.Fprintf(&done, " %s %d", kind, n)
		}
	}
	fmt.Fprintln(w, "Put back:"+cmp.Or(done.String(), " nothing"))
	for _, m := range h.Last[:min(len(h.Last), shownMends)] {
		took := "found by looking"
		if m.Took > 0 {
			took = m.Took.Round(time.Millisecond).String()
		}
		fmt.Fprintf(w, "  %s  %-9s  %s (%s)\n", m.Time.Local().Format(time.RFC3339), m.Kind, m.What, took)
	}
	if len(h.Pending) == 0 {
		fmt.Fprintln(w, "Differs now: nothing")
		return
	}
	fmt.Fprintln(w, "Differs now:")
	for _, line := range h.Pending {
		fmt.Fprintln(w, " ", line)
	}
}
