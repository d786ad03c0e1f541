package e2e

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// compose runs Debian's docker-compose on the project in testdata/compose.
func (s *site) compose(args ...string) lab.Result {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := s.host.Command(ctx, "docker-compose", append([]string{"--no-ansi", "-p", "shop"}, args...)...)
	cmd.Dir = "testdata/compose"
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+s.Socket, "DOCKER_CONFIG="+s.lab.Dir("docker"), "COMPOSE_HTTP_TIMEOUT=50")
	return finish(cmd, nil)
}

func (s *site) mustCompose(args ...string) string {
	s.t.Helper()
	r := s.compose(args...)
	if r.Code != 0 {
		s.t.Fatalf("docker-compose %s: exit code %d\n%s%s\n%s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr, s.LogTail(30))
	}
	return r.Stdout
}

// TestCompose takes a project of three services up with docker-compose, looks at it
// in every way there is, scales it, and takes it down. Each of its subcommands is typed
// once, where it can be: it is a program in Python, and each costs more than a container.
func TestCompose(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.mustCompose("up", "-d")

	page := func(from *lab.Host, url string) string {
		t.Helper()
		return strings.TrimSpace(from.Try("curl", "-s", "-m", "5", url).Stdout)
	}
	if got := page(s.outside, "http://"+host4+":8088/"); got != "front page" {
		t.Errorf("from outside: %q", got)
	}
	contains(t, "ps", s.mustCompose("ps"), "shop_front_1", "shop_app_1", "shop_store_1", "Up", "Up (healthy)", "0.0.0.0:8088->8000/tcp")
	loopback := strings.TrimSpace(s.mustCompose("port", "front", "8000"))
	if !strings.Contains(loopback, ":") {
		t.Errorf("port: %q", loopback)
	}
	if got := s.Must("exec", "shop_front_1", "wget", "-qO-", "http://backend:9000/"); got != "kept" {
		t.Errorf("the front finds %q behind", got)
	}
	if out, _, code := s.CLI("exec", "shop_front_1", "nslookup", "store"); code == 0 {
		t.Errorf("the front resolves the store, which is on another network: %s", out)
	}
	if r := s.compose("exec", "-T", "app", "sh", "-c", "echo said; exit 7"); r.Code != 7 || r.Stdout != "said\n" {
		t.Errorf("exec: %+v, want the exit code 7", r)
	}
	if got := s.Must("exec", "shop_app_1", "cat", "/proc/1/comm"); !strings.Contains(got, "init") && !strings.Contains(got, "tini") {
		t.Errorf("the first process of app is %q", got)
	}

	s.mustCompose("up", "-d", "--scale", "app=3", "--no-recreate")
	if got := strings.Fields(s.mustCompose("ps", "-q", "app")); len(got) != 3 {
		t.Errorf("scaled to 3 there are %d", len(got))
	}
	if got := s.Must("exec", "shop_front_1", "nslookup", "backend"); strings.Count(got, "Address") < 4 {
		t.Errorf("the alias of three names:\n%s", got)
	}

	s.mustCompose("restart", "-t", "1", "store")
	eventually(t, "the store is healthy again", func() bool { return s.inspect("shop_store_1").State.Health.Status == "healthy" })
	contains(t, "exec", s.Must("exec", "shop_store_1", "sh", "-c", "cat /data/file; echo said > /proc/1/fd/1"), "kept")
	eventually(t, "the log", func() bool { return strings.Contains(s.Must("logs", "shop_store_1"), "said") })
	contains(t, "logs", s.mustCompose("logs", "store"), "said")

	// In the foreground it follows events until the job's end.
	if r := s.compose("-f", "job.yml", "up", "--exit-code-from", "job"); r.Code != 3 || !strings.Contains(r.Stdout, "the job is done") || strings.Contains(r.Stderr, "Traceback") {
		t.Errorf("up in the foreground: %+v", r)
	}

	s.mustCompose("stop", "-t", "1")
	s.mustCompose("start")
	s.mustCompose("down", "-t", "1", "--remove-orphans") // the job is one
	if got := s.mustDocker("volume", "ls", "-q"); got != "shop_data" {
		t.Errorf("volumes after down: %q", got)
	}
	s.mustCompose("down", "-v") // the rest
	for _, list := range [][]string{{"ps", "-aq"}, {"network", "ls", "-q", "--filter", "type=custom"}, {"volume", "ls", "-q"}} {
		if got := s.mustDocker(list...); got != "" {
			t.Errorf("%v: left %s", list, got)
		}
	}
	s.consistent()
}
