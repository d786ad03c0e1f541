package e2e

import (
	"strings"
	"syscall"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestDockerRestartPolicies: policies are obeyed by the daemon, by the one after a
// crash, and whichever process is killed.
func TestDockerRestartPolicies(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Containerd: lab.OwnContainerd})
	s.importImage("demo")
	const count = "{{.State.Status}} {{.RestartCount}}"
	s.mustDocker("run", "-d", "--name", "gives-up", "--restart", "on-failure:2", "demo", "sh", "-c", "exit 4")
	s.becomes("gives-up", "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}", "exited 4 2")
	s.mustDocker("run", "-d", "--name", "loops", "--restart", "always", "demo", "sh", "-c", "exit 5")
	eventually(t, "docker ps says that it restarts", func() bool { return strings.Contains(s.mustDocker("ps"), "Restarting (5)") })
	s.mustDocker("run", "-d", "--name", "always", "--stop-timeout", "1", "--restart", "always", "-p", "8080:80", "demo", "httpd", "-f", "-h", "/www")
	s.mustDocker("run", "-d", "--name", "joined", "--stop-timeout", "1", "--restart", "always", "--network", "container:always", "demo", "sleep", "3600")
	s.mustDocker("run", "-d", "--name", "stopped", "--restart", "unless-stopped", "demo", "sleep", "3600")
	s.mustDocker("stop", "-t", "0", "stopped")
	s.mustDocker("run", "-d", "--name", "plain", "--stop-timeout", "1", "demo", "sleep", "3600")

	// What ends is started again, with its port.
	if err := lab.Signal(s.inspect("always").State.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.becomes("always", count, "running 1")
	eventually(t, "its port is back", func() bool { got, err := fetch(s.outside, at(host4, "8080")); return err == nil && got == page })

	// So it is when it ends while nobody is there, and what never stopped goes on.
	before, pid := s.inspect("plain").State.Pid, s.inspect("always").State.Pid
	s.Kill()
	if err := lab.Signal(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.Start()
	s.becomes("always", "{{.State.Status}}", "running")
	if now := s.inspect("plain").State.Pid; now != before {
		t.Errorf("the bystander's process is %d, was %d", now, before)
	}
	if got := s.asked("stopped", "{{.State.Status}}"); got != "exited" {
		t.Errorf("what was stopped is %s", got)
	}
	eventually(t, "its port is back", func() bool { got, err := fetch(s.outside, at(host4, "8080")); return err == nil && got == page })

	// containerd and the helpers come back and go on.
	for what, pids := range map[string][]int{"containerd": s.containerd(), "streams": s.streams(), "relay": s.relays()} {
		pid := s.inspect("always").State.Pid
		s.shoot(what, pids)
		if err := lab.Signal(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, what+" was killed, and it is restarted", func() bool {
			now := s.inspect("always").State
			return now.Running && now.Pid != 0 && now.Pid != pid
		})
	}
	eventually(t, "its port is back", func() bool { got, err := fetch(s.outside, at(host4, "8080")); return err == nil && got == page })

	// A daemon that stops its containers starts them again, those that others lean on
	// first.
	s.SetArgs("--live-restore=false")
	s.Restart() // with it
	s.Restart() // and by it
	for name, want := range map[string]string{"always": "running", "joined": "running", "stopped": "exited", "plain": "exited"} {
		if got := s.asked(name, "{{.State.Status}}"); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	s.mustDocker("stop", "loops")
	if got := s.asked("loops", "{{.State.Status}} {{.State.Restarting}}"); got != "exited false" {
		t.Errorf("stopped: %s", got)
	}
	s.mustDocker("rm", "-f", "always", "joined", "loops")
	s.consistent()
}
