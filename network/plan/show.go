package plan

import (
	"strings"

	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
)

// named is where ip-netns(8) pins namespaces. A sandbox that is only planned has its
// place there, so that the commands can be followed with ip alone.
const named = "/run/netns/"

// NamedNamespace is the path of the namespace that `ip netns add NAME` makes.
func NamedNamespace(name string) string { return named + name }

// inside is the command run in the namespace.
func inside(path, command string) string {
	name, ok := strings.CutPrefix(path, named)
	if !ok {
		return "nsenter --net=" + path + " " + command
	}
	if arguments, ip := strings.CutPrefix(command, "ip "); ip {
		return "ip -n " + name + " " + arguments
	}
	return "ip netns exec " + name + " " + command
}

// word quotes for a shell what is not plainly a word of its own.
func word(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=,@%+"
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// Show is the steps as people and shells read them; there says that they are done.
func Show(steps []Step, there bool) []spec.PlanStep {
	out := make([]spec.PlanStep, 0, len(steps))
	for _, s := range steps {
		shown := spec.PlanStep{Kind: kindOf(s), Reason: s.Reason(), Commands: []string{}, There: there}
		switch s := s.(type) {
		case Firewall:
			shown.Commands = RuleCommands(s.Changes)
		case ForgetFlows:
			shown.Notes = s.Commands() // conntrack(8) fails where there is none to forget
		case Publish:
			shown.Notes = append(notes(s.Commands()), "where no relay runs the port is not held, and loopback (127.0.0.1, ::1) does not reach it")
		default:
			for _, line := range s.Commands() {
				shown.Add(line)
			}
		}
		out = append(out, shown)
	}
	return out
}

// notes are lines that have no command, without their mark.
func notes(lines []string) []string {
	var s spec.PlanStep
	for _, line := range lines {
		s.Add(line)
	}
	return s.Notes
}

func kindOf(s Step) string {
	switch s.(type) {
	case Sysctl:
		return "sysctl"
	case Firewall:
		return "rules"
	case Bridge:
		return "bridge"
	case Namespace, DropNamespace:
		return "namespace"
	case Veth, DropLink:
		return "veth"
	case Interface:
		return "interface"
	case DefaultRoutes:
		return "route"
	case ForgetFlows:
		return "flows"
	case Announce:
		return "neighbours"
	case Resolver:
		return "names"
	case Redirect:
		return "loopback"
	}
	return "port" // Publish, Republish, Withdraw
}

// RuleCommands are the commands that make the changes: those of nftables are one
// transaction, as when they are made.
func RuleCommands(c firewall.Changes) []string {
	var out []string
	for _, r := range c.XTables {
		out = append(out, r.String())
	}
	for _, f := range c.Guard {
		out = append(out, string(f)+" -P FORWARD DROP")
	}
	lines := make([]string, 0, len(c.Rules))
	for _, r := range c.Rules {
		lines = append(lines, r.String())
	}
	if len(lines) > 0 {
		out = append(out, Feed("nft -f -", strings.Join(lines, "\n")))
	}
	return out
}

// Feed is the command with the text as its input.
func Feed(command, text string) string {
	return command + " <<'EOF'\n" + strings.TrimSuffix(text, "\n") + "\nEOF"
}
