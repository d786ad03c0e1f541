package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/fairlead/fairlead/internal/crashpoint"
)

// TestVolumes: Docker's client makes, lists, uses and removes volumes.
func TestVolumes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if got := s.mustDocker("volume", "create", "--label", "tier=db", "data"); got != "data" {
		t.Errorf("volume create: %q", got)
	}
	s.mustDocker("run", "--rm", "-v", "data:/data", "demo", "sh", "-c", "echo kept >/data/f")
	if got := s.mustDocker("run", "--rm", "--mount", "type=volume,src=data,dst=/in,readonly", "demo", "cat", "/in/f"); got != "kept" {
		t.Errorf("another container reads %q", got)
	}
	id := s.mustDocker("create", "--name", "user", "-v", "data:/data", "-v", "/anonymous", "-v", "conf:/etc", "demo", "true")
	if got := s.mustDocker("inspect", "-f", `{{range .Mounts}}{{.Type}} {{len .Name}} {{.Destination}} {{.Driver}} {{.Mode}} {{.RW}};{{end}}`, "user"); got != "volume 64 /anonymous local  true;volume 4 /data local z true;volume 4 /etc local z true;" {
		t.Errorf("inspect: %s", got)
	}
	r := s.docker(nil, "volume", "rm", "data")
	if r.Code == 0 || !strings.Contains(r.Stderr, "remove data: volume is in use - ["+id+"]") {
		t.Errorf("volume rm in use: %+v", r)
	}
	// What the image has is in the volume, and the host can read it there.
	where := s.mustDocker("volume", "inspect", "-f", "{{.Mountpoint}} {{.Driver}} {{.Scope}} {{.Labels}}", "conf")
	path, _, _ := strings.Cut(where, " ")
	if _, err := os.Stat(filepath.Join(path, "passwd")); err != nil || !strings.HasSuffix(where, " local local map[]") {
		t.Errorf("%s: %v", where, err)
	}
	for args, want := range map[string]string{
		"-q --filter label=tier=db": "data", "-q --filter name=con": "conf", "-q --filter dangling=true": "", "--format {{.Name}}|{{.Driver}} -f label=tier": "data|local",
	} {
		if got := s.mustDocker(append([]string{"volume", "ls"}, words(args)...)...); got != want {
			t.Errorf("volume ls %s: %q, want %q", args, got, want)
		}
	}
	if got := s.mustDocker("run", "--rm", "--volumes-from", "user:ro", "demo", "sh", "-c", "cat /data/f; touch /data/g 2>/dev/null || echo no"); got != "kept\nno" {
		t.Errorf("volumes-from: %q", got)
	}
	s.consistent()
	s.mustDocker("rm", "-v", "user")
	if got := s.mustDocker("volume", "ls", "-q"); got != "conf\ndata" {
		t.Errorf("after rm -v: %q", got)
	}
	s.mustDocker("create", "-v", "/anonymous", "--name", "left", "demo", "true")
	s.mustDocker("rm", "left")
	contains(t, "volume prune", s.mustDocker("volume", "prune", "-f"), "Deleted Volumes:", "Total reclaimed space:")
	if got := s.mustDocker("volume", "ls", "-q"); got != "conf\ndata" {
		t.Errorf("after prune: %q", got)
	}
	contains(t, "volume prune -a", s.mustDocker("volume", "prune", "-a", "-f", "--filter", "label!=tier"), "conf")
	s.mustDocker("volume", "rm", "data")
	s.mustDocker("volume", "rm", "-f", "data")
	if r := s.docker(nil, "volume", "inspect", "data"); r.Code == 0 || !strings.Contains(r.Stderr, "no such volume") {
		t.Errorf("volume inspect of none: %+v", r)
	}
	for args, want := range map[string]string{
		"volume create --driver rexray x2":                        `plugin "rexray" not found`,
		"volume create ..":                                        "includes invalid characters",
		"volume create -o size=5 x2":                              "type=tmpfs, device=tmpfs, o=size=5",
		"run --rm -v a/b:/c demo true":                            "If you intended to pass a host directory, use absolute path",
		"run --rm --mount type=bind,src=/nosuch,dst=/c demo true": "bind source path does not exist: /nosuch",
		"run --rm --mount type=image,src=demo,dst=/c demo true":   "--mount type=image at /c is not supported",
		"run --rm -v data:/c -v conf:/c demo true":                "Duplicate mount point: /c",
	} {
		if r := s.docker(nil, words(args)...); r.Code == 0 || !strings.Contains(r.Stderr, want) {
			t.Errorf("docker %s: %d %q, want %q", args, r.Code, r.Stderr, want)
		}
	}
	if got := s.mustDocker("volume", "ls", "-q"); got != "" {
		t.Errorf("what was refused left %q", got)
	}
}

