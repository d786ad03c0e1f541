// Command bench measures Fairlead beside its peers in one run and writes
// bench/RESULTS.md, bench/results.json and the pictures in bench/plots.
//
// Here live the subjects (the bare netlink floor, network.Attach, the CNI
// plugins, netavark, and the run commands of Fairlead and Docker) and the
// families of what is measured of them. The throw-away host that each of them
// works in is in bench/throwaway, the report in bench/report. Nothing here is
// imported by the product, and no number in the report is typed by hand.
//
// It must run as root on Debian 12 with the peers installed: make bench.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/bench/load"
	"github.com/fairlead/fairlead/bench/path"
	"github.com/fairlead/fairlead/bench/report"
	"github.com/fairlead/fairlead/bench/resolver"
	"github.com/fairlead/fairlead/bench/throwaway"
	"github.com/fairlead/fairlead/relay"
)

// options are what the command line sets.
type options struct {
	binary     string        // the fairlead binary under test
	rounds     int           // of one attachment, each of which is made twice
	runs       int           // containers of each run command
	containers int           // running containers when memory is measured
	endpoints  int           // endpoints present in the loaded state
	ports      int           // published ports of each of them
	resolves   int           // rounds in which resolvers are asked
	length     time.Duration // how long each is asked, twice a round
	starts     int           // starts of each daemon
	pathRounds int           // rounds in which the way of packets is measured
	// daemonEndpoints are how many the daemon has.
	daemonEndpoints int
	long            bool          // whether peers do what takes them minutes
	settle          time.Duration // rest between two measurements
	quiet           time.Duration // rest after filling
	out             string        // directory of the report; "" is standard output alone
	only            string        // families to measure, by commas; "" is all
	subjects        string        // subjects to measure, by commas; "" is all
	short           bool          // whether this is the short form
}

// shortForm are the flags that -short sets, where the command line does not: all
// that is measured, few times. What it finds is compared with what is recorded, not
// written.
var shortForm = map[string]string{
	"rounds": "4", "runs": "3", "containers": "5", "endpoints": "50", "ports": "20",
	"resolver-rounds": "1", "resolver-length": "300ms",
	"starts": "2", "path-rounds": "1", "daemon-endpoints": "40", "settle": "5ms", "quiet": "1s",
}

func main() {
	was, err := throwaway.Staged(serve)
	for _, staged := range []func() (bool, error){load.Staged, resolver.Staged} {
		if !was {
			was, err = staged()
		}
	}
	if was {
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
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		err = run(ctx, o)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// parse reads the command line, and refuses what cannot be measured.
func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.binary, "binary", "bin/fairlead", "the fairlead binary under test")
	f.IntVar(&o.rounds, "rounds", 50, "rounds of one attachment of each subject, each of which is made twice")
	f.IntVar(&o.runs, "runs", 40, "containers of each run command")
	f.IntVar(&o.containers, "containers", 100, "running containers when memory is measured")
	f.IntVar(&o.endpoints, "endpoints", 1000, "endpoints present in the loaded state")
	f.IntVar(&o.ports, "ports", 20, "published ports of each endpoint present")
	f.IntVar(&o.resolves, "resolver-rounds", 8, "rounds in which resolvers are asked")
	f.IntVar(&o.pathRounds, "path-rounds", path.Standard.Rounds, "rounds in which the way of packets is measured")
	f.IntVar(&o.starts, "starts", 8, "starts of each daemon")
	f.IntVar(&o.daemonEndpoints, "daemon-endpoints", 1000, "endpoints that the daemon restores, a multiple of 20")
	f.DurationVar(&o.length, "resolver-length", time.Second, "how long each resolver is asked, twice a round")
	f.BoolVar(&o.long, "long", false, "have CNI and netavark publish 1,000 ports as well; takes many minutes")
	f.DurationVar(&o.settle, "settle", 20*time.Millisecond, "rest between two measurements")
	f.DurationVar(&o.quiet, "quiet", 15*time.Second, "rest after filling: new endpoints solicit routers for 12 s")
	f.StringVar(&o.out, "out", "bench", "directory of RESULTS.md, results.json and plots/; empty writes none")
	f.StringVar(&o.only, "only", "", "families to measure, by commas (see below); what is recorded of others stays; empty for all")
	f.StringVar(&o.subjects, "subjects", "", "subjects of them to measure, by commas (see below), with no file written; empty for all")
	f.BoolVar(&o.short, "short", false, "few rounds, small loads, no file written; fails where a ratio against the floor is twice as bad as recorded")
	f.Usage = func() {
		fmt.Fprintln(f.Output(), "Usage of bench:")
		f.PrintDefaults()
		usage(f.Output())
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	set := make(map[string]bool)
	f.Visit(func(f *flag.Flag) { set[f.Name] = true })
	if o.subjects != "" && o.out != "" && set["out"] {
		return o, fmt.Errorf("-out %s: with -subjects no file is written, for the tables would lack the others: leave -out away", o.out)
	}
	if o.short {
		for name, value := range shortForm {
			if !set[name] {
				err = errors.Join(err, f.Set(name, value))
			}
		}
	}
	return o, errors.Join(err, o.check(f.Args()))
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
		{"starts", o.starts, 1},
		{"daemon-endpoints", o.daemonEndpoints, 20},
		{"resolver-rounds", o.resolves, 1},
		{"path-rounds", o.pathRounds, 1},
		{"resolver-length", int(o.length), int(100 * time.Millisecond)},
		{"settle", int(o.settle), 0},
		{"quiet", int(o.quiet), 0},
	} {
		if n.value < n.least {
			return fmt.Errorf("-%s: want at least %d", n.flag, n.least)
		}
	}
	only, err := throwaway.Choose("only", o.only, familyNames())
	if err != nil {
		return err
	}
	_, err = throwaway.Choose("subjects", o.subjects, subjectsOf(only))
	return err
}

