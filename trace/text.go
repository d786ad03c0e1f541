package trace

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// WriteText draws the answer: the way there and back, where it stops, who stops it, and
// what mends it.
func (e Explanation) WriteText(out io.Writer) error {
	var b strings.Builder
	verdict := "reachable"
	if !e.Reachable {
		verdict = "NOT reachable"
	}
	fmt.Fprintf(&b, "%s: %s\n\n", e.Question, verdict)
	e.There.draw(&b, "there", e.Stopped != nil && len(e.Back.Hops) == 0)
	if len(e.Back.Hops) > 0 {
		e.Back.draw(&b, "back", e.Stopped != nil)
	}
	for _, c := range e.Causes {
		c.write(&b)
	}
	for _, d := range e.Doubts {
		fmt.Fprintf(&b, "Doubt: %s\n", d)
	}
	if e.Probe != nil {
		if len(e.Causes)+len(e.Doubts) > 0 {
			b.WriteString("\n")
		}
		e.Probe.write(&b)
	}
	if len(e.Healed) > 0 {
		b.WriteString("\nPut back lately, the newest first:\n")
		for _, m := range e.Healed {
			fmt.Fprintf(&b, "  %s  %s  %s\n", m.Time.Local().Format("15:04:05"), m.Kind, m.What)
		}
	}
	if e.Paused {
		b.WriteString("\nHealing is paused: what other programs change is left as it is until fairlead heal resume.\n")
	}
	// Sections are set apart by one blank line.
	_, err := io.WriteString(out, strings.TrimRight(strings.ReplaceAll(b.String(), "\n\n\n", "\n\n"), "\n")+"\n")
	return err
}

// draw writes a path, a hop a line, with what was decided there below it.
func (p Path) draw(b *strings.Builder, title string, stopped bool) {
	fmt.Fprintf(b, "%s\n", title)
	var rows strings.Builder
	w := tabwriter.NewWriter(&rows, 0, 0, 2, ' ', 0)
	last := -1
	for i, h := range p.Hops {
		if h.Reached {
			last = i
		}
	}
	for i, h := range p.Hops {
		mark := "├"
		switch {
		case i == last && stopped:
			mark = "✗"
		case i == len(p.Hops)-1:
			mark = "└"
		}
		flow := ""
		if i == 0 || h.Flow != p.Hops[i-1].Flow {
			flow = h.Flow.String()
		}
		if !h.Flow.Destination.IsValid() {
			flow = ""
		}
		fmt.Fprintf(w, "  %s %s\t%s\t%s\t%s\n", mark, h.Kind, h.Name, h.Interface, flow)
	}
	_ = w.Flush() // a strings.Builder takes everything
	lines := strings.SplitAfter(rows.String(), "\n")
	for i, h := range p.Hops {
		b.WriteString(strings.TrimRight(lines[i], " \n") + "\n")
		bar := "│"
		if i == len(p.Hops)-1 {
			bar = " "
		}
		for _, n := range h.Notes {
			fmt.Fprintf(b, "  %s     %s\n", bar, n)
		}
	}
	b.WriteString("\n")
}

func (c Cause) write(b *strings.Builder) {
	fmt.Fprintf(b, "Cause: %s  [%s]\n", c.What, c.Code)
	if c.Where != "" {
		fmt.Fprintf(b, "  where: %s\n", c.Where)
	}
	if c.Who != "" {
		fmt.Fprintf(b, "  who:   %s\n", c.Who)
	}
	for i, m := range c.Mend {
		label := "mend: "
		if i > 0 {
			label = "      "
		}
		fmt.Fprintf(b, "  %s %s\n", label, m)
	}
}

// write tells what was seen of the probe, in few lines.
func (o *Observation) write(b *strings.Builder) {
	answer := map[string]string{
		AnswerYes: "answered", AnswerRefused: "refused: the address was reached, and nobody listens", AnswerError: "an error came back", AnswerNone: "no answer came",
	}[o.Answer.Kind]
	fmt.Fprintf(b, "Probe %s: %s", o.Sent, answer)
	if o.Answer.Error != "" {
		fmt.Fprintf(b, " (%s)", o.Answer.Error)
	} else if o.Answer.ICMP != nil {
		fmt.Fprintf(b, " (%s from %s)", o.Answer.ICMP.Name, o.Answer.From)
	}
	b.WriteString("\n")
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, s := range o.Seen {
		way := "in"
		if s.Outgoing {
			way = "out"
		}
		fmt.Fprintf(w, "  %8s\t%s\t%s\t%s\t%s\t%s\n", s.After.Round(1000), s.Name, s.Interface, way, s.What, s.Flow)
	}
	_ = w.Flush() // a strings.Builder takes everything
	for _, v := range o.Verdicts {
		if v.Verdict == "drop" {
			rule := fmt.Sprintf("handle %d", v.Handle)
			if v.Handle == 0 {
				rule = "its policy"
			}
			fmt.Fprintf(b, "  %8s  dropped by table %s %s, chain %s, %s (nft trace)\n", v.After.Round(1000), v.Family, v.Table, v.Chain, rule)
		}
	}
	for _, d := range o.Drops {
		fmt.Fprintf(b, "  %8s  the kernel threw it away at %s: %s in %s\n", d.After.Round(1000), d.Interface, d.Reason, d.Function)
	}
	for _, u := range o.Unwatched {
		fmt.Fprintf(b, "  not watched: %s\n", u)
	}
}
