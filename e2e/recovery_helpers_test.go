package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// processes finds the daemon's processes whose command line has all the words. While
// one of another build takes over there may be two of a kind.
func (s *site) processes(words ...string) (pids []int) {
	s.t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		raw, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		line := " " + strings.ReplaceAll(string(raw), "\x00", " ")
		found := true
		for _, w := range append(words, s.ExecRoot) {
			found = found && strings.Contains(line, w)
		}
		if found {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (s *site) relays() []int     { return s.processes(" relay ", "--exec-root") }
func (s *site) streams() []int    { return s.processes(" streams ", "--exec-root") }
func (s *site) containerd() []int { return s.processes("containerd ", "--config") }

// shoot kills a process, and fails the test if there is not just the one.
func (s *site) shoot(what string, pids []int) {
	s.t.Helper()
	if len(pids) != 1 {
		s.t.Fatalf("%s: processes %v", what, pids)
	}
	if err := lab.Signal(pids[0], syscall.SIGKILL); err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

// closed says whether a process that was killed has closed its files: it is gone, or
// waits for its parent (state Z in proc_pid_stat(5)), as do all of its threads: the
// first may be dead before the others, who have the files as well.
func closed(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(text), ") ")
	threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	return err != nil || strings.HasPrefix(after, "Z") && len(threads) < 2
}

// logged waits until the container's log has more than n lines, and returns it.
func (s *site) logged(name string, n int) string {
	s.t.Helper()
	text := ""
	eventually(s.t, "the log of "+name+" goes on", func() bool {
		text = s.Must("logs", name) + "\n"
		return strings.Count(text, "\n") > n
	})
	return text
}

// TestHelpersKilled: whichever of the processes beside the daemon is killed comes
// back and has all that its predecessor had; containers go on.
func TestHelpersKilled(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Containerd: lab.OwnContainerd})
	s.importImage("demo")
	web := s.idle("--name", "web", "-p", "7000:7000", "-p", "7000:7000/udp")
	web.serve("tcp", "0.0.0.0:7000")
	web.serve("udp", "0.0.0.0:7000")
	s.Must("run", "-d", "--name", "log", "demo", "sh", "-c", counting("", 0))
	s.Must("run", "-d", "--name", "ended", "demo", "sh", "-c", untilTold(3))
	listens := listening(s.host)
	// What the kernel does by itself never fails.
	direct := func() []*poll {
		return []*poll{
			startPoll(t, s.outside, "tcp", at(host4, "7000")), startPoll(t, s.outside, "udp", at(host4, "7000")),
			startPoll(t, s.host, "tcp", at(host4, "7000")),
		}
	}
	proxied := func(what string) {
		t.Helper()
		for _, addr := range []string{"127.0.0.1", "::1"} {
			lab.Reachable(t, s.host, "tcp", at(addr, "7000"))
		}
		lab.Reachable(t, s.host, "udp", at("127.0.0.1", "7000"))
		if now := listening(s.host); now != listens {
			t.Errorf("%s: the host's sockets:\n%s", what, changes(listens, now))
		}
		s.consistent()
	}
	proxied("at first")

	polls := direct()
	s.shoot("relay", s.relays())
	began := time.Now()
	for {
		// Short: one that comes between the socket and its opening is not answered
		// before TCP asks again, a second later.
		if _, err := s.host.Ask("tcp", "127.0.0.1:7000", 200*time.Millisecond); err == nil {
			break
		}
		if time.Since(began) > time.Second {
			t.Fatalf("a second after the relay was killed its ports are not proxied\n%s", s.LogTail(20))
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("the relay was back in %s", time.Since(began))
	proxied("the relay was killed")

	attached := s.begin("run", "--name", "attached", "demo", "sh", "-c", counting("enough", 6))
	lines := strings.Count(s.logged("log", 0), "\n")
	s.shoot("streams", s.streams())
	lines = numbered(t, "the log, streams having been killed", s.logged("log", lines+100))
	// Its client hears no more of it than how it ends.
	s.CLI("exec", "attached", "touch", "/enough") // which ends with the container
	attached.ends(6)
	s.Must("run", "--rm", "demo", "true")
	proxied("streams were killed")

	s.shoot("containerd", s.containerd())
	s.tell(s.inspect("ended").State.Pid)
	eventually(t, "containerd is there again", func() bool { _, _, code := s.CLI("run", "--rm", "demo", "true"); return code == 0 })
	if code := s.Must("wait", "ended"); code != "3" {
		t.Errorf("one that ended while there was no containerd: exit code %s", code)
	}
	if out := s.Must("exec", "web", "echo", "here"); out != "here" {
		t.Errorf("exec: %q", out)
	}
	proxied("containerd was killed")

	for what, f := range map[string]func() []int{"relay": s.relays, "streams": s.streams, "containerd": s.containerd} {
		s.shoot(what, f())
	}
	s.Kill()
	time.Sleep(300 * time.Millisecond)
	s.Start()
	for _, p := range polls {
		p.whole(t)
	}
	numbered(t, "the log, all having been killed", s.logged("log", lines+100))
	proxied("all were killed")
	if out := s.Must("exec", "web", "echo", "here"); out != "here" {
		t.Errorf("exec: %q", out)
	}
	s.Must("rm", "-f", "web", "log", "ended", "attached")
	s.consistent()
}

// TestUpgrade: a daemon of another build takes the place of the one before. Its
// helpers take over from theirs without a connection refused or a line lost.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	other := lab.OtherBinary(t)
	web := s.idle("--name", "web", "-p", "7000:7000", "-p", "7000:7000/udp")
	web.serve("tcp", "0.0.0.0:7000")
	web.serve("udp", "0.0.0.0:7000")
	s.Must("run", "-d", "--name", "log", "demo", "sh", "-c", counting("", 0))
	fore := s.begin("run", "--name", "fore", "demo", "sh", "-c", counting("enough", 7))
	polls := append(s.pollEveryWay("7000"), startPoll(t, s.outside, "udp", at(host4, "7000")), startPoll(t, s.host, "udp", at("127.0.0.1", "7000")))
	long, err := s.host.Dial("tcp", "127.0.0.1:7000", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer long.Close()
	seen := map[int]bool{}
	fresh := func(pids []int) (found bool) {
		for _, pid := range pids {
			found = found || !seen[pid]
			seen[pid] = true
		}
		return found
	}
	fresh(s.relays())
	fresh(s.streams())
	for _, binary := range []string{other, lab.Binary(t)} { // there and back
		s.Stop()
		s.Binary = binary
		s.Start()
		time.Sleep(300 * time.Millisecond)
		if r, st := s.relays(), s.streams(); !fresh(r) || !fresh(st) {
			t.Errorf("the processes beside the daemon were not replaced: relays %v, streams %v", r, st)
		}
		for _, name := range []string{"relay", "streams"} {
			if !slices.ContainsFunc(s.past("type=helper", "event=replace"), func(e happening) bool { return e.Actor.ID == name }) {
				t.Errorf("nobody is told that the %s was replaced", name)
			}
		}
		// A container that ends just now is being taken off its network.
		eventually(t, "all is as it should be", func() bool { stdout, _, code := s.CLI("debug", "check"); return code == 0 && stdout == "" })
	}
	if _, err := long.Write([]byte("still\n")); err != nil {
		t.Errorf("a connection by the proxy: %v", err)
	}
	answer := make([]byte, 200)
	_ = long.SetReadDeadline(time.Now().Add(5 * time.Second))
	for got := ""; !strings.HasSuffix(got, "still\n"); {
		n, err := long.Read(answer)
		if got += string(answer[:n]); err != nil {
			t.Errorf("a connection by the proxy: %q, %v", got, err)
			break
		}
	}
	for _, p := range polls {
		p.whole(t)
	}
	printed := fore.counted(s, "fore", "enough", 7)
	numbered(t, "the log", s.Must("logs", "log")+"\n")
	if n := numbered(t, "the log of the attached one", s.Must("logs", "fore")+"\n"); n != printed {
		t.Errorf("the attached one's log has %d lines, and its client printed %d", n, printed)
	}
	s.consistent()
}
