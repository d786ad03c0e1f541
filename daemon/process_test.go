package daemon

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestPIDFileOfAnotherDaemonIsRespected(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "pid")
	run := func(name string) {
		cmd := exec.CommandContext(t.Context(), "sleep", "60")
		cmd.Args[0] = name
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		if err := os.WriteFile(path, []byte(strconv.Itoa(cmd.Process.Pid)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run("/usr/bin/dockerd")
	if err := checkPIDFile(path); err == nil || !strings.Contains(err.Error(), "is still running") {
		t.Errorf("another dockerd: %v", err)
	}
	run("sleep")
	for _, content := range []string{"", "x", "0", "-1", "999999999", strconv.Itoa(os.Getpid())} {
		if err := checkPIDFile(path); err != nil {
			t.Errorf("%q: %v", content, err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := writePIDFile(filepath.Join(dir, "new", "pid")); err != nil {
		t.Error(err)
	}
}

func TestGroupMustExist(t *testing.T) {
	t.Parallel()
	for group, ok := range map[string]bool{"": true, "fairlead": true, "root": true, "0": true, "no-such-group": false} {
		if err := (&Config{Group: group}).checkGroup(); (err == nil) != ok {
			t.Errorf("group %q: %v", group, err)
		}
	}
}

// activated, in its environment, has the test binary take the sockets it was given.
const activated = "FAIRLEAD_TEST_ACTIVATED"

func TestMain(m *testing.M) {
	if which, ok := os.LookupEnv(activated); ok {
		_ = os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
		ls, err := inherited(&Config{}, which, nil)
		if err != nil {
			_, _ = os.Stdout.WriteString(err.Error())
			os.Exit(1)
		}
		for _, l := range ls {
			_, _ = os.Stdout.WriteString(l.Addr().String() + "\n")
		}
		os.Exit(len(os.Getenv("LISTEN_FDS")))
	}
	os.Exit(m.Run())
}

func TestSocketActivation(t *testing.T) {
	t.Parallel()
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	var files []*os.File
	for _, path := range []string{one, two} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	open, err := tcp.File()
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	for _, tt := range []struct {
		which string
		files []*os.File
		fails bool
		want  string
	}{
		{"", files, false, one + "\n" + two + "\n"},
		{"*", files, false, one + "\n" + two + "\n"},
		{"4", files, false, two + "\n"},
		{"5", files, true, "2 sockets"},
		{"", nil, true, "no sockets found via socket activation"},
		{"", []*os.File{open}, true, "whoever reaches it is root"},
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), activated+"="+tt.which, "LISTEN_FDS="+strconv.Itoa(len(tt.files)))
		cmd.ExtraFiles = tt.files
		out, err := cmd.Output()
		if (err != nil) != tt.fails || !strings.Contains(string(out), tt.want) {
			t.Errorf("fd://%s of %d: %q, %v", tt.which, len(tt.files), out, err)
		}
	}
}
