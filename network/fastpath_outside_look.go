package network

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/kernel/conntrack"
	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/kernel/xfrm"
	"github.com/fairlead/fairlead/ruleset"
)

// allowOutside has connections with outside take the fast path for some seconds more, unless
// somebody else has a say on what the host routes.
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
	err := s.path.AllowFlows(d)
	s.mu.Lock()
	former := s.outside.lack
	s.outside.lack = lack
	if lack != "" {
		s.dropWhere(func(*passing) bool { return true })
	}
	s.mu.Unlock()
	switch {
	case err != nil:
		c.log.Error("the fast path cannot be switched", "operation", "fast path", "err", err)
	case lack == former || lack == bypassed:
	case lack != "":
		c.log.Info("connections with outside go the host's way: the fast path stands back", "what", lack)
	default:
		c.log.Info("connections with outside take the fast path again")
	}
}

// overseen names whoever has a say on what the host routes, or counts it.
func (c *Controller) overseen() (string, error) {
	if lack := c.fast.path.FlowsLack(); lack != "" {
		return lack, nil
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
	policies, err := xfrm.Policies()
	if err != nil {
		return "", err
	}
	if policies > 0 {
		return fmt.Sprintf("the kernel encrypts (ip xfrm policy: %d)", policies), nil
	}
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

// lookOutside sees who has come between at the links outside. Intakes are the interfaces at
// which tc classifies what comes in.
func (c *Controller) lookOutside(links []link.Link, intakes map[int]bool) {
	s := &c.fast
	s.mu.Lock()
	defer s.mu.Unlock()
	found, now := make(map[int]string), make(map[int]link.Link)
	for _, l := range links {
		if _, used := s.outside.links[l.Index]; !used {
			continue
		}
		now[l.Index] = l
		why := c.slowOutside(l)
		if why == "" && intakes[l.Index] {
			why = "tc classifies what comes in at link " + l.Name
		}
		if _, others, err := s.path.At(l.Index); why == "" && err == nil && others != "" {
			why = "link " + l.Name + " has another's program, " + others
		}
		found[l.Index] = why
	}
	for index := range s.outside.links {
		if _, there := found[index]; !there {
			_ = s.path.DetachOutside(index) // the link is gone, and the program with it
		}
	}
	s.outside.links = found
	s.dropWhere(func(p *passing) bool {
		l, there := now[p.Link]
		return !there || found[p.Link] != "" || p.LinkMTU > l.MTU || !slices.Equal(p.LinkMAC, l.MAC)
	})
}

// slowOutside says why no connection by the link takes the fast path, "" if some may: of
// what the link itself tells.
func (c *Controller) slowOutside(l link.Link) string {
	switch {
	case !l.Up || !l.Running:
		return "link " + l.Name + " is down"
	case len(l.MAC) != 6 || l.NoARP:
		return "link " + l.Name + " is not Ethernet"
	case l.MasterIndex != 0:
		return "link " + l.Name + " is another's port"
	case c.tagged(l):
		return "link " + l.Name + " leads to containers"
	}
	return ""
}
