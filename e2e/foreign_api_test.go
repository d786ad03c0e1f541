package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWhatIsNotThere: Docker's client, asked for what Fairlead has not, ends with a
// sentence that says so and names the way out.
func TestWhatIsNotThere(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dir := s.lab.Dir("context")
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM demo\nRUN true\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"build " + dir:          "Fairlead does not build images: build with `buildah build`",
		"search nginx":          "Fairlead does not search registries",
		"swarm init":            "makes no swarm",
		"service ls":            "This node is not a swarm manager",
		"stack ls":              "This node is not a swarm manager",
		"node ls":               "This node is not a swarm manager",
		"secret ls":             "This node is not a swarm manager",
		"plugin install x":      "Fairlead has no plugins",
		"inspect nosuch":        "o such object: nosuch",
		"plugin inspect nosuch": `plugin "nosuch" not found`,
	} {
		if r := s.docker(nil, words(args)...); r.Code == 0 || !strings.Contains(r.Stderr, want) {
			t.Errorf("docker %s: exit code %d\n%s%s", args, r.Code, r.Stdout, r.Stderr)
		}
	}
	contains(t, "docker plugin ls", s.mustDocker("plugin", "ls"), "ID")
	contains(t, "docker builder prune", s.mustDocker("builder", "prune", "-f"), "0B")
}
