package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// poll asks a server over and over, in a new connection each time, as fast as it
// answers, and counts.
type poll struct {
	lab.Probe
	quit chan struct{}
	done chan struct{}

	mu     sync.Mutex
	count  int
	failed []string
}

// startPoll begins to ask. The server is one of the lab's.
func startPoll(t *testing.T, from *lab.Host, proto, addr string) *poll {
	t.Helper()
	lab.Reachable(t, from, proto, addr)
	p := &poll{Probe: lab.Probe{From: from, Proto: proto, Addr: addr}, quit: make(chan struct{}), done: make(chan struct{})}
	go p.run()
	t.Cleanup(p.stop)
	return p
}

func (p *poll) run() {
	defer close(p.done)
	for {
		select {
		case <-p.quit:
			return
		case <-time.After(5 * time.Millisecond):
		}
		began := time.Now()
		_, err := p.From.Ask(p.Proto, p.Addr, 3*time.Second)
		p.mu.Lock()
		p.count++
		if err != nil {
			p.failed = append(p.failed, fmt.Sprintf("%s after %s: %v", began.Format("05.000"), time.Since(began), err))
		}
		p.mu.Unlock()
	}
}

func (p *poll) stop() {
	select {
	case <-p.done:
		return
	default:
	}
	close(p.quit)
	<-p.done
}

// whole fails the test unless every one of a good number of questions was answered.
func (p *poll) whole(t *testing.T) {
	t.Helper()
	p.stop()
	if len(p.failed) > 0 || p.count < 10 {
		t.Errorf("%s: %d of %d failed: %s", p.Probe, len(p.failed), p.count, strings.Join(p.failed[:min(3, len(p.failed))], "; "))
	}
}

// counting is a shell program that prints numbered lines, about 200 a second, until its
// container has a file of that name, and then exits with that code. With no name it does
// not end.
func counting(until string, code int) string {
	return fmt.Sprintf("i=0; while [ ! -e '/%s' ] || [ -z '%[1]s' ]; do echo line $i; i=$((i+1)); usleep 4000; done; exit %d", until, code)
}

// counted ends what counts in a container, when it has gone on by a hundred lines from
// now, and returns how many lines its client has printed; it is to exit with the code.
func (c *command) counted(s *site, container, until string, code int) int {
	c.t.Helper()
	more := c.lines() + 100
	eventuallyWithin(c.t, 30*time.Second, c.name+": goes on", func() bool { return c.lines() >= more })
	s.CLI("exec", container, "touch", "/"+until) // which ends with the container
	return numbered(c.t, c.name, c.ends(code))
}

// numbered returns how many lines of counting there are, and fails the test if one
// is missing, doubled or out of place.
func numbered(t *testing.T, what, text string) int {
	t.Helper()
	n := 0
	for line := range strings.Lines(text) {
		if want := fmt.Sprintf("line %d\n", n); line != want {
			t.Errorf("%s: line %d is %q", what, n, line)
			return n
		}
		n++
	}
	return n
}

// untilTold runs until it gets SIGTERM and then exits with that code.
func untilTold(code int) string {
	return fmt.Sprintf("trap 'exit %d' TERM; echo ready; while :; do usleep 20000; done", code)
}

// tell sends SIGTERM to the first process of a container, past the daemon.
func (s *site) tell(pid int) {
	s.t.Helper()
	if err := lab.Signal(pid, syscall.SIGTERM); err != nil {
		s.t.Error(err)
	}
}

// command is a command line that runs beside the test.
type command struct {
	*exec.Cmd
	t      *testing.T
	name   string
	output said
	done   chan struct{}
}

// begin starts the command line and returns when it has printed something.
func (s *site) begin(args ...string) *command {
	s.t.Helper()
	c := &command{Cmd: s.Command(context.Background(), args...), t: s.t, name: strings.Join(args, " "), done: make(chan struct{})}
	c.output.first = make(chan struct{})
	c.Stdout = &c.output
	var stderr bytes.Buffer
	c.Stderr = &stderr
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		_ = c.Wait()
		close(c.done)
	}()
	s.t.Cleanup(func() {
		_ = c.Process.Kill()
		<-c.done
		if s.t.Failed() {
			s.t.Logf("%s: %s", c.name, stderr.String())
		}
	})
	select {
	case <-c.output.first:
	case <-c.done:
		s.t.Errorf("%s: ended before it said anything: %s", c.name, stderr.String())
	case <-time.After(20 * time.Second):
		s.t.Errorf("%s: says nothing", c.name)
	}
	return c
}

