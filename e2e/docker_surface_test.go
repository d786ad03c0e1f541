package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDockerSurface goes through what people type at Docker's clients all day,
// beyond the main job.
func TestDockerSurface(t *testing.T) {
	forDockerClients(t, func(t *testing.T, client string) {
		s := newSite(t)
		s.client = client
		s.importImage("web", `CMD ["httpd","-f","-h","/www"]`, "EXPOSE 80 22 443")
		t.Run("lifecycle", s.sub(lifecycleWords))
		t.Run("files", s.sub(fileWords))
		t.Run("volumes", s.sub(volumeWords))
		t.Run("images", s.sub(imageWords))
		t.Run("system", s.sub(systemWords))
		t.Run("refused", s.sub(refusedWords))
		s.consistent()
	})
}

// sub is the site in a subtest.
func (s *site) sub(f func(s *site)) func(*testing.T) {
	return func(t *testing.T) {
		in := *s
		in.t = t
		f(&in)
	}
}

func lifecycleWords(s *site) {
	t := s.t
	id := s.mustDocker("run", "-d", "-P", "--name", "web", "--restart", "unless-stopped", "--health-cmd", "wget -qO- 127.0.0.1",
		"--health-interval", "200ms", "--label", "tier=front", "--memory", "64m", "--pids-limit", "50", "web")
	// A2: each exposed port has a host port of its own.
	shown := s.mustDocker("ps", "--filter", "name=web", "--format", "{{.Ports}}")
	ports := regexp.MustCompile(`0\.0\.0\.0:(\d+)->(22|80|443)/tcp`).FindAllStringSubmatch(shown, -1)
	if len(ports) != 3 || ports[0][1] == ports[1][1] || ports[1][1] == ports[2][1] {
		t.Errorf("docker ps shows the ports %q", shown)
	}
	for _, p := range ports {
		contains(t, "docker port", s.mustDocker("port", "web", p[2]+"/tcp"), "0.0.0.0:"+p[1])
	}
	eventually(t, "healthy", func() bool {
		return strings.Contains(s.mustDocker("ps", "--filter", "health=healthy"), "(healthy)")
	})
	s.mustDocker("pause", "web")
	contains(t, "docker ps", s.mustDocker("ps", "-f", "status=paused"), "(Paused)")
	s.mustDocker("unpause", "web")
	s.mustDocker("update", "--memory", "128m", "--memory-swap", "-1", "--restart", "no", "web")
	if got := s.mustDocker("inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}", "web"); got != "134217728 no" {
		t.Errorf("docker update: %q", got)
	}
	contains(t, "docker top", s.mustDocker("top", "web"), "PID", "httpd")
	contains(t, "docker stats", s.mustDocker("stats", "--no-stream", "web"), "web", "128MiB", "MEM USAGE")
	s.mustDocker("rename", "web", "site")
	s.mustDocker("restart", "-t", "0", "site")
	contains(t, "docker ps -a", s.mustDocker("ps", "-a", "--filter", "label=tier=front", "--filter", "ancestor=web", "--no-trunc", "-s"), id, "virtual")
	s.mustDocker("kill", "-s", "KILL", "site")
	if got := s.mustDocker("wait", "site"); got != "137" {
		t.Errorf("docker wait: %q", got)
	}
	s.mustDocker("container", "prune", "-f")
	if got := s.mustDocker("ps", "-aq"); got != "" {
		t.Errorf("docker container prune left %s", got)
	}
}

