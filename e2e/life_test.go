package e2e

import (
	"strings"
	"testing"
)

// told prints an action with what it is about, for docker events.
const told = "{{.Action}}{{range $k, $v := .Actor.Attributes}}{{if ne $k \"image\"}} {{$k}}={{$v}}{{end}}{{end}}"

// asked is what docker inspect says of a container by the template.
func (s *site) asked(ref, template string) string {
	s.t.Helper()
	return s.mustDocker("inspect", "-f", template, ref)
}

// becomes waits until docker inspect says so.
func (s *site) becomes(ref, template, want string) {
	s.t.Helper()
	got := ""
	eventually(s.t, ref+" becomes "+want, func() bool {
		got = s.asked(ref, template)
		return got == want
	})
	if got != want {
		s.t.Fatalf("%s: %s is %s, not %s\n%s", ref, template, got, want, s.LogTail(10))
	}
}

// refusedDocker fails the test unless Docker's client is refused, with those words.
func (s *site) refusedDocker(words string, args ...string) {
	s.t.Helper()
	if r := s.docker(nil, args...); r.Code == 0 || !strings.Contains(r.Stderr, words) {
		s.t.Errorf("docker %s: exit code %d, %s; want %q", strings.Join(args, " "), r.Code, r.Stderr, words)
	}
}

// TestDockerLife: Docker's client pauses, signals, restarts, renames and updates, and
// is told of it in order.
func TestDockerLife(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	l := s.events("--filter", "type=container", "--format", told)
	s.mustDocker("run", "-d", "--name", "web", "--memory", "64m", "--memory-swap", "64m", "demo", "sh", "-c", "trap 'exit 3' TERM; trap : HUP; echo up; while :; do usleep 20000; done")
	eventually(t, "it is up", func() bool { return s.mustDocker("logs", "web") == "up" })
	s.mustDocker("pause", "web")
	contains(t, "docker ps", s.mustDocker("ps"), "(Paused)")
	if got := s.asked("web", "{{.State.Status}} {{.State.Paused}} {{.State.Running}}"); got != "paused true true" {
		t.Errorf("paused: %s", got)
	}
	s.refusedDocker("is paused", "exec", "web", "true")
	s.refusedDocker("already paused", "pause", "web")
	s.refusedDocker("paused container", "rm", "web")
	s.mustDocker("unpause", "web")
	s.mustDocker("kill", "-s", "HUP", "web")
	s.mustDocker("update", "--memory", "96m", "--memory-swap", "96m", "--restart", "on-failure:3", "web")
	if got := s.asked("web", "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}:{{.HostConfig.RestartPolicy.MaximumRetryCount}}"); got != "100663296 on-failure:3" {
		t.Errorf("updated: %s", got)
	}
	s.mustDocker("rename", "web", "site")
	s.mustDocker("restart", "site")
	eventually(t, "it is up again", func() bool { return s.mustDocker("logs", "site") == "up\nup" })
	s.mustDocker("stop", "site")
	if got := s.mustDocker("wait", "site"); got != "3" {
		t.Errorf("docker wait: %s", got)
	}
	s.mustDocker("rm", "site")
	l.hears("create name=web", "start name=web", "pause name=web", "unpause name=web", "kill name=web signal=1", "update name=web",
		"rename name=site oldName=/web",
		"kill name=site signal=15", "die execDuration=", "stop name=site", "start name=site", "restart name=site",
		"kill name=site signal=15", "die execDuration=", "stop name=site", "destroy name=site")

	s.consistent()
}
