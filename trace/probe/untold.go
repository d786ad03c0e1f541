package probe

import (
	"fmt"
	"os"
	"strings"

	"github.com/fairlead/fairlead/trace"
)

// untold adds what took part and tells nothing of it: legacy iptables, of whose rules the
// kernel gives no verdicts, where it threw a packet away and no rule of nf_tables did; and
// drops that came too fast.
func (w *watch) untold(r *trace.Observation) {
	for _, n := range w.namespaces {
		if !filtered(r, n.Path) {
			continue
		}
		if programs := n.legacy(); len(programs) > 0 {
			r.Unwatched = append(r.Unwatched, fmt.Sprintf("%s: rules of %s, one of which may have dropped it: the kernel tells nothing of them; fairlead why reads them",
				n.Name, strings.Join(programs, " and ")))
		}
	}
	if w.drops == nil {
		return
	}
	if lost := w.drops.Lost(); lost > 0 {
		r.Unwatched = append(r.Unwatched, fmt.Sprintf("%d packets that the kernel threw away, of this and other traffic: they came faster than they were read", lost))
	}
}

// filtered says that the probe ended in the namespace by a packet filter that no verdict
// tells of.
func filtered(r *trace.Observation, namespace string) bool {
	dropped := false
	for _, d := range r.Drops {
		dropped = dropped || d.Namespace == namespace && d.Reason == "NETFILTER_DROP"
	}
	for _, v := range r.Verdicts {
		if v.Namespace == namespace && v.Verdict == "drop" {
			return false
		}
	}
	return dropped
}

// legacy are the programs of legacy iptables that have tables in the namespace.
func (n *namespace) legacy() (programs []string) {
	_ = n.inside(func() error {
		for _, p := range [][2]string{{"iptables-legacy", "ip_tables_names"}, {"ip6tables-legacy", "ip6_tables_names"}} {
			// There is no such file before the first table is (net/ipv4/netfilter/ip_tables.c).
			if names, err := os.ReadFile("/proc/thread-self/net/" + p[1]); err == nil && len(names) > 0 {
				programs = append(programs, p[0])
			}
		}
		return nil
	})
	return programs
}
