package e2e

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// lastLines are the numbers from..to-1, a line each.
func lastLines(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		b.WriteString("line " + strconv.Itoa(i) + "\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// TestLogOptions: Docker's client sets json-file's options; the log takes turns in
// files that are packed, reads as one, and says what it was asked to say.
func TestLogOptions(t *testing.T) {
	t.Parallel()
	s := newSite(t, "--log-opt", "labels=role")
	const count = 2000
	s.mustDocker("run", "--name", "talker", "-l", "role=front", "-e", "MODE=x", "--log-opt", "max-size=20k", "--log-opt", "max-file=4", "--log-opt", "compress=true",
		"--log-opt", "tag={{.Name}}/{{.ID}}", "--log-opt", "env-regex=^MO", "demo", "sh", "-c", "i=0; while [ $i -lt "+strconv.Itoa(count)+" ]; do echo line $i; i=$((i+1)); done")
	if got := s.mustDocker("inspect", "-f", "{{json .HostConfig.LogConfig.Config}}", "talker"); !strings.Contains(got, `"labels":"role"`) || !strings.Contains(got, `"max-file":"4"`) {
		t.Error(got)
	}
	id, logPath := s.inspect("talker").ID, s.mustDocker("inspect", "-f", "{{.LogPath}}", "talker")
	var files []string
	eventually(t, "the old files are packed", func() bool {
		files, _ = filepath.Glob(logPath + "*")
		return len(files) == 4 && !slices.ContainsFunc(files[1:], func(f string) bool { return !strings.HasSuffix(f, ".gz") })
	})
	if t.Failed() {
		t.Errorf("%q", files)
	}
	if fi, err := os.Stat(logPath); err != nil || fi.Size() > 20_000 {
		t.Errorf("%v, %v", fi, err)
	}
	all := strings.Split(s.mustDocker("logs", "talker"), "\n")
	if len(all) < 300 || all[len(all)-1] != "line "+strconv.Itoa(count-1) || strings.Join(all, "\n") != lastLines(count-len(all), count) {
		t.Errorf("%d lines, from %q to %q", len(all), all[0], all[len(all)-1])
	}
	for _, n := range []int{0, 1, 150, len(all) - 1, len(all) + 10} {
		if got := s.mustDocker("logs", "--tail", strconv.Itoa(n), "talker"); got != lastLines(count-min(n, len(all)), count) {
			t.Errorf("--tail %d: %d bytes", n, len(got))
		}
	}
	want := "MODE=x,role=front,tag=talker%2F" + id[:12] + " line " + strconv.Itoa(count-1)
	if got := s.mustDocker("logs", "--tail", "1", "--details", "talker"); got != want {
		t.Errorf("--details: %q, want %q", got, want)
	}
	if got := s.mustDocker("logs", "--since", "1h", "--tail", "2", "-t", "talker"); !strings.Contains(got, "Z line "+strconv.Itoa(count-1)) {
		t.Errorf("--since, -t: %q", got)
	}
	if got := s.mustDocker("logs", "--until", "1h", "talker"); got != "" {
		t.Errorf("--until before it was: %q", got)
	}
	for args, want := range map[string]string{
		"--log-driver fluentd":                       "no log driver named 'fluentd' is registered",
		"--log-opt max-szie=1m":                      "unknown log opt 'max-szie' for json-file log driver",
		"--log-opt max-size=1m --log-opt max-file=0": "max-file cannot be less than 1",
		"--log-opt compress=true":                    "compress cannot be true",
		"--log-opt tag={{.Nothing}}":                 "Nothing",
		"--log-driver journald --log-opt max-size=1": "unknown log opt 'max-size' for journald log driver",
	} {
		r := s.docker(nil, append(append([]string{"create"}, words(args)...), "demo")...)
		if r.Code == 0 || !strings.Contains(r.Stderr, want) {
			t.Errorf("docker create %s: %+v", args, r)
		}
	}
	if got := s.mustDocker("run", "--name", "kept", "--log-driver", "local", "--log-opt", "max-size=1m", "demo", "echo", "heard"); got != "heard" || s.mustDocker("logs", "kept") != got {
		t.Errorf("--log-driver local: %q, %q", got, s.mustDocker("logs", "kept"))
	}
	s.mustDocker("run", "-d", "--name", "quiet", "--log-driver", "none", "demo", "echo", "unheard")
	if r := s.docker(nil, "logs", "quiet"); r.Code == 0 || !strings.Contains(r.Stderr, "configured logging driver does not support reading") {
		t.Errorf("docker logs of none: %+v", r)
	}
}

// TestFollowAcrossRotation: a follower has every line, though the files take turns,
// and the daemon and the streams' process are killed in between.
func TestFollowAcrossRotation(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const count = 400
	s.mustDocker("run", "-d", "--name", "talker", "--log-opt", "max-size=2k", "--log-opt", "max-file=50",
		"demo", "sh", "-c", "i=0; while [ $i -lt "+strconv.Itoa(count)+" ]; do echo line $i; i=$((i+1)); usleep 5000; done")
	got := make(chan string, 1)
	go func() { got <- s.docker(nil, "logs", "-f", "talker").Stdout }()
	time.Sleep(500 * time.Millisecond)
	s.shoot("streams", s.streams())
	if out := <-got; strings.TrimSpace(out) != lastLines(0, count) {
		t.Errorf("a follower had %d bytes of %d", len(out), len(lastLines(0, count)))
	}
	if out := s.mustDocker("logs", "talker"); out != lastLines(0, count) {
		t.Errorf("the log has %d bytes of %d", len(out), len(lastLines(0, count)))
	}
}

// fakeJournal is a journal's socket and a journalctl that reads it.
type fakeJournal struct {
	dir string

	mu      sync.Mutex
	entries []string
}

func newFakeJournal(t *testing.T) *fakeJournal {
	t.Helper()
	j := &fakeJournal{dir: t.TempDir()}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: j.dir + "/socket", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buf := make([]byte, 256<<10)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			j.mu.Lock()
			j.entries = append(j.entries, string(buf[:n]))
			_ = os.WriteFile(j.dir+"/export", []byte(strings.Join(j.entries, "\n")+"\n"), 0o600)
			j.mu.Unlock()
		}
	}()
	script := "#!/bin/sh\ncase \"$*\" in *--sync*) ;; *) cat " + j.dir + "/export ;; esac\n"
	if err := os.WriteFile(j.dir+"/journalctl", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return j
}

func (j *fakeJournal) has(texts ...string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.ContainsFunc(j.entries, func(e string) bool {
		for _, text := range texts {
			if !strings.Contains("\n"+e, "\n"+text+"\n") {
				return false
			}
		}
		return true
	})
}

// TestJournald: output goes to systemd's journal with Docker's fields, by the
// daemon's --log-driver, and docker logs reads it there.
func TestJournald(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	j := newFakeJournal(t)
	s.Daemon = s.lab.NewDaemon(s.host, lab.DaemonOptions{
		Args: []string{"--log-driver", "journald", "--log-opt", "tag={{.Name}}"},
		Env:  []string{"FAIRLEAD_JOURNAL_SOCKET=" + j.dir + "/socket", "PATH=" + j.dir + ":" + os.Getenv("PATH")},
	})
	s.Start()
	s.importImage("demo")
	contains(t, "docker info", s.mustDocker("info"), "Logging Driver: journald")
	s.mustDocker("run", "--name", "talker", "-l", "com.example.role=front", "--log-opt", "labels=com.example.role", "demo", "sh", "-c", "echo out; echo err >&2")
	id := s.inspect("talker").ID
	for _, line := range [][]string{{"MESSAGE=out", "PRIORITY=6"}, {"MESSAGE=err", "PRIORITY=3"}} {
		want := append(slices.Clone(line), "CONTAINER_ID="+id[:12], "CONTAINER_ID_FULL="+id, "CONTAINER_NAME=talker", "CONTAINER_TAG=talker",
			"SYSLOG_IDENTIFIER=talker", "IMAGE_NAME=demo", "COM_EXAMPLE_ROLE=front")
		eventually(t, "the journal has "+line[0], func() bool { return j.has(want...) })
	}
	if r := s.docker(nil, "logs", "talker"); r.Stdout != "out\n" || r.Stderr != "err\n" || r.Code != 0 {
		t.Errorf("docker logs: %+v", r)
	}
	if got := s.mustDocker("logs", "--details", "talker"); got != "COM_EXAMPLE_ROLE=front out" {
		t.Errorf("docker logs --details: %q", got)
	}
	if got := s.mustDocker("inspect", "-f", "{{.LogPath}}", "talker"); got != "" {
		t.Errorf("LogPath %q", got)
	}
	// Without a journal the start is refused; with another driver it is not.
	if err := os.Remove(j.dir + "/socket"); err != nil {
		t.Fatal(err)
	}
	if r := s.docker(nil, "run", "--rm", "demo", "true"); r.Code == 0 || !strings.Contains(r.Stderr, "journald is not enabled on this host") {
		t.Errorf("docker run without a journal: %+v", r)
	}
	if got := s.mustDocker("run", "--rm", "--log-driver", "json-file", "demo", "echo", "heard"); got != "heard" {
		t.Errorf("%q", got)
	}
}
