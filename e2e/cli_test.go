package e2e

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestCommandLineFiles: volumes, copies, archives and images are made, seen and
// removed by the program's own words.
func TestCommandLineFiles(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dir := s.lab.Dir("files")

	if got := s.Must("volume", "create", "--label", "a=b", "data"); got != "data" {
		t.Errorf("volume create: %q", got)
	}
	s.Must("run", "--rm", "-v", "data:/d", "demo", "sh", "-c", "echo kept > /d/file")
	if got := s.Must("run", "--rm", "--mount", "source=data,target=/e,readonly", "demo", "cat", "/e/file"); got != "kept" {
		t.Errorf("the volume has %q", got)
	}
	mountpoint := s.Must("volume", "inspect", "-f", "{{.Mountpoint}}", "data")
	if text, err := os.ReadFile(filepath.Join(mountpoint, "file")); err != nil || string(text) != "kept\n" {
		t.Errorf("its file on the host: %q, %v", text, err)
	}
	s.Must("run", "-d", "--name", "web", "-v", "data:/d", "-v", "/anonymous", "demo", "sleep", "3600")
	contains(t, "ps", s.Must("ps", "--format", "{{.Mounts}} {{.LocalVolumes}}"), "data", " 2")
	if _, stderr, code := s.CLI("volume", "rm", "data"); code != 1 || !strings.Contains(stderr, "volume is in use") {
		t.Errorf("rm of a volume in use: %d, %s", code, stderr)
	}

	s.copies(dir)
	s.images(dir)

	s.Must("rm", "-fv", "web")
	contains(t, "volume ls", s.Must("volume", "ls", "-q"), "data")
	contains(t, "volume prune", s.Must("volume", "prune", "-af"), "Deleted Volumes:\ndata", "Total reclaimed space:")
	if got := s.Must("volume", "ls", "-q"); got != "" {
		t.Errorf("volumes are left: %s", got)
	}
}

// copies copies files into web and out of it, running and not.
func (s *site) copies(dir string) {
	t := s.t
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "tree", "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tree", "sub", "note"), []byte("hello"), 0o640); err != nil {
		t.Fatal(err)
	}
	s.Must("cp", filepath.Join(dir, "tree"), "web:/srv")
	if got := s.Must("exec", "web", "cat", "/srv/sub/note"); got != "hello" {
		t.Errorf("inside: %q", got)
	}
	s.Must("cp", filepath.Join(dir, "tree")+"/.", "web:/d")
	if got := s.Must("exec", "web", "stat", "-c", "%a", "/d/sub/note"); got != "640" {
		t.Errorf("the mode in a volume: %q", got)
	}
	s.Must("exec", "web", "sh", "-c", "echo out > /made; ln -s /made /link")
	s.Must("stop", "-t", "0", "web")
	s.Must("cp", "-L", "web:/link", filepath.Join(dir, "followed"))
	if text, err := os.ReadFile(filepath.Join(dir, "followed")); err != nil || string(text) != "out\n" {
		t.Errorf("copied out: %q, %v", text, err)
	}
	if _, stderr, code := s.CLI("cp", "web:/absent", dir); code != 1 || !strings.Contains(stderr, "Could not find the file /absent in container web") {
		t.Errorf("cp of what is not there: %d, %s", code, stderr)
	}
	r := s.input(nil, "cp", "web:/srv", "-")
	if names := tarNames(t, []byte(r.Stdout)); !strings.Contains(names, "srv/sub/note") {
		t.Errorf("cp to - has %s", names)
	}
	s.Must("start", "web")
}

