package e2e

import (
	"strings"
	"testing"
)

// sameWords are commands that print the same, to the letter, as Docker's client does of
// the same daemon.
var sameWords = []string{
	"ps -a", "ps -a --no-trunc", "ps -aq", "ps -as", "ps -a --format table|{{.ID}}|{{.Ports}}|{{.Label|\"tier\"}}", "container ls -a --format {{.Names}}|{{.Mounts}}|{{.Networks}}|{{.LocalVolumes}}|{{.State}}",
	"images", "images --digests", "images -q --no-trunc", "image ls --format table|{{.Repository}}|{{.Tag}}|{{.ID}}|{{.Size}}",
	"network ls", "network ls --no-trunc", "network ls -q", "network ls --format {{.Name}}|{{.Driver}}|{{.Scope}}|{{.IPv6}}|{{.Internal}}",
	"volume ls", "volume ls -q", "volume ls --format json", "volume inspect data",
	"history demo", "history --no-trunc -q demo", "image inspect -f {{.Id}}|{{.RepoTags}} demo",
	"ps -a --format json -f name=job", "ps -a --format {{json|.}} -f name=job", "ps --format {{.Names}}|{{.Platform}}", "top web", "top web -o pid,args", "diff web", "port web", "port web 80", "inspect -f {{.Name}}|{{.State.Status}}|{{json|.Config.Cmd}} web",
	"system df", "system df -v", "system df --format json", "logs web", "wait job", "inspect --type volume data", "version -f {{.Server.APIVersion}}",
	"events --since 1h --until 0s --format {{.Type}}|{{.Action}} -f type=volume", "events --since 1h --until 0s -f event=create -f type=container",
}

// spaces are what a | stands for inside a word of sameWords.
var spaces = strings.NewReplacer("json|.", "json .", "table|", "table ", "Label|", "Label ")

// TestCommandLineAsDocker: tables, templates and JSON are those of Docker's client.
func TestCommandLineAsDocker(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Must("volume", "create", "--label", "a=b", "data")
	s.Must("network", "create", "--internal", "mine")
	s.Must("run", "-d", "--name", "web", "-p", "8080:80", "-p", "127.0.0.1:5353:53/udp", "-v", "data:/d", "--label", "tier=front", "--network", "mine",
		"--network", "bridge", "demo", "sh", "-c", "echo said; touch /made; exec sleep 3600")
	s.Must("create", "--name", "job", "demo", "true")
	eventually(t, "web has said it", func() bool { return s.Must("logs", "web") == "said" })
	for _, words := range sameWords {
		var args []string
		for _, word := range strings.Fields(words) {
			args = append(args, spaces.Replace(word))
		}
		var ours, theirs string
		// "2 seconds ago" may become 3 between the two.
		for range 3 {
			ours, theirs = strings.TrimSpace(s.Must(args...)), strings.TrimSpace(s.mustDocker(args...))
			if ours == theirs {
				break
			}
		}
		if ours != theirs {
			t.Errorf("%s\nours:\n%s\ndocker's:\n%s", words, ours, theirs)
		}
	}
}
