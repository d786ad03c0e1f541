// Package iptables runs the programs of iptables, of both variants: it finds those
// that the host uses, lists tables and gives them batches of changes (Programs), and
// opens FORWARD chains of the legacy tables (ip_tables, ip6_tables) that drop, which
// nobody but iptables-legacy can read or change, and only where such a table is in use
// (OpenForward).
//
// What must not live here: which rules are wanted (network/firewall), and foreign
// chains that iptables-nft made; package kernel/nft knows those.
package iptables

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/kernel/foreign"
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
	// Others are bridges of other programs' guests. What a chain would keep from
	// them it keeps from them still.
	Others []string
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
// chain of the current network namespace, and the chains it leads to, where it
// drops by its policy or by an unconditional rule: at the end, or before that rule.
// It returns a line for each such FORWARD chain, and is safe to call again.
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

// LackForward is what OpenForward would change, a line for each FORWARD chain, and
// changes nothing.
func LackForward(ctx context.Context, f Forward) ([]string, error) {
	var lines []string
	var errs []error
	for _, fam := range families() {
		t, err := fam.read(ctx, f.Tag)
		errs = append(errs, err)
		walls := t.chains.Walls(forwardChain, t.policy, []string{"INPUT", "OUTPUT"})
		if err == nil && !t.settled(walls, f.rules()) {
			lines = append(lines, fmt.Sprintf("the legacy %s FORWARD chain has not the rules that let containers through where it drops, and no others of ours", fam.name))
		}
	}
	return lines, errors.Join(errs...)
}

