// Command attacks puts Fairlead, Debian's Docker and Debian's Podman to the same attacks
// and writes bench/ATTACKS.md.
//
// Here live the attacks, the site that they are tried on (a throw-away host for each
// engine, with machines around it), and the report. Each attack has a control, which
// takes the same way and must work; where it does not, the report says that nothing can
// be told. Nothing here is imported by the product, and nothing in the report is typed by
// hand.
//
// It must run as root on Debian 12 with the engines installed: make bench-attacks.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/bench/engine"
	"github.com/fairlead/fairlead/bench/throwaway"
)

// engines are those that are compared, in the order of the report.
var engines = []string{"fairlead", "docker", "podman"}

// request asks a host to try everything, or the rows of some numbers.
type request struct{ Rows []string }

// answer is what became of each row, in their order; "" of those that were not tried.
type answer struct {
	Seen  []string
	Error string
}

func main() {
	if was, err := throwaway.Staged(serve); was {
		exit(err)
		return
	}
	binary := flag.String("binary", "bin/fairlead", "the fairlead binary under test")
	out := flag.String("out", "bench/ATTACKS.md", "file for the report; empty for none")
	only := flag.String("only", "", "engines to try, by commas, with no file written; empty for all")
	numbers := flag.String("rows", "", "numbers of the attacks to try, by commas, with no file written; empty for all")
	flag.Parse()
	r := report{started: time.Now(), seen: map[string][]string{}}
	if err := r.choose(*only, *numbers, flag.Args()); err != nil {
		exit(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := r.run(ctx, *binary)
	stop()
	if err == nil {
		err = r.write(*out)
	}
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "attacks:", err)
		os.Exit(1)
	}
}

// choose takes what the command line says of engines and rows.
func (r *report) choose(only, numbers string, rest []string) (err error) {
	if len(rest) > 0 {
		return fmt.Errorf("%q is no flag", rest[0])
	}
	if r.engines, err = throwaway.Choose("only", only, engines); err != nil || numbers == "" {
		return err
	}
	var all []string
	for _, row := range rows {
		all = append(all, row.number)
	}
	r.rows, err = throwaway.Choose("rows", numbers, all)
	return err
}

// run tries every engine, one after the other, each on a host of its own.
func (r *report) run(ctx context.Context, binary string) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("must run as root: every engine gets a network namespace")
	}
	if binary, err = filepath.Abs(binary); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "fl-attacks-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	err = errors.Join(throwaway.WriteImage(filepath.Join(dir, engine.ImageFile)), os.Symlink(binary, filepath.Join(dir, engine.BinaryLink)))
	if err != nil {
		return err
	}
	for _, name := range r.engines {
		if err := ctx.Err(); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "attacking %s\n", name)
		own, err := os.MkdirTemp(dir, "h")
		if err != nil {
			return err
		}
		if r.seen[name], err = attack(name, own, r.rows); err != nil {
			return err
		}
	}
	return nil
}

// attack has one engine attacked on a host of its own.
func attack(name, dir string, rows []string) ([]string, error) {
	h, err := throwaway.Start(name, dir)
	if err != nil {
		return nil, err
	}
	defer throwaway.Stop([]*throwaway.Host{h})
	var a answer
	if err := h.Ask(request{rows}, &a); err != nil {
		return nil, err
	}
	if a.Error != "" {
		return nil, fmt.Errorf("%s: %s", name, a.Error)
	}
	return a.Seen, nil
}

// serve is the work of a throw-away host.
func serve(name, dir string) error {
	var q request
	if err := json.NewDecoder(os.Stdin).Decode(&q); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return err
	}
	ctx := context.Background()
	var a answer
	s, err := newSite(ctx, name, dir)
	if err != nil {
		a.Error = err.Error()
		return json.NewEncoder(os.Stdout).Encode(a)
	}
	for _, r := range rows {
		seen := ""
		if q.Rows == nil || slices.Contains(q.Rows, r.number) {
			if seen, err = r.try(ctx, s); err != nil {
				seen = "cannot tell: " + strings.ReplaceAll(err.Error(), "\n", "; ")
			}
			fmt.Fprintf(os.Stderr, "%s: %s %s: %s\n", name, r.number, r.attack, seen)
		}
		a.Seen = append(a.Seen, seen)
	}
	if _, err := s.Run(ctx, "rm", "-f", "a1", "a2", "b1", "i1", "v1", "v2"); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	s.Stop()
	return json.NewEncoder(os.Stdout).Encode(a)
}
