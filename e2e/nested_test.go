package e2e

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// nestedRootfs is the demo image's root file system with what an engine needs: the
// program under the name dockerd as well, containerd, runc, and Docker's client.
func nestedRootfs(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	from, w := tar.NewReader(bytes.NewReader(rootfs())), tar.NewWriter(&b)
	for {
		h, err := from.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(from)
		if err := errors.Join(err, w.WriteHeader(h)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	added := map[string]bool{}
	add := func(name, path string) {
		if added[name] {
			return
		}
		added[name] = true
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	add("usr/local/bin/fairlead", lab.Binary(t))
	libraries := regexp.MustCompile(`/\S+`)
	for _, program := range []string{"containerd", "containerd-shim-runc-v2", "runc", dockerClient} {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Fatal(err)
		}
		add("usr/local/bin/"+program, path)
		// A static program has none; ldd says so and fails.
		needed, _ := exec.Command("ldd", path).Output()
		for _, library := range libraries.FindAllString(string(needed), -1) {
			add(strings.TrimPrefix(library, "/"), library)
		}
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "usr/local/bin/dockerd", Linkname: "fairlead"}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// D6: a second daemon with --iptables=false in a privileged container of the first
// starts, runs containers and publishes their ports inside; the outer one is
// undisturbed.
func TestD6DaemonInAContainer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := s.docker(nestedRootfs(t), "import", "--change", "VOLUME /var/lib/docker", "--change", "VOLUME /var/lib/fairlead", "-", "dind")
	if r.Code != 0 {
		t.Fatalf("docker import: exit code %d, %s", r.Code, r.Stderr)
	}
	beside := s.idle("--name", "beside", "-p", "8080:80")
	beside.serve("tcp", "0.0.0.0:80")
	rules := s.host.Run("nft", "list", "ruleset")

	id := s.mustDocker("run", "--rm", "-d", "--privileged", "--name", "dind", "dind", "dockerd", "--iptables=false")
	inside := func(args ...string) lab.Result { return s.docker(nil, append([]string{"exec", "dind"}, args...)...) }
	eventually(t, "the inner daemon answers", func() bool { return inside("docker", "version").Code == 0 })
	if t.Failed() {
		t.Fatalf("the inner daemon:\n%s", s.mustDocker("logs", id))
	}
	archive := filepath.Join(s.lab.Dir("images"), "demo.tar")
	if err := os.WriteFile(archive, rootfs(), 0o600); err != nil {
		t.Fatal(err)
	}
	s.mustDocker("cp", archive, "dind:/demo.tar")
	if r := inside("docker", "import", "/demo.tar", "echo"); r.Code != 0 {
		t.Fatalf("the inner import: %+v", r)
	}
	if r := inside("docker", "run", "--rm", "-d", "-p", "3005:3005", "echo", "httpd", "-f", "-p", "3005", "-h", "/www"); r.Code != 0 {
		t.Fatalf("the inner run: %+v\n%s", r, s.mustDocker("logs", id))
	}
	contains(t, "the inner ps", inside("docker", "ps").Stdout, "0.0.0.0:3005->3005/tcp")
	for _, address := range []string{"127.0.0.1", "$(hostname -i)"} {
		if r := inside("sh", "-c", "wget -qO- http://"+address+":3005/"); r.Stdout != page {
			t.Errorf("the inner container's port by %s: %+v", address, r)
		}
	}
	// From the outer host the port is the container's own.
	if got := s.host.Try("curl", "-s", "-m", "5", "http://"+s.box("dind").addr4.String()+":3005/"); got.Stdout != page {
		t.Errorf("the inner port from the outer host: %+v", got)
	}
	if r := inside("docker", "info", "--format", "{{.Name}} {{.ContainersRunning}}"); !strings.HasSuffix(strings.TrimSpace(r.Stdout), " 1") {
		t.Errorf("the inner info: %+v", r)
	}
	if now := s.host.Run("nft", "list", "ruleset"); strings.Count(now, "\n") > strings.Count(rules, "\n")+12 {
		t.Errorf("the outer rules grew by more than the container's:\n%s", now)
	}
	s.consistent()
	s.mustDocker("stop", "-t", "20", "dind")
	s.consistent()
	lab.Reachable(t, s.outside, "tcp", host4+":8080")
}
