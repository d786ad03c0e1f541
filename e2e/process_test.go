package e2e

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestOwnContainerd: told of none, the daemon starts a containerd of its own, which
// outlives it with the containers and goes at teardown.
func TestOwnContainerd(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Containerd: lab.OwnContainerd})
	s.importImage("demo")
	if got := s.Must("run", "--rm", "demo", "echo", "fine"); got != "fine" {
		t.Errorf("it says %q", got)
	}
	s.idle("--name", "stays")
	s.Restart()
	if got := s.inspect("stays"); !got.State.Running {
		t.Errorf("after a restart: %+v", got.State)
	}
	s.Must("exec", "stays", "true")
	s.consistent()
}

// TestLiveRestoreOff: with --live-restore=false the containers end with the daemon.
func TestLiveRestoreOff(t *testing.T) {
	t.Parallel()
	s := newSite(t, "--live-restore=false")
	b := s.run("--name", "ends", "-p", "8080:80", "demo", "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done")
	s.Stop()
	if _, err := os.Stat(b.Path()); !os.IsNotExist(err) {
		t.Errorf("the container's namespace after the daemon's end: %v", err)
	}
	s.host.Listen("tcp", "0.0.0.0:8080").Close()
	s.Start()
	if got := s.inspect("ends").State; got.Running || got.ExitCode == 0 {
		t.Errorf("state %+v", got)
	}
	s.consistent()
}

// TestNotify: an init system is told when the daemon is ready, and that it stops.
func TestNotify(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	path := filepath.Join(s.lab.Dir("n"), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	told := func(want string) {
		t.Helper()
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				t.Errorf("not told %s: %v", want, err)
				return
			}
			if strings.Contains(string(buf[:n]), want) {
				return
			}
		}
	}
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Env: []string{"NOTIFY_SOCKET=" + path}})
	told("READY=1")
	s.Stop()
	told("STOPPING=1")
	s.Start()
	told("READY=1")
}

// TestSocket: the API's socket is for root and a group; the log is JSON when asked
// for; a second socket serves the same.
func TestSocket(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	second := filepath.Join(s.lab.Dir("s"), "api.sock")
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Args: []string{"--log-format", "json", "--log-level", "debug", "-H", "unix://" + second}})
	for _, path := range []string{s.Socket, second} {
		fi, err := os.Stat(path)
		if err != nil || fi.Mode().Perm() != 0o660 {
			t.Errorf("socket %s: %v, %v", path, fi.Mode(), err)
		}
		s.Must("-H", "unix://"+path, "ps")
	}
	debug := false
	for line := range strings.Lines(s.LogTail(1000)) {
		var entry struct{ Time, Level, Msg string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Time == "" || entry.Msg == "" {
			t.Errorf("line of the log: %v: %s", err, line)
		}
		debug = debug || entry.Level == "DEBUG"
	}
	if !debug {
		t.Error("nothing in the log is of level debug")
	}
	s.Stop()
	for _, path := range []string{s.Socket, second} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("socket %s after the end: %v", path, err)
		}
	}
}
