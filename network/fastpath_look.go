package network

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/kernel/fastpath"
	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/kernel/sysctl"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/ruleset"
)

// allowFastPath has frames pass the bridge by for some seconds more, unless somebody has a
// say on what it passes on.
func (c *Controller) allowFastPath() {
	s := &c.fast
	who, err := c.bypassed()
	if err != nil {
		who = "whether somebody filters frames cannot be told: " + err.Error()
	}
	d := fastFor
	if who != "" {
		d = 0
	}
	if err := s.path.Allow(d); err != nil {
		c.log.Error("the fast path cannot be switched", "operation", "fast path", "err", err)
		return
	}
	s.mu.Lock()
	former := s.bypassed
	s.bypassed = who
	s.mu.Unlock()
	defer c.allowOutside(who)
	switch {
	case who == former:
	case who != "":
		c.log.Info("containers reach each other by the bridge: the fast path stands back", "what", who)
	default:
		c.log.Info("containers reach each other by the fast path again")
	}
}

// bypassed names whoever has a say on frames between containers of the whole host.
func (c *Controller) bypassed() (string, error) {
	for _, key := range []string{"net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"} {
		// Without br_netfilter there is none.
		if v, err := sysctl.Get(key); err == nil && v != "0" {
			return "br_netfilter hands frames to iptables (sysctl " + key + " is " + v + ")", nil
		}
	}
	if modules, err := os.ReadFile("/proc/modules"); err == nil {
		for line := range strings.Lines(string(modules)) {
			name, _, _ := strings.Cut(line, " ")
			if slices.Contains([]string{"ebtable_filter", "ebtable_nat", "ebtable_broute"}, name) {
				return "legacy ebtables has a table (module " + name + ")", nil
			}
		}
	}
	chains, err := c.fw.Chains()
	if err != nil {
		return "", err
	}
	others, err := c.otherTables() // of Fairleads, whose rules are about their own ports
	if err != nil {
		return "", err
	}
	for _, ch := range chains {
		if seesFrames(ch) && ch.Table != c.plan.Table && !slices.Contains(others, ch.Table) {
			return "nft chain " + ch.String() + " filters frames", nil
		}
	}
	return "", nil
}

// seesFrames says that the chain is called for what one container sends to another: on
// its way over a bridge, or where it comes in at an interface. The kernel numbers the
// ingress hook of the family inet otherwise, so it has no name here.
func seesFrames(ch nft.BaseChain) bool {
	switch ch.Family {
	case ruleset.Bridge:
		return ch.Hook != ruleset.Input && ch.Hook != ruleset.Output
	case ruleset.Inet:
		return ch.Hook == ""
	}
	return ch.Family == "netdev"
}

