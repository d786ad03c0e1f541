package daemon

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
	ls, err := listen([]string{"unix://" + path}, "no-such-group")
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
	if _, err := listen([]string{"unix://" + path}, ""); err == nil || !strings.Contains(err.Error(), "another program listens there") {
		t.Errorf("second listen: %v", err)
	}
}

func TestListenRefuses(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for host, says := range map[string]string{
		"tcp://0.0.0.0:2375": "only unix:///path is served",
		"unix://relative":    "absolute path",
		"unix://" + file:     "no socket",
	} {
		if _, err := listen([]string{host}, ""); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; want one saying %q", host, err, says)
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
	if f, err = lockRoot("data-root", dir); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
}
