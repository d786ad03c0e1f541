package cli

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write testdata/help anew")

func everyCommand(cmd *cobra.Command, do func(*cobra.Command)) {
	do(cmd)
	for _, sub := range cmd.Commands() {
		everyCommand(sub, do)
	}
}

// TestHelp compares what each command's --help prints with testdata/help.
func TestHelp(t *testing.T) {
	root := (&app{build: Build{Version: "1.2.3"}}).root()
	for _, top := range append([]*cobra.Command{root}, root.Commands()...) {
		if top.Hidden || top.Name() == "completion" || top.Name() == "help" {
			continue
		}
		var out bytes.Buffer
		show := func(cmd *cobra.Command) {
			cmd.SetOut(&out)
			if err := cmd.Help(); err != nil {
				t.Fatal(err)
			}
		}
		if top == root {
			show(root)
		} else {
			everyCommand(top, func(cmd *cobra.Command) {
				if cmd != top && again(root, cmd) {
					return
				}
				if cmd != top {
					out.WriteString("\n---- " + cmd.CommandPath() + "\n")
				}
				show(cmd)
			})
		}
		path := filepath.Join("testdata", "help", top.Name()+".txt")
		if *update {
			if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(want, out.Bytes()) {
			t.Errorf("the help of %q is another than %s (%v): read the difference after go test ./cli -run TestHelp -update", top.Name(), path, err)
		}
	}
}

// again says whether a command is one of the first words under a longer name.
func again(root, cmd *cobra.Command) bool {
	return slices.ContainsFunc(root.Commands(), func(top *cobra.Command) bool {
		return top != cmd && top.Short == cmd.Short && len(top.Commands()) == 0
	})
}

// TestHelpTeaches holds every command to an example, and every flag to words.
func TestHelpTeaches(t *testing.T) {
	everyCommand((&app{}).root(), func(cmd *cobra.Command) {
		if cmd.Hidden || strings.Contains(cmd.CommandPath(), " completion") || slices.Contains([]string{"help", "daemon", "fairlead"}, cmd.Name()) {
			return
		}
		if cmd.Example == "" {
			t.Errorf("%q has no example", cmd.CommandPath())
		}
		for line := range strings.Lines(cmd.Example) {
			if len(line) > 110 {
				t.Errorf("%q: an example is wider than a screen: %s", cmd.CommandPath(), line)
			}
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" || strings.HasSuffix(f.Usage, ".") {
				t.Errorf("%q --%s: usage %q", cmd.CommandPath(), f.Name, f.Usage)
			}
		})
	})
}

// notOurs are flags of docker's that are no flags here, and why.
var notOurs = map[string]string{}

// TestDockerFlags: every flag of docker 28's commands is known here, by the same letter.
// testdata/docker-flags.txt is what its --help lists.
func TestDockerFlags(t *testing.T) {
	root := (&app{}).root()
	text, err := os.ReadFile(filepath.Join("testdata", "docker-flags.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		command, flags, _ := strings.Cut(strings.TrimSpace(line), ":")
		cmd, rest, err := root.Find(strings.Fields(command))
		if err != nil || len(rest) > 0 || cmd == root {
			t.Errorf("there is no command %q", command)
			continue
		}
		for _, name := range strings.Fields(flags) {
			letter, long, short := strings.Cut(name, ",")
			if !short {
				letter, long = "", name
			}
			found := cmd.Flags().Lookup(long)
			switch {
			case notOurs[command+" --"+long] != "":
			case found == nil:
				t.Errorf("%q has no --%s", command, long)
			case letter != "" && found.Shorthand != letter:
				t.Errorf("%q --%s has the letter %q, want %q", command, long, found.Shorthand, letter)
			}
		}
	}
}
