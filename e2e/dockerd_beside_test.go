package e2e

import (
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestDockerdBesideDocker: a docker0 that is somebody else's, left by a Docker that was
// here before say, is in no dockerd's way, and none touches it; nor is another dockerd.
func TestDockerdBesideDocker(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	s.host.Run("ip", "link", "add", "docker0", "type", "bridge")
	s.host.Run("ip", "address", "add", "172.17.0.1/16", "dev", "docker0")
	s.host.Run("ip", "link", "set", "docker0", "up")
	before := s.host.Run("ip", "-4", "-o", "address", "show", "dev", "docker0")
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Dockerd: true})
	other := *s
	other.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Dockerd: true})
	for _, d := range []struct {
		site         *site
		bridge, port string
	}{{s, "fairlead0", "8080"}, {&other, "fairlead1", "8081"}} {
		d.site.importImage("demo")
		d.site.mustDocker("run", "-d", "--stop-timeout", "1", "-p", d.port+":80", "--name", "web", "demo", "httpd", "-f", "-h", "/www")
		for range 2 {
			if got := d.site.mustDocker("network", "inspect", "-f", `{{index .Options "com.docker.network.bridge.name"}}`, "bridge"); got != d.bridge {
				t.Errorf("the bridge is %s, want %s", got, d.bridge)
			}
			d.site.Kill() // and the same again, with the container
			d.site.Start()
		}
		eventually(t, "outside gets the page", func() bool {
			return s.outside.Try("busybox", "wget", "-q", "-O-", "http://"+host4+":"+d.port+"/").Stdout == page
		})
		d.site.consistent()
	}
	if now := s.host.Run("ip", "-4", "-o", "address", "show", "dev", "docker0"); now != before {
		t.Errorf("docker0 is\n%s\nand was\n%s", now, before)
	}
}
