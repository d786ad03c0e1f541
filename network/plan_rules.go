package network

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/firewall/xtables"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/ruleset"
)

// ownerNote says what of the tables no command of another program can do.
const ownerNote = "the daemon's own tables carry flags owner,persist besides: no other program can change or flush them, and so the socket that made them is kept by the relay"

// ownedNote is said where they are there.
const ownedNote = "no other program may change the daemon's own tables of nftables: it puts them in order by itself, `fairlead heal resume`"

// ownedStep has a script end before its first change where the tables that it would
// change are the daemon's: of steps that change none of nftables there is no such one.
func (c *Controller) ownedStep(steps []spec.PlanStep) []spec.PlanStep {
	filters := slices.ContainsFunc(steps, func(s spec.PlanStep) bool {
		return slices.ContainsFunc(s.Commands, func(command string) bool { return strings.HasPrefix(command, "nft ") })
	})
	if !filters || c.cfg.Firewall == FirewallNone || c.fw == nil || !c.fw.Features().Persist {
		return nil
	}
	family := ruleset.Inet
	if c.cfg.Firewall == FirewallIPTables {
		family = ruleset.Bridge
	}
	return []spec.PlanStep{{
		Kind: spec.PlanOwned, Reason: "rules of nftables are for reading here: the daemon's own tables take them from the daemon alone (flags owner)",
		Commands: []string{fmt.Sprintf(`if nft -t list table %s %s 2>/dev/null | grep -q 'flags.*owner'; then
  echo "nothing was done: table %[2]s is the daemon's own (flags owner), and takes no rules of other programs; run the command itself" >&2
  exit 1
fi`, family, c.plan.Table)},
	}}
}

// script is the policy as the input of nft(8), which has no socket to keep: without an
// owner.
func (e nftEnforcer) script(_ context.Context, p firewall.Policy, fresh bool) (commands, notes []string, err error) {
	if !fresh && e.c.fw.Features().Persist {
		return []string{}, []string{ownedNote}, nil
	}
	p.Owner = false
	return plan.RuleCommands(firewall.Changes{Rules: firewall.Replace(p)}), []string{ownerNote}, nil
}

func (e *iptablesEnforcer) script(ctx context.Context, p firewall.Policy, fresh bool) (commands, notes []string, err error) {
	p.Owner = false
	model := e.backend.Model(p)
	for _, f := range e.backend.Families() {
		var have xtables.Listing
		if !fresh {
			if have, err = e.list(ctx, f); err != nil {
				return nil, nil, err
			}
		}
		commands = append(commands, plan.Feed(string(f)+"-restore --noflush", model.Replace(f, have, e.backend.Tag, firewall.UserChain)))
	}
	if !fresh && e.c.fw.Features().Persist {
		return commands, []string{ownedNote}, nil
	}
	layer2 := firewall.Changes{Rules: []ruleset.Change{
		ruleset.ReplaceTable{Table: firewall.BridgeTable(p)}, ruleset.ReplaceTable{Table: firewall.FlowTable(p)},
	}}
	return append(commands, plan.RuleCommands(layer2)...), []string{"what is decided on frames is nftables' with this back end, too"}, nil
}

func (noEnforcer) script(context.Context, firewall.Policy, bool) (commands, notes []string, err error) {
	return nil, []string{"the firewall is off (--iptables=false): nothing is translated or kept apart, and published ports are served by the relay alone"}, nil
}
