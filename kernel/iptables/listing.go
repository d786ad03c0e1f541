package iptables

import (
	"strings"

	"github.com/fairlead/fairlead/kernel/foreign"
)

// parse reads what `iptables -S` prints of a table.
func parse(listing, tag string) filter {
	t := filter{policy: foreign.Accept, chains: make(foreign.Table), comments: make(map[string][]string)}
	for line := range strings.Lines(listing) {
		words := split(strings.TrimSpace(line))
		switch {
		case len(words) < 2:
		case words[0] == "-P":
			if words[1] == forwardChain && words[len(words)-1] == "DROP" {
				t.policy = foreign.Drop
			}
			t.chains[words[1]] = nil
		case words[0] == "-N":
			t.chains[words[1]] = nil
		case words[0] == "-A":
			r, comment := parseRule(words[2:])
			r.Ours = strings.HasPrefix(comment, tag+": ")
			t.chains[words[1]] = append(t.chains[words[1]], r)
			t.comments[words[1]] = append(t.comments[words[1]], comment)
		}
	}
	return t
}

// parseRule reads the matches and the target of a rule.
func parseRule(words []string) (r foreign.Rule, comment string) {
	limit := func(to foreign.Condition) { r.When = max(r.When, to) }
	someNew, noNew := false, false
	for i := 0; i < len(words); i++ {
		value := ""
		if i+1 < len(words) {
			value = words[i+1]
		}
		switch words[i] {
		case "!":
			// Of an interface: every other one.
			if value == "-i" || value == "-o" {
				limit(foreign.ByInterface)
			} else {
				limit(foreign.Sometimes)
			}
			i += 2
		case "-i", "-o":
			limit(foreign.ByInterface)
			if !strings.HasSuffix(value, "+") {
				r.Interfaces = append(r.Interfaces, value)
			}
			i++
		case "-m":
			i++ // what it asks follows
		case "--comment":
			comment = value
			i++
		case "--ctstate", "--state":
			if !strings.Contains(value, "NEW") {
				limit(foreign.Sometimes)
				noNew = true
			}
			someNew = someNew || !strings.Contains(value, "ESTABLISHED")
			i++
		case "-j", "-g":
			r.Verdict, r.Targets = target(words[i], value)
			i = len(words) // its options follow
		default:
			limit(foreign.Sometimes)
		}
	}
	if someNew && r.Verdict == foreign.Accept {
		limit(foreign.Sometimes)
	}
	if noNew {
		r.Interfaces = nil
	}
	return r, comment
}

// target reads a rule's target. Chains have names of their own: iptables refuses
// those of targets.
func target(option, name string) (foreign.Verdict, []string) {
	switch name {
	case "ACCEPT":
		return foreign.Accept, nil
	case "DROP", "REJECT":
		return foreign.Drop, nil
	case "RETURN":
		return foreign.Return, nil
	case "LOG", "NFLOG", "ULOG", "MARK", "CONNMARK", "TCPMSS", "TRACE", "AUDIT", "CLASSIFY", "SET":
		return foreign.None, nil
	}
	if option == "-g" {
		return foreign.Goto, []string{name}
	}
	return foreign.Jump, []string{name}
}

// split cuts a line into words; a word in quotes may hold anything, quotes after a
// backslash.
func split(line string) (words []string) {
	var word strings.Builder
	quoted, there := false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && quoted && i+1 < len(line):
			i++
			word.WriteByte(line[i])
		case c == '"':
			quoted, there = !quoted, true
		case c == ' ' && !quoted:
			if there {
				words = append(words, word.String())
			}
			word.Reset()
			there = false
		default:
			word.WriteByte(c)
			there = true
		}
	}
	if there {
		words = append(words, word.String())
	}
	return words
}