// said is what a command has printed so far; first says when there is anything.
type said struct {
	mu    sync.Mutex
	text  bytes.Buffer
	first chan struct{}
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.text.Len() == 0 && len(b) > 0 {
		close(s.first)
	}
	return s.text.Write(b)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// lines is how many lines the command has printed.
func (c *command) lines() int { return strings.Count(c.output.String(), "\n") }

// ends waits for the command, fails the test unless it exits with the code, and
// returns what it printed.
func (c *command) ends(code int) string {
	c.t.Helper()
	select {
	case <-c.done:
	case <-time.After(45 * time.Second):
		c.t.Errorf("%s: does not end", c.name)
		_ = c.Process.Kill()
		<-c.done
	}
	if got := c.ProcessState.ExitCode(); got != code {
		c.t.Errorf("%s: exit status %d, want %d", c.name, got, code)
	}
	return c.output.String()
}

// waysTo are the ways by TCP that lead to a published port.
func (s *site) waysTo(port string) (ways []lab.Probe) {
	for _, addr := range []string{host4, host6} {
		ways = append(ways, from(s.outside, "tcp", at(addr, port)))
	}
	for _, addr := range []string{host4, host6, "127.0.0.1", "::1"} {
		ways = append(ways, from(s.host, "tcp", at(addr, port)))
	}
	return ways
}

// pollEveryWay starts polls of a published port by all of waysTo.
func (s *site) pollEveryWay(port string) (polls []*poll) {
	s.t.Helper()
	for _, w := range s.waysTo(port) {
		polls = append(polls, startPoll(s.t, w.From, w.Proto, w.Addr))
	}
	return polls
}

// TestDaemonAway: while the daemon is away, by SIGKILL or by SIGTERM, ports answer
// by every way, logs and attached clients go on; what ends meanwhile is dealt with
// late, with its exit code. In short each way is asked in one of the two; make faults has
// all in both.
func TestDaemonAway(t *testing.T) {
	t.Parallel()
	for n, c := range []struct {
		name string
		away func(*site)
	}{
		{"SIGKILL", func(s *site) { s.Kill() }},
		{"SIGTERM", func(s *site) { s.Stop() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			web := s.idle("--name", "web", "-p", "7000:7000", "-p", "7000:7000/udp")
			web.serve("tcp", "0.0.0.0:7000")
			web.serve("udp", "0.0.0.0:7000")
			s.Must("run", "-d", "--name", "log", "demo", "sh", "-c", counting("", 0))
			s.Must("run", "-d", "--name", "ended", "-p", "7001:80", "demo", "sh", "-c", untilTold(3))
			s.Must("run", "-d", "--name", "removed", "--rm", "-p", "7002:80", "demo", "sh", "-c", untilTold(4))
			fore := s.begin("run", "--name", "fore", "demo", "sh", "-c", counting("enough", 7))
			foreRemoved := s.begin("run", "--name", "foreremoved", "--rm", "demo", "sh", "-c", counting("enough", 8))
			exe := s.begin("exec", "web", "sh", "-c", counting("enough", 9))
			endsAway := s.begin("run", "--name", "endsaway", "demo", "sh", "-c", untilTold(10))
			removedAway := s.begin("run", "--name", "removedaway", "--rm", "demo", "sh", "-c", untilTold(11))
			pids := map[string]int{}
			for _, c := range []string{"web", "log", "ended", "removed", "endsaway", "removedaway"} {
				pids[c] = s.inspect(c).State.Pid
			}
			var polls []*poll
			for i, w := range append(s.waysTo("7000"), from(s.outside, "udp", at(host4, "7000")), from(s.host, "udp", at("127.0.0.1", "7000"))) {
				if chosen(n, i) {
					polls = append(polls, startPoll(t, w.From, w.Proto, w.Addr))
				}
			}

			c.away(s)
			for _, c := range []string{"ended", "removed", "endsaway", "removedaway"} {
				s.tell(pids[c])
			}
			time.Sleep(700 * time.Millisecond)
			if !inContainer(pids["web"], web.id) {
				t.Errorf("the container's first process, %d, has gone", pids["web"])
			}
			s.Start()

			if st := s.inspect("ended").State; st.Status != "exited" || st.ExitCode != 3 {
				t.Errorf("the container that ended meanwhile: %+v", st)
			}
			eventually(t, "the container with --rm is removed", func() bool { return !strings.Contains(s.Must("ps", "-a"), "removed ") })
			lines := fore.counted(s, "fore", "enough", 7)
			foreRemoved.counted(s, "foreremoved", "enough", 8)
			exe.counted(s, "web", "enough", 9)
			endsAway.ends(10)
			removedAway.ends(11)
			for _, p := range polls {
				p.whole(t)
			}
			if n := numbered(t, "log", s.Must("logs", "log")+"\n"); n < 100 {
				t.Errorf("the log has %d lines", n)
			}
			if n := numbered(t, "log of the attached one", s.Must("logs", "fore")+"\n"); n != lines {
				t.Errorf("the attached container's log has %d lines, and its client printed %d", n, lines)
			}
			if now := s.inspect("web").State; now.Pid != pids["web"] || !now.Running {
				t.Errorf("web: %+v, was process %d", now, pids["web"])
			}
			s.consistent()
			s.Must("run", "--rm", "-p", "7001:80", "-p", "7002:80", "demo", "true")
			s.Must("rm", "ended")
			s.consistent()
		})
	}
}

// inContainer says whether a process is in the container's control group: whether
// the container's first process lives, past the daemon.
func inContainer(pid int, id string) bool {
	groups, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cgroup"))
	return strings.Contains(string(groups), id)
}

// numbers reads a file of numbers, one that is not there as none.
func numbers(path string) (out []int) {
	text, _ := os.ReadFile(path)
	for field := range strings.FieldsSeq(string(text)) {
		if n, err := strconv.Atoi(field); err == nil {
			out = append(out, n)
		}
	}
	return out
}