// lookForStrangers notes who has programs at our ports, of which the kernel tells nobody.
func (c *Controller) lookForStrangers() {
	s := &c.fast
	strangers := make(map[int]string)
	s.mu.Lock()
	joined := slices.Collect(maps.Values(s.joined))
	s.mu.Unlock()
	for _, port := range joined {
		if _, other, err := s.path.At(port.Index); err == nil && other != "" {
			strangers[port.Index] = other
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for index, was := range s.strangers {
		if _, other, err := s.path.At(index); err == nil && other != "" {
			strangers[index] = was
		}
	}
	s.strangers = strangers
}

// lookFastPath has ports that may not take part any more leave, and returns those that may
// and do not.
func (c *Controller) lookFastPath() (pending []candidate) {
	v, err := c.newSurvey(false)
	intakes, tcErr := c.looking.Intakes()
	if err = errors.Join(err, tcErr); err != nil {
		c.log.Error("the fast path stands still: the host's links cannot be read", "operation", "fast path", "err", err)
		return nil
	}
	wanted, slow := v.fastPorts(intakes)
	c.lookOutside(v.links, intakes)
	s := &c.fast
	s.mu.Lock()
	s.slow = slow
	var leaving []string
	for id, port := range s.joined {
		if w, ok := wanted[id]; !ok || !samePort(w.port, port) {
			leaving = append(leaving, id)
		}
	}
	s.mu.Unlock()
	for _, id := range leaving {
		c.part(id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	there := make(map[string]bool)
	for _, a := range v.attachments {
		for _, e := range a.Endpoints {
			there[e.ID] = true
		}
	}
	maps.DeleteFunc(s.names, func(id, _ string) bool { return !there[id] })
	maps.DeleteFunc(s.former, func(id string, _ link.Counters) bool { return !there[id] })
	for id, w := range wanted {
		if _, there := s.joined[id]; !there {
			pending = append(pending, w)
		}
	}
	return pending
}

// fastPorts are the ports that may take the fast path, and why others may not, both by the
// endpoint's ID. Intakes are the interfaces at which tc classifies what comes in.
func (s *survey) fastPorts(intakes map[int]bool) (may map[string]candidate, slow map[string]string) {
	may, slow = make(map[string]candidate), make(map[string]string)
	nets := make(map[string]string) // why not, by ID
	for _, n := range s.nets {
		nets[n.ID] = s.slowNetwork(n)
	}
	for _, a := range s.attachments {
		for _, e := range a.Endpoints {
			if e.Spoofing && nets[e.NetworkID] == "" {
				// It may take over another's hardware address, and the bridge follow.
				nets[e.NetworkID] = "a container of the network may send under others' addresses"
			}
		}
	}
	fast := &s.c.fast
	fast.mu.Lock()
	defer fast.mu.Unlock()
	for _, a := range s.attachments {
		for _, e := range a.Endpoints {
			why, known := nets[e.NetworkID]
			l, there := s.byName[e.HostIf]
			switch {
			case !known || !there:
				continue // it comes or goes
			case why == "" && intakes[l.Index]:
				why = "tc classifies what comes in at link " + e.HostIf
			case why == "":
				why = s.slowPort(a, e, l, fast.strangers[l.Index])
			}
			if why != "" {
				slow[e.ID] = why
				continue
			}
			port := fastpath.Port{Index: l.Index, Segment: fast.segment(e.NetworkID), MAC: []byte(e.MAC)}
			for _, p := range e.Addrs() {
				port.Addrs = append(port.Addrs, p.Addr())
			}
			may[e.ID] = candidate{a.Sandbox.ID, e.ID, e.HostIf, s.byIndex[l.MasterIndex], port}
		}
	}
	return may, slow
}

// slowNetwork says why no container of the network may take the fast path, "" if they may.
func (s *survey) slowNetwork(n spec.Network) string {
	l, there := s.byName[n.Bridge]
	switch {
	case n.Foreign:
		return "the bridge is the host's own"
	case !n.ICC:
		return "its containers are kept apart"
	case !there || l.Kind != "bridge" || !l.Up:
		return "its bridge is not up"
	case l.Filters():
		return "its bridge filters"
	case l.Overheard:
		return "somebody captures at its bridge"
	}
	return ""
}

// slowPort says the same of a port; stranger names another's program at it.
func (s *survey) slowPort(a spec.Attachment, e spec.Endpoint, l link.Link, stranger string) string {
	if d := vethDifferences(s.c.plan.VethStep(a, e), l, s.byIndex[l.MasterIndex], false); len(d) > 0 {
		return "link " + e.HostIf + " " + d[0].text
	}
	port, _ := l.Port()
	switch {
	case l.Kind != "veth" || l.PeerNamespace < 0:
		return "link " + e.HostIf + " does not lead into a namespace"
	case port.State != link.Forwarding:
		return fmt.Sprintf("link %s is in state %d as a port", e.HostIf, port.State)
	case l.Overheard:
		return "somebody captures at link " + e.HostIf
	case l.Queued:
		return "link " + e.HostIf + " has a queue (tc qdisc)"
	case l.XDP:
		return "link " + e.HostIf + " has an XDP program"
	case stranger != "":
		return "link " + e.HostIf + " has another's program, " + stranger
	}
	return ""
}
