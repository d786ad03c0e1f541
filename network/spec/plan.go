package spec

import "strings"

// Plan is what would be done, for people and for shells.
type Plan struct {
	Steps []PlanStep `json:"steps"`
	// Notes are what there is to know of the plan as a whole, a sentence each.
	Notes []string `json:"notes,omitempty"`
}

// PlanOwned is the kind of the step that ends a script where tables of the packet filter
// have an owner.
const PlanOwned = "owner"

// PlanStep is one small thing that would be done.
type PlanStep struct {
	// Kind is what it is done to: sysctl, rules, bridge, namespace, veth, interface,
	// route, flows, neighbours, names, loopback, port; of what is mended also record
	// and stray; PlanOwned where the rules are not for others to make.
	Kind string `json:"kind"`
	// Reason says in one line what it is for.
	Reason string `json:"reason"`
	// Commands do the same, in order. One may have several lines, as with input of its
	// own (a here-document).
	Commands []string `json:"command"`
	// Notes say what no command does.
	Notes []string `json:"note,omitempty"`
	// There says that it is done on this host already.
	There bool `json:"there,omitempty"`
}

// Add takes a line of a step's printed form in: a command, or what begins with # and
// says what happens.
func (s *PlanStep) Add(line string) {
	if note, is := strings.CutPrefix(line, "# "); is {
		s.Notes = append(s.Notes, note)
		return
	}
	s.Commands = append(s.Commands, line)
}
