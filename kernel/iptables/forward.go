// Package iptables reaches the one thing of the old iptables that nf_tables
// cannot: a FORWARD chain of the legacy tables (ip_tables, ip6_tables) that
// drops. Nobody but iptables-legacy can read or change those, so that it is
// called, and only where such a table is in use.
//
// What must not live here: chains that iptables-nft made; package kernel/nft
// knows them.
package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// Forward is what must pass legacy FORWARD chains.
type Forward struct {
	// Tag begins the comment of every rule we add, so that they are known again.
	Tag string
	// Group is the device group of our bridges.
	Group uint32
	// Bridges are bridges of other makers that our networks use; they have no
	// group of ours.
	Bridges []string
}

// family is one of the two sets of legacy tables.
type family struct {
	name string // for messages
	// tables lists the tables in use in this network namespace.
	tables  string
	command string
}

func families() []family {
	return []family{
		{"IPv4", "/proc/thread-self/net/ip_tables_names", "iptables-legacy"},
		{"IPv6", "/proc/thread-self/net/ip6_tables_names", "ip6tables-legacy"},
	}
}

// OpenForward puts rules that let our networks through into each legacy FORWARD
// chain of the current network namespace that drops by its policy or by an
// unconditional rule: at the end, or before that rule. It returns a line for each
// such chain, and is safe to call again.
func OpenForward(ctx context.Context, f Forward) ([]string, error) {
	var found []string
	var errs []error
	for _, fam := range families() {
		line, err := fam.open(ctx, f)
		if err != nil {
			errs = append(errs, err)
		}
		if line != "" {
			found = append(found, line)
		}
	}
	return found, errors.Join(errs...)
}

// CloseForward takes out every rule that OpenForward put in under the tag.
func CloseForward(ctx context.Context, tag string) error {
	var errs []error
	for _, fam := range families() {
		rules, err := fam.rules(ctx)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, fam.remove(ctx, rules, tag))
	}
	return errors.Join(errs...)
}

// rules lists FORWARD as `iptables -S` does, its policy first; nil where the
// table is not in use.
func (fam family) rules(ctx context.Context) ([]string, error) {
	names, err := os.ReadFile(fam.tables)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !slices.Contains(strings.Fields(string(names)), "filter"):
		// Asking iptables-legacy would bring the table into use.
		return nil, nil
	}
	if _, err := exec.LookPath(fam.command); err != nil {
		return nil, fmt.Errorf("the legacy %s filter table is in use and may drop what containers forward, and %s to look is not installed: %w", fam.name, fam.command, err)
	}
	out, err := fam.run(ctx, "-S", "FORWARD")
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSpace(out), "\n"), nil
}

func (fam family) run(ctx context.Context, args ...string) (string, error) {
	// -w waits for the lock that other callers hold.
	args = append([]string{"-w"}, args...)
	cmd := exec.CommandContext(ctx, fam.command, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", fam.command, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

func (fam family) open(ctx context.Context, f Forward) (string, error) {
	rules, err := fam.rules(ctx)
	if err != nil || len(rules) == 0 {
		return "", err
	}
	cause, wall := drops(rules)
	if cause == "" {
		return "", nil
	}
	head := fmt.Sprintf("the legacy %s FORWARD chain drops forwarded packets (%s)", fam.name, cause)
	wanted := f.rules()
	if settled(rules[:wall], rules[wall:], f.Tag, len(wanted)) {
		return head + "; our rules are in it already", nil
	}
	if err := fam.remove(ctx, rules, f.Tag); err != nil {
		return "", err
	}
	// Rule 1 is the line behind the policy's.
	at := wall - len(tagged(rules[:wall], f.Tag))
	for i, r := range wanted {
		args := append([]string{"-I", "FORWARD", strconv.Itoa(at + i)}, r...)
		if _, err := fam.run(ctx, args...); err != nil {
			return "", fmt.Errorf("%s and could not be changed, so containers are cut off: %w", head, err)
		}
	}
	return fmt.Sprintf("%s; %d rules that let containers through were added", head, len(wanted)), nil
}

// drops says why the chain drops, "" when it does not, and before which line of
// the listing our rules belong.
func drops(rules []string) (cause string, wall int) {
	for i, r := range rules {
		words := strings.Fields(withoutComment(r))
		if len(words) >= 4 && words[2] == "-j" && (words[3] == "DROP" || words[3] == "REJECT") {
			return "its rule that drops the rest", i
		}
	}
	if rules[0] == "-P FORWARD DROP" {
		return "policy drop", len(rules)
	}
	return "", len(rules)
}

// withoutComment takes a comment match out of a line of `iptables -S`.
func withoutComment(rule string) string {
	head, rest, ok := strings.Cut(rule, " -m comment --comment ")
	if !ok {
		return rule
	}
	if strings.HasPrefix(rest, `"`) {
		if _, tail, ok := strings.Cut(rest[1:], `" `); ok {
			return head + " " + tail
		}
	}
	_, tail, _ := strings.Cut(rest, " ")
	return head + " " + tail
}

// settled says that all of ours are before the rule that drops, and none behind.
func settled(before, behind []string, tag string, wanted int) bool {
	return len(tagged(before, tag)) == wanted && len(tagged(behind, tag)) == 0
}

func tagged(rules []string, tag string) []string {
	var out []string
	for _, r := range rules {
		if strings.Contains(r, `--comment "`+tag+`: `) {
			out = append(out, r)
		}
	}
	return out
}

// remove deletes the tagged rules, the last first, so that numbers stay right.
func (fam family) remove(ctx context.Context, rules []string, tag string) error {
	for i := len(rules) - 1; i > 0; i-- {
		if len(tagged(rules[i:i+1], tag)) == 0 {
			continue
		}
		if _, err := fam.run(ctx, "-D", "FORWARD", strconv.Itoa(i)); err != nil {
			return err
		}
	}
	return nil
}

// rules are the arguments of the rules that are wanted in a chain that drops.
func (f Forward) rules() [][]string {
	group := fmt.Sprintf("%#x", f.Group)
	accept := func(comment string, match ...string) []string {
		return append(match, "-m", "comment", "--comment", f.Tag+": "+comment, "-j", "ACCEPT")
	}
	out := [][]string{
		accept("from containers", "-m", "devgroup", "--src-group", group),
		accept("to containers", "-m", "devgroup", "--dst-group", group),
	}
	for _, b := range f.Bridges {
		out = append(out, accept("from "+b, "-i", b), accept("to "+b, "-o", b))
	}
	return out
}
