package e2e

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestHalt: `fairlead daemon --halt`, as a package that is removed calls it, leaves
// nothing of a stopped daemon in the kernel, and all of it in the data root.
func TestHalt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.mustDocker("network", "create", "--subnet", "10.77.0.0/24", "mine")
	s.mustDocker("run", "-d", "--stop-timeout", "1", "--name", "web", "--network", "mine", "--ip", "10.77.0.7", "--restart", "always", "-p", "8080:80", "demo", "httpd", "-f", "-h", "/www")
	s.mustDocker("exec", "web", "touch", "/kept")
	s.Stop()
	if r := s.host.Try("ip", "link", "show", "fairlead0"); r.Code != 0 {
		t.Error("nothing is left to be taken away")
	}
	out, err := s.Command(t.Context(), "daemon", "--halt", "--exec-root", s.ExecRoot, "--data-root", s.DataRoot).CombinedOutput()
	if err != nil {
		t.Fatalf("--halt: %v\n%s", err, out)
	}
	if _, err := os.Stat(s.ExecRoot); !os.IsNotExist(err) {
		t.Errorf("EXEC_ROOT after it: %v", err)
	}
	for _, gone := range []string{"fairlead0", "10.77.0.1"} {
		if got := s.host.Run("ip", "-o", "address"); strings.Contains(got, gone) {
			t.Errorf("%s is left:\n%s", gone, got)
		}
	}
	if got := s.host.Run("nft", "list", "tables"); strings.Contains(got, "fairlead") {
		t.Errorf("tables are left:\n%s", got)
	}
	if out, _ := exec.Command("pgrep", "-f", s.ExecRoot).Output(); len(out) > 0 {
		t.Errorf("processes are left: %s", out)
	}
	s.host.Listen("tcp", "0.0.0.0:8080").Close()

	// As after a reboot, all is there, and what is always to run does.
	s.Start()
	eventually(t, "the container runs again", func() bool {
		return s.mustDocker("inspect", "-f", "{{.State.Status}} {{.NetworkSettings.Networks.mine.IPAddress}}", "web") == "running 10.77.0.7"
	})
	s.mustDocker("exec", "web", "ls", "/kept")
	eventually(t, "outside gets the page", func() bool {
		return s.outside.Try("busybox", "wget", "-q", "-O-", "http://"+host4+":8080/").Stdout == page
	})
	s.consistent()
}