// CloseForward takes out every rule that OpenForward put in under the tag.
func CloseForward(ctx context.Context, tag string) error {
	var errs []error
	for _, fam := range families() {
		t, err := fam.read(ctx, tag)
		if err == nil {
			err = fam.restore(ctx, t.deletions())
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Served are the interfaces that legacy FORWARD chains accept new connections of by
// name, but for rules with the tag and our chains.
func Served(ctx context.Context, tag string, ours []string) ([]string, error) {
	var out []string
	var errs []error
	for _, fam := range families() {
		t, err := fam.read(ctx, tag)
		errs = append(errs, err)
		for _, name := range ours {
			delete(t.chains, name)
		}
		out = append(out, t.chains.Served(forwardChain)...)
	}
	slices.Sort(out)
	return slices.Compact(out), errors.Join(errs...)
}

const forwardChain = "FORWARD"

// filter is a legacy filter table.
type filter struct {
	policy foreign.Verdict // of FORWARD
	chains foreign.Table
	// comments are those of the rules, index by index.
	comments map[string][]string
}

// read reads the filter table; it is empty where none is in use.
func (fam family) read(ctx context.Context, tag string) (filter, error) {
	names, err := os.ReadFile(fam.tables)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return filter{}, nil
	case err != nil:
		return filter{}, err
	case !slices.Contains(strings.Fields(string(names)), "filter"):
		// Asking iptables-legacy would bring the table into use.
		return filter{}, nil
	}
	if _, err := exec.LookPath(fam.command); err != nil {
		return filter{}, fmt.Errorf("the legacy %s filter table is in use and may drop what containers forward, and %s to look is not installed: %w", fam.name, fam.command, err)
	}
	// -w waits for the lock that other callers hold.
	out, err := call(ctx, "", fam.command, "-w", "-S")
	if err != nil {
		return filter{}, err
	}
	return parse(out, tag), nil
}

// restore makes the changes in one transaction.
func (fam family) restore(ctx context.Context, changes []string) error {
	if len(changes) == 0 {
		return nil
	}
	_, err := call(ctx, "*filter\n"+strings.Join(changes, "\n")+"\nCOMMIT\n", fam.command+"-restore", "-w", "--noflush")
	return err
}

func call(ctx context.Context, in, command string, args ...string) (string, error) {
	if err := fault(command, ""); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, command, args...)
	var stdout, stderr strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", command, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), fault(command, ".unheard")
}

func (fam family) open(ctx context.Context, f Forward) (string, error) {
	t, err := fam.read(ctx, f.Tag)
	if err != nil {
		return "", err
	}
	walls := t.chains.Walls(forwardChain, t.policy, []string{"INPUT", "OUTPUT"})
	wanted := f.rules()
	if len(walls) == 0 {
		return "", fam.restore(ctx, t.deletions())
	}
	var causes []string
	for _, w := range walls {
		cause := w.Cause
		if w.Chain != forwardChain {
			cause += " in " + w.Chain
		}
		causes = append(causes, cause)
	}
	head := fmt.Sprintf("the legacy %s FORWARD chain drops forwarded packets (%s)", fam.name, strings.Join(causes, "; "))
	if t.settled(walls, wanted) {
		return head + "; our rules are in it already", nil
	}
	if err := fam.restore(ctx, append(t.deletions(), t.insertions(walls, wanted)...)); err != nil {
		return "", fmt.Errorf("%s and could not be changed, so containers are cut off: %w", head, err)
	}
	return fmt.Sprintf("%s; %d rules that let containers through were added", head, len(walls)*len(wanted)), nil
}

// settled says that the wanted rules stand before each wall, and none of ours
// anywhere else.
func (t filter) settled(walls []foreign.Wall, wanted []rule) bool {
	for name, rules := range t.chains {
		from := 0
		for _, w := range walls {
			if w.Chain != name {
				continue
			}
			same := slices.EqualFunc(t.ours(name, from, w.Before), wanted, func(i int, r rule) bool { return t.comments[name][i] == r.comment })
			if !same {
				return false
			}
			from = w.Before
		}
		if len(t.ours(name, from, len(rules))) > 0 {
			return false
		}
	}
	return true
}

// ours are the indices of our rules in a part of a chain.
func (t filter) ours(chain string, from, to int) (out []int) {
	for i := from; i < to; i++ {
		if t.chains[chain][i].Ours {
			out = append(out, i)
		}
	}
	return out
}

// deletions takes our rules out of every chain, the last first, so that numbers
// stay right.
func (t filter) deletions() (lines []string) {
	for name, rules := range t.chains {
		for _, i := range slices.Backward(t.ours(name, 0, len(rules))) {
			lines = append(lines, fmt.Sprintf("-D %s %d", name, i+1))
		}
	}
	return lines
}

// insertions puts the rules before the walls, after the deletions: the last wall
// first.
func (t filter) insertions(walls []foreign.Wall, wanted []rule) (lines []string) {
	for _, w := range slices.Backward(walls) {
		at := w.Before - len(t.ours(w.Chain, 0, w.Before))
		for i, r := range wanted {
			lines = append(lines, fmt.Sprintf("-I %s %d %s", w.Chain, at+i+1, r))
		}
	}
	return lines
}

// rule is one of ours.
type rule struct{ match, comment, target string }

// String is the rule as iptables reads it.
func (r rule) String() string {
	return fmt.Sprintf("%s -m comment --comment %q -j %s", r.match, r.comment, r.target)
}

// rules are the rules that are wanted before a wall.
func (f Forward) rules() []rule {
	from := fmt.Sprintf("-m devgroup --src-group %#x", f.Group)
	add := func(out []rule, comment, target, match string) []rule {
		return append(out, rule{match, f.Tag + ": " + comment, target})
	}
	var out []rule
	for _, o := range f.Others {
		out = add(out, "not to "+o, "DROP", "-o "+o+" "+from)
	}
	out = add(out, "from containers", "ACCEPT", from)
	out = add(out, "to containers", "ACCEPT", fmt.Sprintf("-m devgroup --dst-group %#x", f.Group))
	for _, b := range f.Bridges {
		for _, o := range f.Others {
			out = add(out, "not from "+b+" to "+o, "DROP", "-i "+b+" -o "+o)
		}
		out = add(out, "from "+b, "ACCEPT", "-i "+b)
		out = add(out, "to "+b, "ACCEPT", "-o "+b)
	}
	return out
}
