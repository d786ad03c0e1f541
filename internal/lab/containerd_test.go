package lab

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestContainerLeftovers: a container that nobody took away is found, by its shim,
// its control group and the namespace it is in, and goes with the lab.
func TestContainerLeftovers(t *testing.T) {
	t.Parallel()
	r := &recorder{TB: t}
	l := New(r)
	h := l.Host("h")
	root := l.Dir("root")
	copyFile(t, "/usr/bin/busybox", filepath.Join(root, "busybox"))
	ctr := func(args ...string) string {
		return h.Run("ctr", append([]string{"--address", Containerd(t), "--namespace", filepath.Base(l.run) + "-d1"}, args...)...)
	}
	ctr("run", "--detach", "--null-io", "--with-ns", "network:"+h.Path(), "--rootfs", root, "box", "/busybox", "sleep", "1003")
	if !strings.Contains(ctr("task", "ls"), "RUNNING") {
		t.Errorf("tasks: %s", ctr("task", "ls"))
	}
	sockets := shimSockets(l.run)
	if len(sockets) != 1 {
		t.Errorf("sockets of the shim: %q", sockets)
	}
	r.finish()
	r.said(t, "/busybox sleep 1003", "containerd-shim", "control group: ")
	for _, path := range sockets {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("the shim's socket %s is there: %v", path, err)
		}
	}
	if left := append(mounts(l.ID), cgroups(l.ID)...); len(left) > 0 || len(processes(l.run)) > 0 {
		t.Errorf("left after the end: %q, %v", left, processes(l.run))
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
