package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestStreamsProcessHangs: while the process that reads containers' output is stopped, what
// needs it fails with its number and the way out, once it has been waited for; the rest goes
// on, a container's end among it. All of it works again when the process does.
func TestStreamsProcessHangs(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Must("run", "-d", "--name", "before", "--init", "demo", "sleep", "1000")
	pids := s.streams()
	if len(pids) != 1 {
		t.Fatalf("streams processes: %v", pids)
	}
	if err := lab.Signal(pids[0], syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	names := []string{"\"fairlead streams\" has not answered in ", "kill -CONT " + itoa(pids[0]), "kill -9 " + itoa(pids[0])}
	began := time.Now()
	_, said, code := s.CLI("run", "-d", "--name", "hung", "demo", "sleep", "1000")
	if code == 0 || strings.Count(said, "\n") > 1 {
		t.Errorf("run: exit status %d: %s", code, said)
	}
	contains(t, "run", said, names...)
	out, _, _ := s.CLI("debug", "check")
	contains(t, "debug check", out, names...)
	out, _, _ = s.CLI("doctor")
	contains(t, "doctor", out, append(names, "$ kill -CONT "+itoa(pids[0]))...)
	contains(t, "the log", s.LogTail(200), "a helper does not answer")
	s.Must("rm", "-f", "hung")
	s.Must("stop", "-t", "1", "before")
	if took := time.Since(began); took > time.Minute {
		t.Errorf("all of it took %s", took)
	}
	if err := lab.Signal(pids[0], syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	s.Must("start", "before")
	if got := s.Must("run", "--rm", "demo", "echo", "again"); got != "again" {
		t.Errorf("a run prints %q", got)
	}
	if now := s.streams(); len(now) != 1 || now[0] != pids[0] {
		t.Errorf("streams processes: %v, and before %v", now, pids)
	}
	s.Must("rm", "-f", "before")
	s.consistent()
}
