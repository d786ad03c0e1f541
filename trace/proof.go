package trace

import "fmt"

// Proved is the explanation with what was seen of a probe. Where reasoning found nothing
// in the way and no answer came, the probe's own word is the cause.
func (e Explanation) Proved(o *Observation) Explanation {
	e.Probe = o
	answered := o.Answer.Kind == AnswerYes
	if !e.Reachable {
		if answered {
			e.Doubts = append(e.Doubts, "the probe was answered all the same: what is told above need not be met by every packet")
		}
		return e
	}
	if answered || o.Answer.Kind == "" {
		return e
	}
	e.Reachable = false
	c := Cause{Code: "no-answer", What: "by all that is known on this host nothing is in the way, and yet no answer came to a probe", Who: "the machine at the other end, or one on the way to it"}
	switch {
	case o.Answer.Kind == AnswerRefused:
		c.Code, c.What = "refused", fmt.Sprintf("%s refuses the connection: nobody listens there", o.Sent.Destination)
	case o.Answer.ICMP != nil:
		c.Code, c.What = "icmp-error", fmt.Sprintf("%s answers the probe with %s", o.Answer.From, o.Answer.ICMP.Name)
	case o.Answer.Error != "":
		c.What = "the probe could not be sent: " + o.Answer.Error
		c.Who = ""
	}
	for _, v := range o.Verdicts {
		if v.Verdict == "drop" {
			c.Code, c.What = "dropped", "a rule drops the probe, although by reasoning it should not"
			c.Where = fmt.Sprintf("%s, table %s %s, chain %s, handle %d", v.Name, v.Family, v.Table, v.Chain, v.Handle)
			c.Mend = []string{fmt.Sprintf("nft -a list chain %s %s %s", v.Family, v.Table, v.Chain)}
		}
	}
	for _, d := range o.Drops {
		if c.Code == "no-answer" {
			c.Code, c.What = "kernel-drop", fmt.Sprintf("the kernel throws the probe away at %s: %s (%s)", d.Interface, d.Reason, d.Function)
		}
	}
	if n := len(o.Seen); n > 0 && c.Where == "" {
		last := o.Seen[n-1]
		c.Where = fmt.Sprintf("last seen at %s of %s", last.Interface, last.Name)
	}
	e.Causes = append(e.Causes, c)
	return e
}
