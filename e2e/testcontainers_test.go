package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestTestcontainers runs the test suite of a user of Testcontainers for Go, built
// from the module in testcontainers/, on the daemon's host.
func TestTestcontainers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	// One image comes from a registry: the image demo, pushed there and not kept.
	remote := s.host.Registry(lab.RegistryOptions{}).Host + "/demo:remote"
	s.mustDocker("tag", "demo", remote)
	s.mustDocker("push", remote)
	s.mustDocker("rmi", remote)
	suite := filepath.Join(s.lab.Dir("suite"), "suite.test")
	build := exec.Command("go", "test", "-c", "-o", suite, ".")
	build.Dir = "testcontainers"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the suite: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := s.host.Command(ctx, suite, "-test.v")
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+s.Socket, "DOCKER_CONFIG="+s.lab.Dir("docker"), "HOME="+s.lab.Dir("home"),
		"TESTCONTAINERS_RYUK_DISABLED=true", "IMAGE=demo:latest", "REMOTE_IMAGE="+remote)
	if r := finish(cmd, nil); r.Code != 0 {
		t.Errorf("exit code %d\n%s%s\n%s", r.Code, r.Stdout, r.Stderr, s.LogTail(30))
	}
	for _, list := range [][]string{{"ps", "-aq"}, {"network", "ls", "-q", "--filter", "type=custom"}, {"volume", "ls", "-q"}} {
		if got := s.mustDocker(list...); got != "" {
			t.Errorf("%v: left %s", list, got)
		}
	}
	s.consistent()
}