func fileWords(s *site) {
	t := s.t
	s.mustDocker("create", "--name", "files", "web")
	file := filepath.Join(s.lab.Dir("files"), "note")
	if err := os.WriteFile(file, []byte("in and out\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	s.mustDocker("cp", file, "files:/www/note")
	s.mustDocker("start", "files")
	if got := s.mustDocker("exec", "files", "cat", "/www/note"); got != "in and out" {
		t.Errorf("docker cp in: %q", got)
	}
	s.mustDocker("cp", "files:/www", file+".dir")
	if got, err := os.ReadFile(file + ".dir/note"); string(got) != "in and out\n" {
		t.Errorf("docker cp out: %q %v", got, err)
	}
	contains(t, "docker diff", s.mustDocker("diff", "files"), "C /www", "A /www/note")
	s.mustDocker("export", "-o", file+".tar", "files")
	s.mustDocker("commit", "-m", "a note", "files", "noted:1")
	if got := s.mustDocker("run", "--rm", "noted:1", "cat", "/www/note"); got != "in and out" {
		t.Errorf("docker commit: %q", got)
	}
	s.mustDocker("rm", "-f", "files")
	s.mustDocker("rmi", "noted:1")
}

func volumeWords(s *site) {
	t := s.t
	s.mustDocker("volume", "create", "--label", "kept=yes", "data")
	s.mustDocker("run", "--rm", "-v", "data:/data", "--tmpfs", "/scratch:size=1m", "web", "sh", "-c", "echo kept > /data/file")
	if got := s.mustDocker("run", "--rm", "--mount", "type=volume,source=data,target=/d,readonly", "web", "cat", "/d/file"); got != "kept" {
		t.Errorf("the volume has %q", got)
	}
	contains(t, "docker volume ls", s.mustDocker("volume", "ls", "--filter", "label=kept=yes"), "data", "local")
	if got := s.mustDocker("volume", "inspect", "-f", "{{.Driver}} {{.Scope}}", "data"); got != "local local" {
		t.Errorf("docker volume inspect: %q", got)
	}
	s.mustDocker("run", "-d", "--name", "user", "-v", "data:/data", "-v", "/anonymous", "web")
	if r := s.docker(nil, "volume", "rm", "data"); r.Code == 0 || !strings.Contains(r.Stderr, "volume is in use") {
		t.Errorf("docker volume rm of one in use: %+v", r)
	}
	if got := strings.Fields(s.mustDocker("volume", "ls", "-q")); len(got) != 2 {
		t.Errorf("volumes: %q", got)
	}
	s.mustDocker("rm", "-f", "-v", "user")
	if got := s.mustDocker("volume", "ls", "-q"); got != "data" {
		t.Errorf("after rm -v the volumes are %q", got)
	}
	s.mustDocker("volume", "rm", "data")
}

func imageWords(s *site) {
	t := s.t
	s.mustDocker("tag", "web", "site:1.0")
	contains(t, "docker history", s.mustDocker("history", "site:1.0"), "IMAGE", "CREATED BY")
	archive := filepath.Join(s.lab.Dir("saved"), "site.tar")
	s.mustDocker("save", "-o", archive, "site:1.0")
	s.mustDocker("rmi", "site:1.0")
	contains(t, "docker load", s.mustDocker("load", "-i", archive), "Loaded image: site:1.0")
	if got := s.mustDocker("images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "reference=site"); got != "site:1.0" {
		t.Errorf("docker images: %q", got)
	}
	s.mustDocker("rmi", "site:1.0")
	contains(t, "docker image prune", s.mustDocker("image", "prune", "-f"), "Total reclaimed space")
}

func systemWords(s *site) {
	t := s.t
	s.mustDocker("network", "create", "--label", "seen=yes", "lan")
	s.mustDocker("run", "-d", "--name", "heard", "web")
	s.mustDocker("network", "connect", "--alias", "ear", "lan", "heard")
	s.mustDocker("network", "disconnect", "lan", "heard")
	contains(t, "docker network prune", s.mustDocker("network", "prune", "-f", "--filter", "label=seen=yes"), "lan")
	contains(t, "docker system df", s.mustDocker("system", "df"), "Images", "Containers", "Local Volumes", "Build Cache")
	contains(t, "docker system df -v", s.mustDocker("system", "df", "-v"), "heard")
	s.mustDocker("rm", "-f", "heard")
	now := strings.TrimSpace(s.host.Run("date", "+%s.%N"))
	var actions []string
	for line := range strings.Lines(s.mustDocker("events", "--since", "0", "--until", now, "--filter", "container=heard", "--format", "{{json .}}")) {
		var event struct{ Type, Action string }
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatal(err)
		}
		actions = append(actions, event.Action)
	}
	contains(t, "docker events", strings.Join(actions, " "), "create", "start", "kill", "die", "destroy")
	contains(t, "docker info", s.mustDocker("info"), "Storage Driver: overlayfs", "Logging Driver: json-file", "Runtimes:", "runc")
	contains(t, "docker system prune", s.mustDocker("system", "prune", "-f"), "Total reclaimed space")
}

func refusedWords(s *site) {
	if err := os.WriteFile(filepath.Join(s.lab.Dir("context"), "Dockerfile"), []byte("FROM web\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	for words, want := range map[string]string{
		"build " + s.lab.Dir("context"):          "build",
		"search alpine":                          "search",
		"swarm init":                             "swarm",
		"node ls":                                "swarm",
		"plugin install x":                       "plugin",
		"run --rm --gpus all web true":           "GPU",
		"run --rm --log-driver fluentd web true": "fluentd",
	} {
		if r := s.docker(nil, strings.Fields(words)...); r.Code == 0 || !strings.Contains(strings.ToLower(r.Stderr), strings.ToLower(want)) {
			s.t.Errorf("docker %s: %+v", words, r)
		}
	}
	if got := s.mustDocker("plugin", "ls", "-q"); got != "" {
		s.t.Errorf("docker plugin ls: %q", got)
	}
}
