package e2e

import (
	"os"
	"strings"
	"testing"
)

// TestReadmeNetworks: what README shows of networks on one screen works as it stands,
// line after line.
func TestReadmeNetworks(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, screen, found := strings.Cut(string(text), "## Networks on one screen\n\n```\n")
	screen, _, closed := strings.Cut(screen, "```")
	if !found || !closed {
		t.Fatal("README has no networks on one screen")
	}
	s := newSite(t)
	run := 0
	for line := range strings.Lines(screen) {
		command, _, _ := strings.Cut(line, "#")
		args := strings.Fields(command)
		if args[0] != "fairlead" || args[1] == "daemon" { // there is one already
			continue
		}
		s.Must(args[1:]...)
		run++
	}
	if run < 10 {
		t.Errorf("only %d commands were run", run)
	}
	s.consistent()
}
