package e2e

import (
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// Docker's own clients, unmodified: a recent one, which is what `docker` must be, and
// Debian 12's, by its whole path.
const (
	dockerClient       = "docker"
	debianDockerClient = "/usr/bin/docker"
)

// forDockerClients runs the test with each of Docker's clients, as s.client.
func forDockerClients(t *testing.T, test func(t *testing.T, client string)) {
	t.Helper()
	for _, c := range []struct {
		name, program string
		oldest        int
	}{{"docker", dockerClient, 28}, {"debian", debianDockerClient, 20}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out, err := exec.Command(c.program, "--version").Output()
			var version int
			if _, scanErr := fmt.Sscanf(string(out), "Docker version %d.", &version); err != nil || scanErr != nil || version < c.oldest {
				t.Fatalf("%s must be Docker's client of version %d or later: %q %v", c.program, c.oldest, out, err)
			}
			test(t, c.program)
		})
	}
}

// docker runs Docker's command line against the daemon.
func (s *site) docker(in []byte, args ...string) lab.Result {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	return finish(s.dockerCommand(ctx, args...), in)
}

// dockerCommand is Docker's command line, led to the daemon.
func (s *site) dockerCommand(ctx context.Context, args ...string) *exec.Cmd {
	args = append([]string{"--config", s.lab.Dir("docker"), "-H", "unix://" + s.Socket}, args...)
	return s.host.Command(ctx, cmp.Or(s.client, dockerClient), args...)
}

// must fails the test unless Docker's command line succeeds.
func (s *site) mustDocker(args ...string) string {
	s.t.Helper()
	r := s.docker(nil, args...)
	if r.Code != 0 {
		s.t.Fatalf("docker %s: exit code %d\n%s%s\n%s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr, s.LogTail(20))
	}
	return strings.TrimSuffix(r.Stdout, "\n")
}

// TestDockerClient: Docker's own clients do the main job.
func TestDockerClient(t *testing.T) { forDockerClients(t, mainJob) }

func mainJob(t *testing.T, client string) {
	s := newSite(t)
	s.client = client
	if r := s.docker(rootfs(), "import", "--change", `CMD ["httpd","-f","-h","/www"]`, "--change", "EXPOSE 80", "-", "web"); r.Code != 0 {
		t.Fatalf("docker import: exit code %d, %s", r.Code, r.Stderr)
	}
	contains(t, "docker images", s.mustDocker("images"), "web", "demo", "latest")
	contains(t, "docker version", s.mustDocker("version"), "Server:", "API version")
	contains(t, "docker info", s.mustDocker("info"), "Containers: 0", "Images: 2")
	id := s.mustDocker("run", "-d", "--name", "hello", "-p", "8080:80", "web")
	contains(t, "docker ps", s.mustDocker("ps"), id[:12], "hello", "Up ", "0.0.0.0:8080->80/tcp")
	eventually(t, "outside gets the page", func() bool {
		return s.outside.Try("busybox", "wget", "-q", "-O-", "http://"+host4+":8080/").Stdout == page
	})
	if got := s.mustDocker("port", "hello", "80/tcp"); !strings.HasPrefix(got, "0.0.0.0:8080") {
		t.Errorf("docker port: %s", got)
	}
	if got := s.mustDocker("inspect", "-f", "{{.NetworkSettings.IPAddress}} {{.NetworkSettings.Networks.bridge.IPAddress}} {{.State.Status}}", "hello"); got != "172.17.0.2 172.17.0.2 running" {
		t.Errorf("docker inspect: %s", got)
	}
	if got := s.mustDocker("exec", "hello", "wget", "-q", "-O-", "http://127.0.0.1/"); got+"\n" != page {
		t.Errorf("docker exec: %q", got)
	}
	if r := s.docker([]byte("typed\n"), "exec", "-i", "hello", "cat"); r.Stdout != "typed\n" {
		t.Errorf("docker exec -i: %q %s", r.Stdout, r.Stderr)
	}
	for args, want := range map[string]int{
		"run --rm web sh -c 'exit 7'": 7, "run --rm web nosuch": 127, "run --rm web /etc/noexec": 126, "run --rm --pull=never nosuch": 125,
		"exec hello sh -c 'exit 6'": 6, "exec hello nosuch": 127,
	} {
		if r := s.docker(nil, words(args)...); r.Code != want {
			t.Errorf("docker %s: exit code %d, want %d\n%s%s", args, r.Code, want, r.Stdout, r.Stderr)
		}
	}
	if r := s.docker(nil, "inspect", "nosuch"); r.Code == 0 || !strings.Contains(strings.ToLower(r.Stderr), "no such object: nosuch") {
		t.Errorf("docker inspect of what is not there: %+v", r)
	}
	if r := s.docker(nil, "create", "--pull=never", "--platform", "linux/s390x", "web"); r.Code == 0 || !strings.Contains(r.Stderr, "does not match the specified platform: wanted linux/s390x") {
		t.Errorf("docker create for another platform: %+v", r)
	}
	r := s.docker([]byte("to and fro\n"), "run", "--rm", "-i", "web", "sh", "-c", "cat; echo err >&2")
	if r.Stdout != "to and fro\n" || r.Stderr != "err\n" || r.Code != 0 {
		t.Errorf("docker run -i: %+v", r)
	}
	s.mustDocker("run", "-d", "--name", "talk", "web", "sh", "-c", "echo one; sleep 1; echo two")
	if got := s.mustDocker("logs", "-f", "talk"); got != "one\ntwo" {
		t.Errorf("docker logs -f: %q", got)
	}
	if got := s.mustDocker("wait", "talk"); got != "0" {
		t.Errorf("docker wait: %q", got)
	}
	s.mustDocker("network", "create", "--subnet", "10.30.0.0/24", "mine")
	contains(t, "docker network ls", s.mustDocker("network", "ls"), "bridge", "host", "none", "mine")
	s.mustDocker("run", "-d", "--name", "there", "--network", "mine", "--ip", "10.30.0.7", "web")
	if got := s.mustDocker("network", "inspect", "-f", `{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}`, "mine"); got != "there 10.30.0.7/24" {
		t.Errorf("docker network inspect: %s", got)
	}
	contains(t, "docker run", s.docker(nil, "run", "--rm", "-p", "8080:80", "web").Stderr, "port is already allocated")
	s.mustDocker("stop", "-t", "0", "there")
	s.mustDocker("start", "there")
	s.mustDocker("kill", "there")
	s.mustDocker("rm", "-f", "hello", "talk", "there")
	s.mustDocker("network", "rm", "mine")
	s.mustDocker("rmi", "web")
	if got := s.mustDocker("ps", "-aq"); got != "" {
		t.Errorf("docker ps -aq: %s", got)
	}
	s.consistent()
}
