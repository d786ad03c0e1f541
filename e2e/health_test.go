package e2e

import (
	"strings"
	"syscall"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestDockerHealth: health checks of the command line and of the image, as Docker's
// client shows them, across the daemon's and its helpers' deaths.
func TestDockerHealth(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Containerd: lab.OwnContainerd})
	s.importImage("demo")
	if r := s.docker(rootfs(), "import", "--change", `HEALTHCHECK --interval=100ms CMD test -e /tmp/well`, "--change", `CMD ["sleep","3600"]`, "-", "checked"); r.Code != 0 {
		t.Fatalf("docker import: %s", r.Stderr)
	}
	l := s.events("--filter", "event=health_status", "--format", "{{.Action}} {{.Actor.Attributes.name}}")
	const status = "{{.State.Health.Status}}"
	s.mustDocker("run", "-d", "--name", "image", "--health-interval", "100ms", "--health-retries", "2", "checked")
	s.becomes("image", status, "unhealthy")
	contains(t, "docker ps", s.mustDocker("ps"), "(unhealthy)")
	s.mustDocker("exec", "image", "touch", "/tmp/well")
	s.becomes("image", status, "healthy")
	contains(t, "docker ps", s.mustDocker("ps", "--filter", "health=healthy"), "(healthy)", "image")
	l.hears("health_status: unhealthy image", "health_status: healthy image")

	s.mustDocker("run", "-d", "--name", "none", "--no-healthcheck", "checked")
	if got := s.asked("none", "{{.State.Health}}"); got != "<nil>" {
		t.Errorf("without a check: %s", got)
	}
	s.mustDocker("run", "-d", "--name", "starts", "--health-cmd", "exit 1", "--health-interval", "1h", "--health-start-period", "1h", "--health-start-interval", "50ms", "demo", "sleep", "3600")
	eventually(t, "docker ps says that it starts", func() bool { return strings.Contains(s.mustDocker("ps"), "(health: starting)") })
	eventually(t, "it is checked while it starts", func() bool {
		return s.asked("starts", "{{len .State.Health.Log}} {{.State.Health.FailingStreak}}") == "5 0"
	})

	last := "{{range .State.Health.Log}}{{.End}} {{end}}"
	goesOn := func(what string) {
		t.Helper()
		before := s.asked("image", last)
		eventually(t, what+": it is checked on", func() bool { return s.asked("image", last) != before })
		if got := s.asked("image", status); got != "healthy" {
			t.Errorf("%s: it is %s\n%s", what, got, s.asked("image", "{{json .State.Health}}"))
		}
	}
	s.Kill()
	s.Start()
	if got := s.asked("image", status); got != "healthy" {
		t.Errorf("by the next daemon it is %s", got)
	}
	goesOn("the daemon was killed")
	for what, pids := range map[string][]int{"containerd": s.containerd(), "streams": s.streams()} {
		s.shoot(what, pids)
		goesOn(what + " was killed")
	}
	s.mustDocker("stop", "-t", "0", "image")
	if got := s.asked("image", status); got != "unhealthy" {
		t.Errorf("stopped: %s", got)
	}
	s.consistent()
}

// TestDockerInit: --init reaps and passes signals on.
func TestDockerInit(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.mustDocker("run", "-d", "--name", "web", "--init", "demo", "sleep", "3600")
	contains(t, "docker exec", s.mustDocker("exec", "web", "cat", "/proc/1/cmdline"), "docker-init")
	s.mustDocker("stop", "web") // sleep alone as the first process would not hear of it
	if got := s.mustDocker("wait", "web"); got != "143" {
		t.Errorf("exit code %s", got)
	}
}

// TestCrashLife: the daemon is killed in the middle of what changes a container; amid a
// restart by policy, in short, at the points that a start and an end do not have (elsewhere).
func TestCrashLife(t *testing.T) {
	t.Parallel()
	c := newCrashing(t, nftables)
	c.mustDocker("run", "-d", "--name", "kept", "--restart", "always", "--memory", "64m", "--memory-swap", "64m", "demo", "sleep", "3600")
	c.arm("engine-update-applied")
	if r := c.docker(nil, "update", "--memory", "96m", "--memory-swap", "96m", "kept"); r.Code == 0 {
		t.Error("docker update succeeded")
	}
	c.died("engine-update-applied")
	c.recovered("engine-update-applied")
	c.mustDocker("update", "--memory", "80m", "--memory-swap", "80m", "kept")
	if got := c.asked("kept", "{{.HostConfig.Memory}}"); got != "83886080" {
		t.Errorf("memory: %s", got)
	}
	// Where a restart by policy is cut short, the next daemon makes it.
	for _, point := range killedAt("restart") {
		pid := c.inspect("kept").State.Pid
		c.arm(point)
		if err := lab.Signal(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		c.died(point)
		c.recovered(point)
		c.becomes("kept", "{{.State.Status}}", "running")
	}
}