// run measures everything that is chosen and writes the report.
func run(ctx context.Context, o options) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("must run as root: every subject gets a network namespace")
	}
	if o.binary, err = filepath.Abs(o.binary); err != nil {
		return err
	}
	if _, err := os.Stat(o.binary); err != nil {
		return fmt.Errorf("-binary %s: there is none: make build makes bin/fairlead", o.binary)
	}
	if o.writes() {
		if err := os.MkdirAll(o.out, 0o755); err != nil {
			return fmt.Errorf("-out: %w", err) // now, not when all is measured
		}
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
	r := &report.Report{Short: o.short}
	if r.Machine, err = machine(ctx); err != nil {
		return err
	}
	// A family that fails keeps none of the others from being measured, and written.
	failed := o.measure(ctx, dir, r)
	if len(r.Sections) > 0 {
		fmt.Print(r.Markdown())
	}
	return errors.Join(failed, o.conclude(r))
}

// measure adds the sections of the families that are chosen.
func (o options) measure(ctx context.Context, dir string, r *report.Report) error {
	only, err := throwaway.Choose("only", o.only, familyNames())
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range families {
		if !slices.Contains(only, f.name) || len(o.chosen(f.subjects)) == 0 {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s\n", f.name)
		taken := report.Taken{At: time.Now(), Commit: commit(ctx), Load: loadAverage()}
		s, err := f.measure(ctx, o, dir)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.name, err))
			continue
		}
		taken.Took = time.Since(taken.At)
		s.Name, s.Taken = f.name, taken
		if o.subjects != "" {
			s.Goals = report.Measured(s.Goals)
		}
		if err := s.Check(); err != nil {
			errs = append(errs, err)
			continue
		}
		r.Sections = append(r.Sections, s)
	}
	return errors.Join(errs...)
}

// writes says whether files are written.
func (o options) writes() bool { return o.out != "" && o.subjects == "" && !o.short }

// conclude writes what was measured, or in the short form compares it with what is
// recorded.
func (o options) conclude(r *report.Report) error {
	if o.out == "" || o.subjects != "" {
		return nil
	}
	recorded, err := report.Read(o.out)
	if errors.Is(err, os.ErrNotExist) {
		if o.short {
			fmt.Fprintf(os.Stderr, "nothing is recorded in %s, so that there is nothing to compare with\n", o.out)
		}
		recorded, err = &report.Report{}, nil
	}
	if err != nil {
		return err
	}
	if o.short {
		return r.Regressions(recorded)
	}
	r.Keep(recorded, familyNames())
	return r.Write(o.out)
}

// chosen leaves of the names those that -subjects has.
func (o options) chosen(names []string) []string {
	if o.subjects == "" {
		return names
	}
	subjects := strings.Split(o.subjects, ",")
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !slices.Contains(subjects, n) })
}
