package e2e

import (
	"regexp"
	"strings"
	"testing"
	"time"
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

var age = regexp.MustCompile(`(Less than a|About an?|\d+) (second|minute|hour)s?`)

// lasting is what was printed but for ages, the room they take, and the order of networks,
// which Docker's client has from a map.
func lasting(printed string) string {
	printed = strings.ReplaceAll(printed, "mine,bridge", "bridge,mine")
	return strings.Join(strings.Fields(age.ReplaceAllString(printed, "age")), " ")
}

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
		// "2 seconds ago" may become 3 between the two, as long as it is not about a minute.
		for deadline := time.Now().Add(2 * time.Minute); ; {
			ours, theirs = strings.TrimSpace(s.Must(args...)), strings.TrimSpace(s.mustDocker(args...))
			if ours == theirs || lasting(ours) != lasting(theirs) || time.Now().After(deadline) {
				break
			}
		}
		if ours != theirs {
			t.Errorf("%s\nours:\n%s\ndocker's:\n%s", words, ours, theirs)
		}
	}
}
