package network

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/kernel/conntrack"
	"github.com/fairlead/fairlead/kernel/fastpath"
	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/kernel/xfrm"
	"github.com/fairlead/fairlead/ruleset"
)

// allowOutside has connections with outside take the fast path for some seconds more, unless
// somebody else has a say on what the host routes. Bypassed names whoever has one on what
// containers send each other, "" for nobody.
func (c *Controller) allowOutside(bypassed string) {
	s := &c.fast
	lack := bypassed
	if lack == "" {
		var err error
		if lack, err = c.overseen(); err != nil {
			lack = "whether somebody filters what is routed cannot be told: " + err.Error()
		}
	}
	d := fastFor
	if lack != "" {
		d = 0
	}
	s.mu.Lock()
	// What stops all is told of already.
	stop, again := lack != "" && lack != s.outside.lack && lack != bypassed, lack == "" && s.outside.told
	s.outside.lack, s.outside.told = lack, (s.outside.told || stop) && !again
	if time.Since(s.outside.allowed) > fastFor {
		s.dropWhere(everyPassing) // nobody was there to look what became of them
	}
	s.outside.allowed = time.Now()
	err := s.path.AllowFlows(d)
	if lack != "" {
		s.dropWhere(everyPassing)
	}
	s.mu.Unlock()
	switch {
	case err != nil:
		c.log.Error("the fast path cannot be switched", "operation", "fast path", "err", err)
	case stop:
		c.log.Info("connections with outside go the host's way: the fast path stands back", "what", lack)
	case again:
		c.log.Info("connections with outside take the fast path again")
	}
}

// overseen names whoever has a say on what the host routes, or counts it.
func (c *Controller) overseen() (string, error) {
	s := &c.fast
	s.mu.Lock()
	broken := s.outside.broken
	s.mu.Unlock()
	if lack := s.path.FlowsLack(); broken != "" || lack != "" {
		return broken + lack, nil
	}
	if c.cfg.Firewall != FirewallNFTables {
		return "the rules of --firewall-backend=" + string(c.cfg.Firewall) + " see all that is routed", nil
	}
	if conntrack.Accounting() {
		return "connections are counted (sysctl net.netfilter.nf_conntrack_acct is 1)", nil
	}
	for _, names := range []string{"ip_tables_names", "ip6_tables_names"} {
		if tables, err := os.ReadFile("/proc/thread-self/net/" + names); err == nil && len(tables) > 0 {
			return "legacy iptables has a table (" + strings.Join(strings.Fields(string(tables)), ", ") + ")", nil
		}
	}
	if ruled, err := c.looking.RoutedByDSCP(); err != nil || ruled {
		return "the host routes by DSCP (ip rule)", err
	}
	filter, err := fastpath.Filters()
	if err != nil || filter != "" {
		return "a BPF program is at a hook of netfilter, " + filter, err
	}
	policies, err := xfrm.Policies()
	if err != nil {
		return "", err
	}
	if policies > 0 {
		return fmt.Sprintf("the kernel encrypts (ip xfrm policy: %d)", policies), nil
	}
	return c.ruled()
}

// ruled names a chain of another's that has a say on what the host routes.
func (c *Controller) ruled() (string, error) {
	chains, err := c.fw.Chains()
	if err != nil {
		return "", err
	}
	others, err := c.otherTables()
	if err != nil {
		return "", err
	}
	for _, ch := range chains {
		if seesRouted(ch) && ch.Table != c.plan.Table && !slices.Contains(others, ch.Table) {
			return "nft chain " + ch.String() + " has rules on what is routed", nil
		}
	}
	return "", nil
}

// seesRouted says that the chain has a say on what the host routes.
func seesRouted(ch nft.BaseChain) bool {
	switch ch.Family {
	case ruleset.IPv4, ruleset.IPv6, ruleset.Inet:
		return (ch.Rules > 0 || ch.Policy == ruleset.PolicyDrop) && ch.Hook != ruleset.Input && ch.Hook != ruleset.Output
	}
	return false
}

// lookOutside sees who has come between at the links outside, and at the bridges of those
// that take part. Intakes are the interfaces at which tc classifies what comes in.
func (c *Controller) lookOutside(links []link.Link, intakes map[int]bool) {
	s := &c.fast
	s.mu.Lock()
	outside, bridges := maps.Clone(s.outside.links), make(map[string]string)
	for _, name := range s.bridges {
		bridges[name] = "its bridge is gone"
	}
	s.mu.Unlock()
	now := make(map[int]link.Link)
	for _, l := range links {
		now[l.Index] = l
		_, used := outside[l.Index]
		_, bridge := bridges[l.Name]
		if !used && !bridge {
			continue
		}
		why, err := c.slowOutside(l, intakes)
		if bridge {
			why, err = c.slowDevice(l, intakes)
		}
		if err != nil {
			why = "link " + l.Name + " cannot be looked at: " + err.Error()
		}
		if bridge {
			bridges[l.Name] = why
		} else {
			outside[l.Index] = why
		}
	}
	for index := range outside {
		if _, there := now[index]; !there {
			delete(outside, index)
			_ = s.path.DetachOutside(index) // the link is gone, and the program with it
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outside.links, s.outside.bridges = outside, bridges
	s.dropWhere(func(p *passing) bool {
		beyond, inside := now[p.Link], now[p.bridge.Index]
		return outside[p.Link] != "" || bridges[p.bridge.Name] != "" ||
			p.LinkMTU > beyond.MTU || !slices.Equal(p.LinkMAC, beyond.MAC) ||
			p.MTU > inside.MTU || !slices.Equal(p.Gateway, inside.MAC)
	})
}

// slowOutside says why no connection by the link outside takes the fast path, "" if some may.
func (c *Controller) slowOutside(l link.Link, intakes map[int]bool) (string, error) {
	if why := strange(l); why != "" {
		return why, nil
	}
	// What goes out by it meets its queue, and what comes in its XDP.
	l.Queued, l.XDP = false, false
	return c.slowDevice(l, intakes)
}

// slowDevice says the same of what is at a link besides.
func (c *Controller) slowDevice(l link.Link, intakes map[int]bool) (string, error) {
	switch {
	case intakes[l.Index]:
		return "tc classifies what comes in at link " + l.Name, nil
	case l.Queued:
		return "link " + l.Name + " has a queue (tc qdisc)", nil
	case l.XDP:
		return "link " + l.Name + " has an XDP program", nil
	}
	_, others, err := c.fast.path.At(l.Index)
	if err == nil && others != "" {
		return "link " + l.Name + " has another's program, " + others, nil
	}
	return "", err
}

// strange says what keeps a link from being one outside, "" for nothing: of what the link
// itself tells.
func strange(l link.Link) string {
	switch {
	case !l.Up || !l.Running:
		return "link " + l.Name + " is down"
	case len(l.MAC) != 6 || l.NoARP:
		return "link " + l.Name + " is not Ethernet"
	case l.MasterIndex != 0:
		return "link " + l.Name + " is another's port"
	case strings.HasPrefix(l.Alias, "fairlead:"):
		return "link " + l.Name + " leads to containers"
	}
	return ""
}
