package network

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
)

// PlanMend is what a restore, or healing, would put right now: every difference between
// the wanted state and the kernel's that is not the user's, with the commands that end
// it. It has no step where there is none, and changes nothing.
func (c *Controller) PlanMend(ctx context.Context) (spec.Plan, error) {
	var p spec.Plan
	rules, err := c.planMendRules(ctx)
	if err != nil {
		return p, err
	}
	p.Steps = rules // as in a restore, before any link comes up
	s, err := c.newSurvey(true)
	if err != nil {
		return p, err
	}
	s.all()
	if err := s.more(ctx, everything); err != nil {
		return p, err
	}
	p.Steps = append(p.Steps, cures(s.found)...)
	strays, err := c.strayNamespaces(s.attachments)
	if err != nil {
		return p, err
	}
	p.Steps = append(p.Steps, strays...)
	var names differences
	if err := names.resolvers(ctx, c, s.attachments); err != nil {
		return p, err
	}
	if len(names.lines) > 0 {
		p.Steps = append(p.Steps, spec.PlanStep{Kind: "names", Reason: strings.Join(names.lines, "; "), Commands: []string{}, Notes: []string{"the relay is told again who is called what"}})
	}
	return p, nil
}

// cures are the findings that somebody would mend, a step for each thing.
func cures(found []finding) []spec.PlanStep {
	var order []string
	steps := make(map[string]*spec.PlanStep)
	for _, f := range found {
		if f.mend == nil {
			continue
		}
		step, known := steps[f.kind+" "+f.on]
		if !known {
			step = &spec.PlanStep{Kind: f.kind, Reason: f.text, Commands: []string{}}
			steps[f.kind+" "+f.on] = step
			order = append(order, f.kind+" "+f.on)
		} else {
			step.Reason += "; " + f.text
		}
		for _, line := range f.cure {
			if !slices.Contains(step.Commands, line) {
				step.Add(line)
			}
		}
	}
	out := make([]spec.PlanStep, 0, len(order))
	for _, key := range order {
		out = append(out, *steps[key])
	}
	return out
}

// planMendRules compares the packet filters: ours are replaced whole, others' are opened.
func (c *Controller) planMendRules(ctx context.Context) ([]spec.PlanStep, error) {
	c.mu.Lock()
	nets, members := c.state.Networks(), c.state.Members()
	c.mu.Unlock()
	want := c.policy(nets, members)
	differs, err := c.enforcer.Compare(ctx, want)
	if err != nil {
		return nil, err
	}
	var out []spec.PlanStep
	if c.touched() && len(differs) == 0 {
		differs = []string{"table " + c.plan.Table + " was changed by another program"}
	}
	if len(differs) > 0 {
		commands, notes, err := c.enforcer.script(ctx, want, false)
		if err != nil {
			return nil, err
		}
		out = append(out, spec.PlanStep{Kind: kindRules, Reason: few(differs), Commands: commands, Notes: notes})
	}
	lacks, err := c.lackAbroad(ctx, nets)
	if err != nil || len(lacks) == 0 {
		return out, err
	}
	step := spec.PlanStep{Kind: kindForeign, Reason: few(lacks), Commands: []string{}}
	if c.fw != nil {
		c.foreign.mending.Lock()
		f, err := c.foreignForward(nets)
		c.foreign.mending.Unlock()
		if err != nil {
			return out, err
		}
		changes, err := c.fw.ForwardChanges(f)
		if err != nil {
			return out, err
		}
		step.Commands = append(step.Commands, plan.RuleCommands(firewall.Changes{Rules: changes})...)
	}
	if len(step.Commands) == 0 {
		step.Notes = []string{"the daemon puts its rules there again: `fairlead heal resume`"}
	}
	return append(out, step), nil
}

// shownDifferences is how many of the differences of a whole ruleset are told.
const shownDifferences = 3

func few(lines []string) string {
	if more := len(lines) - shownDifferences; more > 0 {
		lines = append(slices.Clone(lines[:shownDifferences]), "and more")
	}
	return strings.Join(lines, "; ")
}

// strayNamespaces are pins that nobody wants.
func (c *Controller) strayNamespaces(attachments []spec.Attachment) ([]spec.PlanStep, error) {
	dir := filepath.Join(c.cfg.ExecRoot, "netns")
	names, err := netns.List(dir)
	if err != nil {
		return nil, err
	}
	var out []spec.PlanStep
	for _, name := range names {
		ours := func(a spec.Attachment) bool { return a.Sandbox.ID == name }
		if name != "host" && !slices.ContainsFunc(attachments, ours) {
			out = append(out, spec.PlanStep{
				Kind: kindStray, Reason: "namespace " + name + " is pinned and nobody wants it",
				Commands: plan.DropNamespace{Path: filepath.Join(dir, name)}.Commands(),
			})
		}
	}
	return out, nil
}
