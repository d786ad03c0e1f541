package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fairlead/fairlead/trace"
)

// capturePath sends one packet and shows it at every hop; status 1 says that it was not
// answered.
func (a *app) capturePath(ctx context.Context, from, to string, ipv6 bool, format string) error {
	q := url.Values{"from": {from}, "to": {to}}
	if ipv6 {
		q.Set("ipv6", "1")
	}
	var seen trace.Observation
	if err := a.call(ctx, http.MethodPost, "/fairlead/v1/path?"+q.Encode(), &seen); err != nil {
		return a.explain(err)
	}
	if format != "" {
		if err := a.printOwn(seen, format); err != nil {
			return err
		}
	} else if err := printPath(a.Out, from, seen); err != nil {
		return err
	}
	if seen.Answer.Kind != trace.AnswerYes {
		return exitWith(1)
	}
	return nil
}

// pathEvent is a line of the picture.
type pathEvent struct {
	after time.Duration
	line  string
}

func printPath(out io.Writer, from string, seen trace.Observation) error {
	fmt.Fprintf(out, "%s from %s: %s\n", probeName(seen.Sent.Proto), from, seen.Sent)
	if len(seen.Seen)+len(seen.Drops) > 0 {
		fmt.Fprintln(out)
	}
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	for _, e := range pathEvents(seen) {
		fmt.Fprintf(w, "%10s  %s\n", fmt.Sprintf("%d µs", e.after.Microseconds()), e.line)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(table.String()) { // the last cell is empty in most
		fmt.Fprintln(out, strings.TrimRight(line, " \n"))
	}
	for _, v := range seen.Verdicts {
		if v.Verdict == "drop" {
			fmt.Fprintf(out, "\nDropped on %s by %s.\n", v.Name, ruleOf(v))
		}
	}
	fmt.Fprintf(out, "\n%s\n", outcome(seen))
	for _, u := range seen.Unwatched {
		fmt.Fprintf(out, "Not watched: %s\n", u)
	}
	return nil
}

func probeName(proto string) string {
	switch proto {
	case "tcp":
		return "TCP connection"
	case "udp":
		return "UDP datagram"
	}
	return "Echo request (ping)"
}

// pathEvents are sights and drops in order of time.
func pathEvents(seen trace.Observation) []pathEvent {
	var out []pathEvent
	var last [2]trace.Flow // there and back
	for _, s := range seen.Seen {
		direction, arrow := 0, "→"
		if s.Back {
			direction, arrow = 1, "←"
		}
		line := []string{s.Name, s.Interface, arrow + " " + s.What, s.Flow.String(), fmt.Sprintf("ttl %d", s.TTL), translated(last[direction], s.Flow)}
		last[direction] = s.Flow
		out = append(out, pathEvent{s.After, strings.Join(line, "\t")})
	}
	for _, d := range seen.Drops {
		what := "dropped: " + cmp.Or(d.Reason, "no reason given")
		if d.Function != "" {
			what += " in " + d.Function
		}
		line := []string{cmp.Or(d.Name, "-"), cmp.Or(d.Interface, "-"), "✗ " + d.What, d.Flow.String(), what, ""}
		out = append(out, pathEvent{d.After, strings.Join(line, "\t")})
	}
	slices.SortStableFunc(out, func(a, b pathEvent) int { return cmp.Compare(a.after, b.after) })
	return out
}

// translated says which address was another at the hop before.
func translated(before, now trace.Flow) string {
	if !before.Source.IsValid() || before.Proto != now.Proto {
		return ""
	}
	var what []string
	if before.Source != now.Source {
		what = append(what, "source")
	}
	if before.Destination != now.Destination {
		what = append(what, "destination")
	}
	if len(what) == 0 {
		return ""
	}
	return strings.Join(what, " and ") + " translated"
}

func ruleOf(v trace.TableVerdict) string {
	where := fmt.Sprintf("table %s %s, chain %s", v.Family, v.Table, v.Chain)
	if v.Handle == 0 {
		return where + ", by its policy"
	}
	return strings.TrimSpace(fmt.Sprintf("%s, rule with handle %d: %s", where, v.Handle, cmp.Or(v.Rule, "(gone)")))
}

// outcome is what came of it in one line.
func outcome(seen trace.Observation) string {
	a := seen.Answer
	by := ""
	if a.From.IsValid() {
		by = fmt.Sprintf(" by %s after %d µs", a.From, a.After.Microseconds())
	}
	why := ""
	switch {
	case a.ICMP != nil:
		why = ": " + a.ICMP.Name
	case a.Error != "":
		why = ": " + a.Error
	}
	switch a.Kind {
	case trace.AnswerYes:
		return "Answered" + by + "."
	case trace.AnswerRefused:
		return "Refused" + by + why + "."
	case trace.AnswerError:
		if by == "" {
			return "Not sent" + why + "."
		}
		return "Turned away" + by + why + "."
	}
	if len(seen.Seen) == 0 {
		return "Not answered, and not seen anywhere."
	}
	s := seen.Seen[len(seen.Seen)-1]
	return fmt.Sprintf("Not answered: last seen on %s at %s.", s.Name, s.Interface)
}
