// Package walkthrough reads and writes documents that show commands and what they
// printed: Markdown whose console blocks are real. It knows nothing of how commands are
// run; that is the test's that uses it.
//
// A block that opens with ```console holds steps: a prompt and a command, and below it
// what the command printed. The prompt says where it is typed: "$" on the host,
// "NAME$" on another machine, "NAME#" in the container NAME. A command goes on in the
// next line after a backslash, or to the end of a here-document.
//
// What a reader need not see stands in a comment of one line: <!-- $ COMMAND --> is run,
// and must succeed; <!-- until $ COMMAND --> is run until it succeeds.
package walkthrough

import (
	"fmt"
	"regexp"
	"strings"
)

// Step is one command and what it printed.
type Step struct {
	// Prompt is where it is typed: "$", "outside$", "web#".
	Prompt string
	// Command may have several lines.
	Command string
	// Output is what it printed, each line with its end; "" for nothing.
	Output string
	// Hidden is a step that a reader does not see; its output is not kept.
	Hidden bool
	// Until is a hidden step to be tried until it succeeds.
	Until bool
	// Line is where it stands in the document, from 1.
	Line int
}

// Document is a walkthrough: text, and steps between.
type Document struct {
	parts []part
}

// part is a line of text as it stands, or a step.
type part struct {
	text string
	step *Step
}

const fence = "```"

var (
	prompt = regexp.MustCompile(`^((?:[a-z][a-z0-9_-]*)?\$|[a-z][a-z0-9_-]*#) (\S.*)$`)
	hidden = regexp.MustCompile(`^<!-- (until )?((?:[a-z][a-z0-9_-]*)?\$|[a-z][a-z0-9_-]*#) (.+) -->$`)
	here   = regexp.MustCompile(`<<-?\s*'?([A-Za-z_]+)'?`)
)

// Parse reads a document. A console block that does not begin with a command, or has no
// end, is an error.
func Parse(markdown string) (*Document, error) {
	d := &Document{}
	lines := strings.SplitAfter(markdown, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	for i := 0; i < len(lines); i++ {
		if m := hidden.FindStringSubmatch(strings.TrimSuffix(lines[i], "\n")); m != nil {
			d.parts = append(d.parts, part{lines[i], &Step{Prompt: m[2], Command: m[3], Hidden: true, Until: m[1] != "", Line: i + 1}})
			continue
		}
		d.parts = append(d.parts, part{text: lines[i]})
		switch strings.TrimRight(lines[i], " \n") {
		case fence + "console":
			end, err := d.block(lines, i+1)
			if err != nil {
				return nil, err
			}
			i = end
		case "":
		default:
			if strings.HasPrefix(lines[i], fence) { // some other block: nothing in it is ours
				for i++; i < len(lines) && !strings.HasPrefix(lines[i], fence); i++ {
					d.parts = append(d.parts, part{text: lines[i]})
				}
				if i == len(lines) {
					return nil, fmt.Errorf("the last block has no end")
				}
				d.parts = append(d.parts, part{text: lines[i]})
			}
		}
	}
	return d, nil
}

// block reads the steps of a console block from that line on, and returns the index of
// the line that ends it.
func (d *Document) block(lines []string, from int) (end int, err error) {
	var step *Step
	for i := from; i < len(lines); i++ {
		if strings.TrimRight(lines[i], " \n") == fence {
			d.parts = append(d.parts, part{text: lines[i]})
			return i, nil
		}
		m := prompt.FindStringSubmatch(strings.TrimSuffix(lines[i], "\n"))
		switch {
		case m != nil:
			step = &Step{Prompt: m[1], Line: i + 1}
			step.Command, i = command(m[2], lines, i)
			d.parts = append(d.parts, part{step: step})
		case step == nil:
			return 0, fmt.Errorf("line %d: a console block begins with a prompt and a command", i+1)
		default:
			step.Output += lines[i]
		}
	}
	return 0, fmt.Errorf("line %d: the console block has no end", from)
}

// command reads what of a command is in further lines, and returns the index of the last.
func command(first string, lines []string, at int) (whole string, last int) {
	whole = first
	more := func() bool { return at+1 < len(lines) && !strings.HasPrefix(lines[at+1], fence) }
	next := func() string {
		at++
		line := strings.TrimSuffix(lines[at], "\n")
		whole += "\n" + line
		return line
	}
	for line := first; strings.HasSuffix(line, `\`) && more(); {
		line = next()
	}
	if m := here.FindStringSubmatch(whole); m != nil {
		for more() {
			if strings.TrimSpace(next()) == m[1] {
				break
			}
		}
	}
	return whole, at
}

// Steps are the commands in their order. What is changed of them is what String writes.
func (d *Document) Steps() (steps []*Step) {
	for _, p := range d.parts {
		if p.step != nil {
			steps = append(steps, p.step)
		}
	}
	return steps
}

// String is the document with its steps as they are now.
func (d *Document) String() string {
	var b strings.Builder
	for _, p := range d.parts {
		b.WriteString(p.text)
		if p.step != nil && !p.step.Hidden {
			b.WriteString(p.step.Prompt + " " + p.step.Command + "\n" + p.step.Output)
		}
	}
	return b.String()
}

// Ambiguous returns the line of an output that would be taken for a command, or for the
// end of the block, when the document is read again; "" if there is none.
func Ambiguous(output string) string {
	for line := range strings.Lines(output) {
		line = strings.TrimSuffix(line, "\n")
		if prompt.MatchString(line) || strings.HasPrefix(line, fence) {
			return line
		}
	}
	return ""
}