// TestVolumesOutliveTheDaemon: a killed daemon's volumes are the next one's, those with
// options mounted for whom they were mounted for.
func TestVolumesOutliveTheDaemon(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.mustDocker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m", "ram")
	s.mustDocker("run", "-d", "--name", "keeper", "-v", "ram:/ram", "-v", "disk:/disk", "--mount", "type=volume,src=disk,dst=/part,volume-nocopy", "demo", "sh", "-c", "echo 1 >/ram/f; echo 2 >/disk/f; exec sleep 3600")
	eventually(t, "it is written", func() bool { return s.docker(nil, "exec", "keeper", "cat", "/part/f").Stdout == "2\n" })
	s.Kill()
	s.Start()
	if got := s.mustDocker("run", "--rm", "-v", "ram:/a", "-v", "disk:/b", "demo", "cat", "/a/f", "/b/f"); got != "1\n2" {
		t.Errorf("another reads %q", got)
	}
	if r := s.docker(nil, "volume", "rm", "ram"); r.Code == 0 {
		t.Error("the volume of a running container was removed")
	}
	s.mustDocker("rm", "-f", "keeper")
	if got := s.mustDocker("run", "--rm", "-v", "ram:/a", "-v", "disk:/b", "demo", "sh", "-c", "cat /b/f; ls /a"); got != "2" {
		t.Errorf("of the tmpfs nobody had, %q is left", got)
	}
	s.mustDocker("volume", "rm", "ram", "disk")
	s.consistent()
}

// TestCrashVolumes: a daemon killed while it makes a container, or removes one, leaves
// no anonymous volume behind, and no named one away.
func TestCrashVolumes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.mustDocker("volume", "create", "data")
	dir := filepath.Dir(filepath.Dir(s.mustDocker("volume", "inspect", "-f", "{{.Mountpoint}}", "data")))
	run := []string{"run", "-d", "--name", "short", "-v", "data:/data", "-v", "/anonymous", "demo", "sleep", "3600"}
	for _, step := range []struct {
		point  string
		before bool // the container is there before
		do     []string
	}{
		{"engine-create-made", false, run},
		{"volume-discarded", true, []string{"rm", "-f", "-v", "short"}},
		{"engine-remove-forgotten", true, []string{"rm", "-f", "-v", "short"}},
	} {
		s.Stop()
		s.Start(crashpoint.Env + "=" + step.point)
		if step.before {
			s.mustDocker(run...)
		}
		s.docker(nil, step.do...)
		if code := s.Wait(); code != 128+int(syscall.SIGKILL) {
			t.Fatalf("%s: the daemon ended with exit status %d", step.point, code)
		}
		s.Start()
		if got := s.mustDocker("volume", "ls", "-q"); got != "data" {
			t.Errorf("%s: volumes %q", step.point, got)
		}
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 1 {
			t.Errorf("%s: %v %v", step.point, left, err)
		}
		if got := s.mustDocker("ps", "-aq"); got != "" {
			t.Errorf("%s: containers %q", step.point, got)
		}
		s.consistent()
	}
}
