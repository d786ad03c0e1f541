package network

import (
	"context"

	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/firewall/xtables"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/ruleset"
)

// ownerNote says what of the tables no command of another program can do.
const ownerNote = "the daemon's own tables carry flags owner,persist besides: no other program can change or flush them, and so the socket that made them is kept by the relay"

// ownedNote is said where they are there.
const ownedNote = "no other program may change the daemon's own tables of nftables: it puts them in order by itself, `fairlead heal resume`"

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
