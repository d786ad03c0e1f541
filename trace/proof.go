package trace

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/printable"
	"github.com/fairlead/fairlead/trace/netfilter"
	"github.com/fairlead/fairlead/trace/picture"
)

// Proved is the explanation with what was seen of a probe. Where reasoning found nothing
// in the way and no answer came, the probe's own word is the cause.
func (e Explanation) Proved(o *Observation) Explanation {
	e.Probe = o
	answered := o.Answer.Kind == AnswerYes
	if !e.Reachable {
		if answered && !e.byKernel() {
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
			c.Who = whoseStack(v.Name, v.Namespace)
			c.Mend = []string{within(v.Namespace, fmt.Sprintf("nft -a list chain %s %s %s", v.Family, v.Table, v.Chain))}
		}
	}
	for _, d := range o.Drops {
		if c.Code == "no-answer" {
			e.thrownAway(&c, d)
		}
	}
	if n := len(o.Seen); n > 0 && c.Where == "" {
		last := o.Seen[n-1]
		c.Where = fmt.Sprintf("last seen at %s of %s", last.Interface, last.Name)
		if c.Code == "no-answer" && !last.Outgoing && e.hooked(&c, last.Namespace) {
			c.Who = whoseStack(last.Name, last.Namespace)
		}
	}
	if len(o.Seen) == 0 && c.Code == "no-answer" && o.Answer.Error == "" {
		c.What += "; it was not seen to leave: nobody answers for the next address"
		c.Who = "this host, its containers, or a machine on the first segment"
		e.hooked(&c, "")
	}
	e.Causes = append(e.Causes, c)
	return e
}

// thrownAway makes it the cause that the kernel dropped the probe.
func (e Explanation) thrownAway(c *Cause, d KernelDrop) {
	c.Code, c.What = "kernel-drop", fmt.Sprintf("the kernel throws the probe away at %s: %s (%s)", d.Interface, d.Reason, d.Function)
	c.Who = whoseStack(d.Name, d.Namespace)
	byQueue := strings.HasPrefix(d.Reason, "TC_") || strings.HasPrefix(d.Reason, "QDISC_")
	if byQueue && d.Interface != "" {
		c.Mend = []string{within(d.Namespace, "tc -s qdisc show dev "+d.Interface), within(d.Namespace, "tc filter show dev "+d.Interface+" ingress")}
	}
	if !byQueue {
		e.hooked(c, d.Namespace)
	}
}

// byKernel says that the cause is one of programs that do not run, for which the kernel answers.
func (e Explanation) byKernel() bool {
	return len(e.Causes) > 0 && (e.Causes[0].Code == "container-paused" || e.Causes[0].Code == "process-stopped")
}

// hooked adds to a cause the chains at interfaces that the namespace has, of whose decisions
// nothing is known; false where it has none.
func (e Explanation) hooked(c *Cause, namespace string) bool {
	chains := e.hooks[namespace]
	if len(chains) == 0 {
		return false
	}
	c.What += "; at interfaces there are " + strings.Join(chains, ", ") + ", which may drop it"
	c.Mend = append(c.Mend, within(namespace, "nft list hooks"))
	return true
}

// whoseStack is the host or the container in which something was seen.
func whoseStack(name, namespace string) string {
	if namespace == "" {
		return "the host: its rules, queues or settings"
	}
	return "container " + name + ": its rules, queues or settings"
}

// within is the command in that namespace.
func within(namespace, command string) string {
	if namespace == "" {
		return command
	}
	return "nsenter --net=" + namespace + " " + command
}

// inetIngress is NF_INET_INGRESS of linux/netfilter.h.
const inetIngress = 5

// hooksOf are the chains at interfaces (ingress and egress), by namespace.
func hooksOf(p *picture.Picture) map[string][]string {
	out := make(map[string][]string)
	add := func(n *picture.Namespace) {
		for _, table := range n.Ruleset.Tables {
			for name, chain := range table.Chains {
				if table.Family == netfilter.FamilyNetdev && chain.Type != "" || table.Family == netfilter.FamilyInet && chain.Hook == inetIngress {
					out[n.Path] = append(out[n.Path], fmt.Sprintf("table %s %s, chain %s", netfilter.FamilyName(table.Family), printable.Name(table.Name), printable.Name(name)))
				}
			}
		}
		slices.Sort(out[n.Path])
	}
	add(&p.Host)
	for _, c := range p.Containers {
		if c.Namespace != nil {
			add(c.Namespace)
		}
	}
	return out
}
