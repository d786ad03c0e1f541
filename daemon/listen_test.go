package daemon

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestListenIsPrivateFromBirth(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "api.sock")
	// A socket that nobody listens on is in the way after a crash.
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	ls, err := listen(&Config{Hosts: []string{"unix://" + path}, Group: "no-such-group"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ls[0].Close()
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o660 {
		t.Errorf("socket %v, %v; want mode 0660", fi.Mode(), err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if _, err := listen(&Config{Hosts: []string{"unix://" + path}}, nil); err == nil || !strings.Contains(err.Error(), "another program listens there") {
		t.Errorf("second listen: %v", err)
	}
}

func TestListenRefuses(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := &Config{Hosts: []string{"unix://" + file}}
	if _, err := listen(cfg, nil); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file in the way: %v", err)
	}
	if err := cfg.free(); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file in the way, early: %v", err)
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		front front
		args  string
		want  string // the hosts, or what the error says
	}{
		{asFairlead, "--exec-root /run/x", "unix:///run/x/fairlead.sock"},
		{asDockerd, "", "unix:///var/run/docker.sock"},
		{asDockerd, "-H unix:// -H unix:///var/run/docker.sock", "unix:///var/run/docker.sock"},
		{asDockerd, "-H fd:// -H unix:///x", "fd:// unix:///x"},
		{asDockerd, "-H tcp:// --tls=false", "tcp://localhost:2375"},
		{asDockerd, "-H tcp://:2375 --tls=false", "tcp://localhost:2375"},
		{asDockerd, "-H tcp://0.0.0.0 --tlsverify", "tcp://0.0.0.0:2376"},
		{asDockerd, "-H 127.0.0.1:2375 --tls=false", "tcp://127.0.0.1:2375"},
		{asDockerd, "-H tcp://[::1]:2376 --tls", "tcp://[::1]:2376"},
		{asDockerd, "-H tcp://[::1] --tls", "tcp://[::1]:2376"},
		{asDockerd, "-H tcp://127.0.0.1:2375", "whoever reaches it is root on this machine"},
		{asFairlead, "-H tcp://0.0.0.0:2375", "give --tlsverify"},
		{asFairlead, "-H unix://relative", "absolute path"},
		{asFairlead, "-H npipe:////./pipe/docker", "invalid bind address"},
		{asFairlead, "-H tcp://1.2.3.4:99999 --tls", "no port"},
		{asFairlead, "-H tcp://a:b:c --tls", "want tcp://address:port"},
	} {
		cfg, err := parseAs(t, tt.front, ``, strings.Fields(tt.args)...)
		got := strings.Join(cfg.Hosts, " ")
		if err != nil {
			got = err.Error()
		}
		if err == nil && got != tt.want || err != nil && !strings.Contains(got, tt.want) {
			t.Errorf("%s: %s, want %s", tt.args, got, tt.want)
		}
	}
}

func TestRootsAreLocked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := lockRoot("data-root", dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockRoot("data-root", dir); err == nil || !strings.Contains(err.Error(), "another fairlead daemon (process") {
		t.Errorf("second lock: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	// A process that another test starts has a copy of the file until it is executed.
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if f, err = lockRoot("data-root", dir); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	_ = f.Close()
}