// images makes images of web, and moves them by archive and by registry.
func (s *site) images(dir string) {
	t := s.t
	t.Helper()
	contains(t, "diff", s.Must("diff", "web"), "A /made", "A /srv/sub/note")
	if names := tarNames(t, []byte(s.input(nil, "export", "web").Stdout)); !strings.Contains(names, "made") {
		t.Error("export lacks /made")
	}
	id := s.Must("commit", "-m", "a note", "-c", `CMD ["cat","/made"]`, "web", "made:1")
	if got := s.Must("run", "--rm", "made:1"); got != "out" {
		t.Errorf("the committed image says %q", got)
	}
	contains(t, "history", s.Must("history", "made:1"), "a note", "CREATED BY", strings.TrimPrefix(id, "sha256:")[:12])
	archive := filepath.Join(dir, "made.tar")
	s.Must("save", "-o", archive, "made:1")
	s.Must("rmi", "made:1")
	contains(t, "load", s.Must("load", "-q", "-i", archive), "Loaded image: made:1")

	registry := s.host.Registry(lab.RegistryOptions{User: "me", Password: "secret"})
	config := "--config=" + filepath.Join(dir, "config")
	name := registry.Image("made:1")
	s.Must("tag", "made:1", name)
	if _, _, code := s.CLI(config, "push", name); code == 0 {
		t.Error("pushed without credentials")
	}
	if r := s.input([]byte("wrong"), config, "login", "-u", "me", "--password-stdin", registry.Host); r.Code == 0 {
		t.Error("logged in with a wrong password")
	}
	if r := s.input([]byte("secret\n"), config, "login", "-u", "me", "--password-stdin", registry.Host); r.Code != 0 || !strings.Contains(r.Stdout, "Login Succeeded") {
		t.Fatalf("login: %d, %s%s", r.Code, r.Stdout, r.Stderr)
	}
	contains(t, "push", s.Must(config, "push", name), "The push refers to repository", "digest: sha256:")
	s.Must("rmi", "-f", "made:1", name)
	stdout, stderr, code := s.CLI(config, "run", "--rm", name)
	if code != 0 || stdout != "out\n" || !strings.Contains(stderr, "Unable to find image '"+name+"' locally") || !strings.Contains(stderr, "Status: Downloaded newer image") {
		t.Errorf("run of an image that is not here: %d, %q\n%s", code, stdout, stderr)
	}
	contains(t, "pull", s.Must(config, "pull", name), "Status: Image is up to date", name)
	s.Must(config, "logout", registry.Host)
	s.Must("rmi", "-f", name)
	if _, stderr, code := s.CLI(config, "run", "--rm", name); code != 125 {
		t.Errorf("pulled after logout: %d, %s", code, stderr)
	}
}

func tarNames(t *testing.T, archive []byte) string {
	t.Helper()
	var names []string
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		head, err := r.Next()
		if err == io.EOF {
			return strings.Join(names, " ")
		}
		if err != nil {
			t.Fatalf("read a tar archive: %v", err)
		}
		names = append(names, head.Name)
	}
}

// TestCommandLineLife: what changes a container, and what watches it, by the program's
// own words.
func TestCommandLineLife(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Must("run", "-d", "--name", "web", "--restart", "unless-stopped", "--health-cmd", "test ! -e /ill", "--health-interval", "200ms",
		"--health-retries", "1", "--log-opt", "max-size=1m", "-m", "64m", "demo", "sleep", "3600")
	eventually(t, "web is healthy", func() bool { return strings.Contains(s.Must("ps"), "(healthy)") })
	s.Must("exec", "web", "touch", "/ill")
	eventually(t, "web is unhealthy", func() bool { return s.Must("ps", "-q", "--filter", "health=unhealthy") != "" })

	s.Must("pause", "web")
	contains(t, "ps", s.Must("ps", "--filter", "status=paused"), "(Paused)", "web")
	s.Must("unpause", "web")
	s.Must("update", "-m", "96m", "--memory-swap", "-1", "--restart", "no", "web")
	if got := s.Must("inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}", "web"); got != "100663296 no" {
		t.Errorf("after update: %s", got)
	}
	contains(t, "top", s.Must("top", "web"), "PID", "sleep 3600")
	contains(t, "top -o", s.Must("top", "web", "-o", "pid,args"), "COMMAND", "sleep 3600")
	contains(t, "stats", s.Must("stats", "--no-stream"), "MEM USAGE / LIMIT", "/ 96MiB", "web")
	contains(t, "stats web", s.Must("stats", "--no-stream", "--format", "{{.Name}} {{.MemPerc}} {{.PIDs}}", "web"), "web ", "%")
	contains(t, "system df", s.Must("system", "df"), "Images", "Containers", "Local Volumes", "Build Cache")
	contains(t, "system df -v", s.Must("system", "df", "-v"), "Containers space usage:", "web", "demo")

	s.Must("stop", "-t", "0", "web")
	told := s.Must("events", "--since", "1h", "--until", "0s", "-f", "container=web", "--format", "{{.Action}}")
	order := []string{"create", "start", "health_status: healthy", "health_status: unhealthy", "pause", "unpause", "update", "kill", "die", "stop"}
	rest := told
	for _, action := range order {
		_, after, found := strings.Cut("\n"+rest+"\n", "\n"+action+"\n")
		if !found {
			t.Errorf("events lack %q, or have it too early:\n%s", action, told)
			break
		}
		rest = after
	}
	contains(t, "container prune", s.Must("container", "prune", "-f"), "Deleted Containers:", "Total reclaimed space:")
	contains(t, "system prune", s.Must("system", "prune", "-f"), "Total reclaimed space: 0B")
	if _, stderr, code := s.CLI("run", "--restart", "on-failure:1", "demo", "sh", "-c", "echo tried; exit 3"); code != 3 {
		t.Errorf("run of what fails, and is started again: %d, %s", code, stderr)
	}
	if _, stderr, code := s.CLI("build", "."); code != 1 || !strings.Contains(stderr, "build with another tool") {
		t.Errorf("build: %d, %s", code, stderr)
	}
}
