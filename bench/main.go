// Command bench measures Fairlead beside its peers in one run and writes
// bench/RESULTS.md.
//
// Here live the subjects (the bare netlink floor, network.Attach, the CNI
// plugins, netavark, and the run commands of Fairlead and Docker), the
// throw-away host each of them works in, and the report. Nothing here is
// imported by the product, and no number in the report is typed by hand.
//
// It must run as root on Debian 12 with the peers installed: make bench.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/bench/throwaway"
	"github.com/fairlead/fairlead/relay"
)

// options are what the command line sets.
type options struct {
	binary     string        // the fairlead binary under test
	rounds     int           // attachments of each subject
	runs       int           // containers of each run command
	containers int           // running containers when memory is measured
	endpoints  int           // endpoints present in the loaded state
	ports      int           // published ports of each of them
	loadPeers  bool          // whether the peers are loaded as well
	settle     time.Duration // rest between two measurements
	quiet      time.Duration // rest after filling
	out        string        // file of the report; "" is standard output alone
	only       string        // subjects to measure, by commas; "" is all
}

func main() {
	if was, err := throwaway.Staged(serve); was {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == relay.Name {
		cmd := relay.Command()
		cmd.SetArgs(os.Args[2:])
		if err := cmd.ExecuteContext(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "relay:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.StringVar(&o.binary, "binary", "bin/fairlead", "the fairlead binary under test")
	flag.IntVar(&o.rounds, "rounds", 100, "attachments of each subject")
	flag.IntVar(&o.runs, "runs", 40, "containers of each run command")
	flag.IntVar(&o.containers, "containers", 100, "running containers when memory is measured")
	flag.IntVar(&o.endpoints, "endpoints", 500, "endpoints present in the loaded state")
	flag.IntVar(&o.ports, "ports", 10, "published ports of each endpoint present")
	flag.BoolVar(&o.loadPeers, "load-peers", false, "load CNI and netavark as well; takes many minutes")
	flag.DurationVar(&o.settle, "settle", 20*time.Millisecond, "rest between two measurements")
	flag.DurationVar(&o.quiet, "quiet", 15*time.Second, "rest after filling: new endpoints solicit routers for 12 s")
	flag.StringVar(&o.out, "out", "bench/RESULTS.md", "file for the report; empty for none")
	flag.StringVar(&o.only, "only", "", "subjects to measure, by commas, with no file written; empty for all")
	flag.Parse()
	if err := o.check(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// subjects are all that there are to measure.
var subjects = []string{
	"floor", "fairlead", "cni", "netavark", "floor" + loaded, "fairlead" + loaded, "cni" + loaded, "netavark" + loaded,
	"fairlead-run", "fairlead-by-docker", "docker-run",
}

// check refuses what cannot be measured.
func (o options) check(rest []string) error {
	if len(rest) > 0 {
		return fmt.Errorf("%q is no flag", rest[0])
	}
	for _, n := range []struct {
		flag         string
		value, least int
	}{
		{"rounds", o.rounds, 1},
		{"runs", o.runs, 1},
		{"containers", o.containers, 1},
		{"endpoints", o.endpoints, 0},
		{"ports", o.ports, 0},
		{"settle", int(o.settle), 0},
		{"quiet", int(o.quiet), 0},
	} {
		if n.value < n.least {
			return fmt.Errorf("-%s: want at least %d", n.flag, n.least)
		}
	}
	_, err := throwaway.Choose("only", o.only, subjects)
	return err
}

// run measures everything and writes the report.
func run(ctx context.Context, o options) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("must run as root: every subject gets a network namespace")
	}
	if o.binary, err = filepath.Abs(o.binary); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "fl-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := throwaway.WriteImage(filepath.Join(dir, imageFile)); err != nil {
		return err
	}
	if err := os.Symlink(o.binary, filepath.Join(dir, binaryLink)); err != nil {
		return err
	}

	r := report{options: o, started: time.Now(), load: loadAverage()}
	if r.attach, err = measureAttach(ctx, o, dir); err != nil {
		return err
	}
	if r.runs, err = measureRuns(ctx, o, dir); err != nil {
		return err
	}
	if r.memory, err = measureMemory(o, dir); err != nil {
		return err
	}
	r.took = time.Since(r.started)
	text, err := r.markdown(ctx)
	if err != nil {
		return err
	}
	fmt.Print(text)
	if o.out == "" || o.only != "" {
		return nil
	}
	return os.WriteFile(o.out, []byte(text), 0o644)
}

// chosen leaves of the names those that -only has.
func (o options) chosen(names []string) []string {
	if o.only == "" {
		return names
	}
	only := strings.Split(o.only, ",")
	return slices.DeleteFunc(names, func(n string) bool { return !slices.Contains(only, n) })
}

// measureAttach compares one attachment with one published port, on hosts that
// have nothing else and on hosts that have many endpoints and published ports
// already, all in the same rounds.
func measureAttach(ctx context.Context, o options, dir string) (results, error) {
	names := []string{"floor", "fairlead", "cni", "netavark", "floor" + loaded, "fairlead" + loaded}
	if o.loadPeers {
		names = append(names, "cni"+loaded, "netavark"+loaded)
	}
	hosts, err := startHosts(dir, o.chosen(names))
	defer stopHosts(hosts)
	if err != nil {
		return nil, err
	}
	for _, h := range hosts {
		if !strings.HasSuffix(h.Name, loaded) {
			continue
		}
		fmt.Fprintf(os.Stderr, "filling %s: %d endpoints, %d ports each\n", h.Name, o.endpoints, o.ports)
		if err := h.fill(o.endpoints, o.ports); err != nil {
			return nil, err
		}
	}
	time.Sleep(o.quiet)
	return interleave(ctx, hosts, []string{kindAttach}, o.rounds, o.settle)
}

// measureRuns compares whole containers, started by each project's own command.
func measureRuns(ctx context.Context, o options, dir string) (results, error) {
	hosts, err := startHosts(dir, o.chosen([]string{"fairlead-run", "fairlead-by-docker", "docker-run"}))
	defer stopHosts(hosts)
	if err != nil {
		return nil, err
	}
	return interleave(ctx, hosts, []string{kindNone, kindBridge, kindPort}, o.runs, o.settle)
}

// measureMemory compares what daemon, helpers and proxies take with many containers
// running, each with a published port.
func measureMemory(o options, dir string) (map[string]int64, error) {
	hosts, err := startHosts(dir, o.chosen([]string{"fairlead-run", "docker-run"}))
	defer stopHosts(hosts)
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for _, h := range hosts {
		fmt.Fprintf(os.Stderr, "filling %s: %d containers\n", h.Name, o.containers)
		if err := h.fill(o.containers, 1); err != nil {
			return nil, err
		}
	}
	time.Sleep(o.quiet)
	for _, h := range hosts {
		if out[h.Name], err = h.memory(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// interleave asks every host once a round, so that whatever slows the machine
// down slows all of them; in an order drawn anew each round, so that none always
// pays for what another left to the kernel to clean up. The first round is not
// counted: it loads kernel modules and fills caches.
func interleave(ctx context.Context, hosts []*host, kinds []string, rounds int, settle time.Duration) (results, error) {
	all := results{}
	order := rand.New(rand.NewPCG(1, 1)) // the same in every run
	for i := range rounds + 1 {
		for _, n := range order.Perm(len(hosts)) {
			h := hosts[n]
			for _, kind := range kinds {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				up, down, err := h.once(kind)
				if err != nil {
					return nil, err
				}
				if i > 0 {
					all.add(h.Name, kind, up, down)
				}
				time.Sleep(settle)
			}
		}
		if i%20 == 0 {
			fmt.Fprintf(os.Stderr, "round %d of %d\n", i, rounds)
		}
	}
	return all, nil
}
