package lab

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestDaemon runs the real program through its life. What its containers do is
// tested elsewhere; here it is that the lab sees it start, crash, come back and go.
func TestDaemon(t *testing.T) {
	t.Parallel()
	l := New(t)
	h := l.Host("host")
	d := l.Daemon(h, DaemonOptions{Args: []string{"--log-level", "debug"}})
	if d.PID() == 0 || d.LogTail(5) == "" {
		t.Errorf("pid %d, log %q", d.PID(), d.LogTail(5))
	}
	ns, err := os.Readlink("/proc/self/ns/net")
	if inside := h.Run("readlink", "/proc/self/ns/net"); err != nil || inside == ns {
		t.Errorf("the host is the machine's own namespace: %s, %v", inside, err)
	}
	var info struct{ ServerVersion string }
	if err := json.Unmarshal([]byte(d.Must("info", "--format", "json")), &info); err != nil {
		t.Errorf("info: %v", err)
	}
	if _, stderr, code := d.CLI("inspect", "nobody"); code != 1 || !strings.Contains(stderr, "nobody") {
		t.Errorf("inspect of nothing: status %d, %q", code, stderr)
	}
	if !strings.Contains(h.Run("ip", "-br", "link"), "fairlead0") {
		t.Errorf("links: %s", h.Run("ip", "-br", "link"))
	}
	pid := d.PID()
	d.Kill()
	if d.Running() || d.ping() == nil {
		t.Error("runs after Kill")
	}
	d.Start()
	d.Restart()
	if d.PID() == pid {
		t.Error("the process is the same after a restart")
	}
	d.Kill() // the end of the lab starts it again, to have it torn down
}

// TestTwoDaemons share the machine's containerd process and nothing else.
func TestTwoDaemons(t *testing.T) {
	t.Parallel()
	l := New(t)
	a := l.Daemon(l.Host("a"), DaemonOptions{})
	b := l.Daemon(l.Host("b"), DaemonOptions{})
	if a.ContainerdNamespace() == b.ContainerdNamespace() || a.Socket == b.Socket {
		t.Errorf("%s %s", a.ContainerdNamespace(), a.Socket)
	}
	a.Teardown()
	b.Must("ps")
}

// TestRefusal: a daemon that does not start says so, and leaves nothing.
func TestRefusal(t *testing.T) {
	t.Parallel()
	l := New(t)
	d := l.NewDaemon(l.Host("host"), DaemonOptions{Args: []string{"--log-format", "verse"}})
	if err := d.TryStart(); err == nil || !strings.Contains(err.Error(), "exit status") || !strings.Contains(d.LogTail(5), "verse") {
		t.Errorf("TryStart: %v, log %q", err, d.LogTail(5))
	}
}
