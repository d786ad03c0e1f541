// Package doctor says whether a host is fit for containers' networks, and what ails it:
// from what was read of the host it makes findings, each with the command that cures it.
//
// It is pure: package doctor/look reads the host.
package doctor

import (
	"cmp"
	"slices"
)

// Level is how much a finding matters.
type Level string

// The levels, from what is well to what keeps packets from getting through.
const (
	OK      Level = "ok"
	Note    Level = "note"    // nothing to do, but good to know
	Warning Level = "warning" // works, and may not under load or for some
	Problem Level = "problem" // something does not work because of it
)

// rank orders levels, the worst first.
func (l Level) rank() int { return slices.Index([]Level{Problem, Warning, Note, OK}, l) }

// Finding is one thing that was looked at.
type Finding struct {
	Level Level `json:"level"`
	// Check is what was looked at, in one word: see the names of the checks.
	Check string `json:"check"`
	// What was found, in one line.
	What string `json:"what"`
	// Cure is the commands that mend it, each a line; none where there is nothing to
	// mend, or no command does.
	Cure []string `json:"cure"`
}

// Report is all that was found.
type Report struct {
	// Daemon says whether a daemon was asked: without one, what it wants is not known.
	Daemon   bool      `json:"daemon"`
	Findings []Finding `json:"findings"`
}

// findings gathers them.
type findings struct{ list []Finding }

func (f *findings) add(l Level, check, what string, cure ...string) {
	if cure == nil {
		cure = []string{}
	}
	f.list = append(f.list, Finding{l, check, what, cure})
}

// Examine makes the report: the worst first, and of one level in the order of the checks.
func Examine(h Host) Report {
	var f findings
	for _, check := range []func(*findings){
		h.kernel, h.modules, h.programs, h.forwarding, h.walls, h.firewalls, h.overlap, h.mtu, h.conntrack, h.neighbours, h.leftovers, h.sysctls, h.limits, h.daemon, h.fastPath,
	} {
		check(&f)
	}
	slices.SortStableFunc(f.list, func(a, b Finding) int { return cmp.Compare(a.Level.rank(), b.Level.rank()) })
	return Report{Daemon: h.Daemon != nil, Findings: f.list}
}
