package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/common"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/traffic"
)

// rateFlags are those of `fairlead top` without a container.
type rateFlags struct {
	sort, format string
	interval     time.Duration
	tables       int
	once         bool
	only         []string
}

const ratesLong = `Show what containers, networks and published ports do on the network, in bytes, packets and connections a second; on a
terminal until q or ctrl-C, elsewhere one set of tables after the other. With CONTAINER, list its processes, as docker
top does; what follows its name goes to ps(1).

CONTAINER   the kernel's counters of the host's end of each cable. RX is what the container receives. DROP is what the
            kernel lost there, and what the container was kept from sending because it is not its own to send.
            Containers on the host's network have no cable and are not shown. With --fast-path what neighbours send each
            other may pass the receiver's end by; it is counted there, and added.
NETWORK     RX and TX are the sums of its containers; FROM HOST and TO HOST are the bridge's own counters, of what goes
            between the network and the host or what lies behind it. What a bridge of the host's own passes between
            its other ports is not in them, nor are, with --fast-path, the long connections that pass the bridge by.
PORT        NEW and OPEN are connections, or flows of UDP: those that the kernel translates, from its table of tracked
            connections, and those that the userland proxy carries, of which PROXIED is how many are open. A connection
            that both sides have closed, or one has reset, is no longer open; it is in the table for ten seconds and
            more: with a longer --interval some are missed. A flow of UDP is open until it is forgotten. What the host
            itself asks of a port with --userland-proxy=false is in neither. BYTES needs
            sysctl net.netfilter.nf_conntrack_acct=1, before the connection begins, but for what is proxied.
PROCESS     Fairlead's own: share of one processor, and resident memory.

A dash is a figure that nobody counts, or that has not been counted for long enough. All of it is read when a table is
made, and nothing is counted for it meanwhile.`

func (a *app) ratesCommand() *cobra.Command {
	var f rateFlags
	processes := a.topCommand()
	cmd := &cobra.Command{
		Use:   "top [OPTIONS] | top CONTAINER [ps OPTIONS]",
		Short: "Show the rates of containers, networks and published ports, or the processes of a container",
		Long:  ratesLong,
		Example: `  fairlead top                              until q is typed
  fairlead top --only web --only back       a container with its networks and ports, and a network
  fairlead top --sort connections --interval 5s
  fairlead top --once                       one set of tables, after an interval
  fairlead top -n 3 -f '{{range .containers}}{{.name}} {{.rx_bytes}}{{println}}{{end}}'
  fairlead top web                          the processes of web
  fairlead top web -o pid,rss,args          the columns of ps(1); the numbers are the host's`,
		Args: cobra.ArbitraryArgs, ValidArgsFunction: processes.ValidArgsFunction,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.rates(cmd.Context(), f)
			}
			if cmd.Flags().NFlag() > 0 {
				return usagef("top CONTAINER lists processes, and takes the options of ps after the name; for the rates of one: --only %s", args[0])
			}
			return processes.RunE(cmd, args)
		},
	}
	fl := cmd.Flags()
	fl.SetInterspersed(false)
	fl.StringArrayVar(&f.only, "only", nil, "only this container with its networks and ports, or this network with its containers; several times for several")
	fl.StringVar(&f.sort, "sort", "bytes", "by bytes, rx, tx, packets, drops, connections, open or name")
	fl.DurationVar(&f.interval, "interval", 2*time.Second, "time that rates are measured over, and between two tables")
	fl.IntVarP(&f.tables, "number", "n", 0, "end after so many tables; 0 is never")
	fl.BoolVar(&f.once, "once", false, "the same as -n 1")
	fl.StringVarP(&f.format, "format", "f", "", "json for one object a line, or a Go template over it")
	completeFlags(cmd, map[string]cobra.CompletionFunc{
		"sort": cobra.FixedCompletions(sortKeys, cobra.ShellCompDirectiveNoFileComp),
		"only": a.complete(0, listContainers(false), listNetworks),
	})
	return cmd
}

// rates shows tables until there were enough, or somebody ends it.
func (a *app) rates(ctx context.Context, f rateFlags) error {
	if f.once {
		f.tables = 1
	}
	switch {
	case !slices.Contains(sortKeys, f.sort):
		return usagef("--sort %q: want %s", f.sort, strings.Join(sortKeys, ", "))
	case f.tables < 0:
		return usagef("-n %d: want how many tables, or 0 for no end", f.tables)
	}
	ctx, cancel := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	query := url.Values{"interval": {f.interval.String()}}
	if f.tables > 0 {
		query.Set("count", strconv.Itoa(f.tables+1))
	}
	samples, err := a.openLines(ctx, "/fairlead/v1/top?"+query.Encode())
	if err != nil {
		return a.explain(err)
	}
	defer func() { _ = samples.Close() }()
	show, end, err := a.ratesScreen(f, cancel)
	if err != nil {
		return err
	}
	err = follow(samples, f.tables, func(before, after traffic.Sample) error {
		r := traffic.Between(before, after)
		missing := r.Keep(f.only)
		if len(missing) > 0 {
			return fmt.Errorf("no running container with a network of its own, and no network, is called %s", strings.Join(missing, " or "))
		}
		r.Sort(traffic.SortKey(f.sort))
		return show(r)
	})
	end()
	if ctx.Err() != nil {
		return nil // interrupted: that is how it ends
	}
	return err
}

// follow calls show with each two samples that follow each other, of which there are to be
// so many, or without end where that is 0.
func follow(samples io.Reader, pairs int, show func(before, after traffic.Sample) error) error {
	var before traffic.Sample
	dec := json.NewDecoder(samples)
	for n := 0; ; n++ {
		var after traffic.Sample
		switch err := dec.Decode(&after); {
		case errors.Is(err, io.EOF) && pairs > 0 && n == pairs+1:
			return nil
		case errors.Is(err, io.EOF):
			return errors.New("the daemon has ended")
		case err != nil:
			return fmt.Errorf("the daemon is gone: %w", err)
		}
		if n > 0 {
			if err := show(before, after); err != nil {
				return err
			}
		}
		before = after
	}
}

// openLines asks for an answer that comes bit by bit, until ctx ends or it is closed.
func (a *app) openLines(ctx context.Context, path string) (io.ReadCloser, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	dial := c.Dialer()
	web := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+client.DummyHost+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := web.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer func() { _ = resp.Body.Close() }()
	var answer common.ErrorResponse
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer); err != nil || answer.Message == "" {
		return nil, errors.New("the daemon answered " + resp.Status)
	}
	return nil, errors.New(answer.Message)
}

// sortKeys are what --sort takes.
var sortKeys = func() (out []string) {
	for _, k := range traffic.SortKeys {
		out = append(out, string(k))
	}
	return out
}()
