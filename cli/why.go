package cli

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/trace"
)

func (a *app) whyCommand() *cobra.Command {
	var format string
	var ipv6, noProbe bool
	cmd := &cobra.Command{
		Use:   "why [OPTIONS] FROM TO[:PORT[/PROTO]]",
		Short: "Explain whether one end reaches another: the way, where it stops, who stops it, what mends it",
		Long: `Follow a packet from FROM to TO, hop by hop, by what the kernel has (links, addresses, routes, rules, sysctls,
firewalls whoever made them, sockets, connections) and by what is wanted; then send one to see. The way is drawn, and
where it stops the cause is named: the link, route, sysctl, or the table, chain and rule, whose it is, and the command
that mends it.

FROM and TO are containers, networks, "host", "outside" (another machine), addresses, or names as the container FROM
would look them up. Without a PORT it is a ping; PROTO is tcp, udp or sctp. From outside, TO:PORT of a container is the
container's port, by the port of the host that publishes it.

Nothing is changed. The exit status is 0 where TO is reached and its answer comes back, 1 where not, and 125 where the
question cannot be answered.`,
		Example: `  fairlead why web 192.0.2.7:443          can the container web open that connection?
  fairlead why web db:5432                from one container to another
  fairlead why outside web:80             is what web publishes reached from other machines?
  fairlead why host 127.0.0.1:8080        by loopback
  fairlead why -6 web outside             by IPv6
  fairlead why --no-probe web 8.8.8.8     by thought alone, without sending anything
  fairlead why -f '{{range .causes}}{{.code}} {{end}}' web 8.8.8.8`,
		Args: fromAndTo, ValidArgsFunction: a.complete(2, listContainers(true), listNetworks),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{
				"from": {args[0]}, "to": {args[1]}, "ipv6": {strconv.FormatBool(ipv6)}, "probe": {strconv.FormatBool(!noProbe)},
			}
			return a.why(cmd.Context(), query, format)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&ipv6, "ipv6", "6", false, "ask by IPv6")
	flags.BoolVar(&noProbe, "no-probe", false, "send no packet: reason alone")
	formatFlag(cmd, &format)
	return cmd
}

// fromAndTo refuses other numbers of arguments, not by the exit status that says that TO is
// not reached.
func fromAndTo(cmd *cobra.Command, args []string) error {
	if len(args) == 2 {
		return nil
	}
	return usagef("%q takes FROM and TO[:PORT[/PROTO]], %s", cmd.CommandPath(), have(len(args)))
}

// exitNot is the exit status of a question whose answer is no.
const exitNot = 1

func (a *app) why(ctx context.Context, query url.Values, format string) error {
	var e trace.Explanation
	if err := a.call(ctx, http.MethodGet, "/fairlead/v1/why?"+query.Encode(), &e); err != nil {
		return exitError{code: exitDaemon, err: a.explain(err)}
	}
	show := func() error { return e.WriteText(a.Out) }
	if format != "" {
		show = func() error { return a.printOwn(e, format) }
	}
	if err := show(); err != nil {
		return exitError{code: exitDaemon, err: err}
	}
	if !e.Reachable {
		return exitError{code: exitNot}
	}
	return nil
}
