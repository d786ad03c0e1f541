package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestDockerPullAndPush: Docker's clients, old and new, send an image to a registry on
// the host's loopback and get it back.
func TestDockerPullAndPush(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := s.host.Registry(lab.RegistryOptions{})
	id := s.mustDocker("image", "inspect", "-f", "{{.Id}}", "demo")
	for i, client := range []string{dockerClient, debianDockerClient} {
		s.client = client
		ref := r.Image(fmt.Sprintf("team/demo:%d", i+1))
		s.mustDocker("tag", "demo", ref)
		got := s.mustDocker("push", ref)
		contains(t, client+" push", got, "The push refers to repository ["+r.Image("team/demo")+"]", fmt.Sprintf("%d: digest: %s size: ", i+1, id))
		contains(t, client+" images", s.mustDocker("images", "--digests"), id)
	}
	s.mustDocker("rmi", "-f", id)
	for i, client := range []string{dockerClient, debianDockerClient} {
		s.client = client
		ref := r.Image(fmt.Sprintf("team/demo:%d", i+1))
		got := s.mustDocker("pull", ref)
		contains(t, client+" pull", got, fmt.Sprintf("%d: Pulling from team/demo", i+1), "Digest: "+id, "Status: Downloaded newer image for "+ref)
		if i == 0 {
			contains(t, client+" pull", got, ": Pulling fs layer", ": Download complete", ": Pull complete")
		} else {
			contains(t, client+" pull", got, ": Already exists")
		}
		contains(t, client+" pull again", s.mustDocker("pull", ref), "Status: Image is up to date for "+ref)
		if got := s.mustDocker("image", "inspect", "-f", "{{index .RepoDigests 0}}", ref); got != r.Image("team/demo@")+id {
			t.Errorf("RepoDigests: %s", got)
		}
	}
	s.client = ""
	s.mustDocker("rmi", "-f", id)
	if got := s.mustDocker("run", "--rm", r.Image("team/demo:1"), "echo", "pulled as needed"); got != "pulled as needed" {
		t.Errorf("docker run of what is in the registry alone: %q", got)
	}
	contains(t, "docker pull -a", s.mustDocker("pull", "-a", r.Image("team/demo")), "1: Pulling from team/demo", "2: Pulling from team/demo")
	byDigest := r.Image("team/demo@") + id
	s.mustDocker("pull", byDigest)
	s.mustDocker("rmi", r.Image("team/demo:1"))
	contains(t, "docker images", s.mustDocker("images", "--digests", "--filter", "reference="+r.Image("team/demo")), "2", id)
	refused := s.docker(nil, "pull", r.Image("nosuch:1"))
	if refused.Code == 0 || !strings.Contains(refused.Stderr, "manifest for "+r.Image("nosuch:1")+" not found") {
		t.Errorf("docker pull of what is not there: %+v", refused)
	}
	if got := s.docker(nil, "push", r.Image("nosuch:1")); got.Code == 0 || !strings.Contains(got.Stderr, "An image does not exist locally with the tag: "+r.Image("nosuch")) {
		t.Errorf("docker push of what is not there: %+v", got)
	}
	contains(t, "docker manifest", s.mustDocker("manifest", "inspect", "--insecure", r.Image("team/demo:2")), "schemaVersion")
	// Another platform of an image that is here is pulled as needed, too.
	own, err := lab.MakeImage(v1.Config{Cmd: []string{"true"}}, rootfs())
	other, otherErr := lab.MakeImageFor(v1.Platform{OS: "linux", Architecture: "s390x"}, v1.Config{Cmd: []string{"true"}}, lab.RandomLayer("x", 1<<10))
	index, indexErr := lab.MakeIndex(map[string]v1.Image{"linux/" + goruntime.GOARCH: own, "linux/s390x": other})
	if err := errors.Join(err, otherErr, indexErr, r.Write("multi:1", index)); err != nil {
		t.Fatal(err)
	}
	s.mustDocker("run", "--rm", r.Image("multi:1"))
	if got := s.docker(nil, "create", "--platform", "linux/s390x", "--name", "foreign", r.Image("multi:1")); got.Code != 0 || !strings.Contains(got.Stderr, "Unable to find image") {
		t.Errorf("docker create for another platform: %+v", got)
	}
	s.mustDocker("rm", "foreign")
	s.mustDocker("run", "--rm", r.Image("multi:1"))
	happened := s.told("--filter", "type=image", "--format", "{{.Action}} {{.Actor.ID}}")
	contains(t, "docker events", happened, "import "+id, "tag "+id, "push "+r.Image("team/demo:1"), "untag "+id, "delete "+id, "pull "+r.Image("team/demo:2"))
	s.consistent()
}

// TestDockerLogin: what docker login keeps lets its client in, by TLS, with a
// password or a token; without it nobody gets in.
func TestDockerLogin(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	tokens := s.host.Registry(lab.RegistryOptions{Address: host4 + ":5443", TLS: true, User: "me", Password: "secret", Tokens: true})
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Env: []string{"SSL_CERT_FILE=" + tokens.CA}})
	s.importImage("demo")
	basic := s.host.Registry(lab.RegistryOptions{User: "me", Password: "secret"})
	for _, r := range []*lab.Registry{basic, tokens} {
		ref := r.Image("private/demo:1")
		s.mustDocker("tag", "demo", ref)
		if got := s.docker(nil, "push", ref); got.Code == 0 || !strings.Contains(got.Stderr, "unauthorized") {
			t.Errorf("docker push without a login: %+v", got)
		}
		if got := s.docker([]byte("wrong"), "login", "-u", "me", "--password-stdin", r.Host); got.Code == 0 || !strings.Contains(got.Stderr, "unauthorized") {
			t.Errorf("docker login with another password: %+v", got)
		}
		if got := s.docker([]byte("secret"), "login", "-u", "me", "--password-stdin", r.Host); got.Code != 0 || !strings.Contains(got.Stdout, "Login Succeeded") {
			t.Errorf("docker login: %+v", got)
		}
		s.mustDocker("push", ref)
		s.mustDocker("rmi", ref)
		s.mustDocker("pull", ref)
		s.mustDocker("rmi", ref)
		if got := s.mustDocker("run", "--rm", ref, "echo", "private"); got != "private" {
			t.Errorf("docker run: %q", got)
		}
		s.mustDocker("logout", r.Host)
		s.mustDocker("rmi", ref)
		if got := s.docker(nil, "pull", ref); got.Code == 0 || !strings.Contains(got.Stderr, "pull access denied for "+r.Image("private/demo")) {
			t.Errorf("docker pull after the logout: %+v", got)
		}
	}
	// A certificate of an authority that nobody knows.
	other := s.host.Registry(lab.RegistryOptions{Address: host4 + ":5444", TLS: true})
	if got := s.docker(nil, "pull", other.Image("demo:1")); got.Code == 0 || !strings.Contains(got.Stderr, "certificate signed by unknown authority") {
		t.Errorf("docker pull by a certificate of nobody known: %+v", got)
	}
	s.consistent()
}

// TestMirrorsAndInsecureRegistries: images of Docker Hub come from the mirror; what
// is named insecure may have any certificate, or none.
func TestMirrorsAndInsecureRegistries(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	mirror := s.host.Registry(lab.RegistryOptions{})
	plain := s.host.Registry(lab.RegistryOptions{Address: host4 + ":5001"})
	anybody := s.host.Registry(lab.RegistryOptions{Address: host4 + ":5002", TLS: true})
	closed := s.host.Registry(lab.RegistryOptions{Address: second4 + ":5003"})
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Args: []string{
		"--registry-mirror", "http://" + mirror.Host, "--insecure-registry", plain.Host, "--insecure-registry", host4 + "/32",
	}})
	img, err := lab.MakeImage(v1.Config{Cmd: []string{"echo", "mirrored"}}, rootfs())
	if err != nil {
		t.Fatal(err)
	}
	for r, name := range map[*lab.Registry]string{mirror: "library/hello:1", plain: "hello:1", anybody: "hello:1", closed: "hello:1"} {
		if err := r.Write(name, img); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.mustDocker("run", "--rm", "hello:1"); got != "mirrored" {
		t.Errorf("docker run: %q", got)
	}
	s.mustDocker("pull", plain.Image("hello:1"))
	s.mustDocker("pull", anybody.Image("hello:1"))
	if got := s.docker(nil, "pull", closed.Image("hello:1")); got.Code == 0 || !strings.Contains(got.Stderr, "server gave HTTP response to HTTPS client") {
		t.Errorf("docker pull without TLS from a registry elsewhere: %+v", got)
	}
}

// TestPullIsCutOff: a pull goes on after its connection breaks, ends with its client,
// and after the daemon was killed the next begins where it was.
func TestPullIsCutOff(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	var cuts, slow atomic.Int32
	var sent atomic.Int64
	r := s.host.Registry(lab.RegistryOptions{Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/") {
				w = &spoiled{ResponseWriter: w, cut: cuts.Add(-1) >= 0, slow: slow.Load() > 0, sent: &sent}
			}
			next.ServeHTTP(w, req)
		})
	}})
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{})
	write := func(name string) string {
		img, err := lab.MakeImage(v1.Config{}, lab.RandomLayer(name, 4<<20))
		if err == nil {
			err = r.Write(name+":1", img)
		}
		if err != nil {
			t.Fatal(err)
		}
		return r.Image(name + ":1")
	}
	first, second, third := write("first"), write("second"), write("third")
	cuts.Store(3)
	s.mustDocker("pull", first)
	if cuts.Load() > 0 {
		t.Error("no connection was cut")
	}
	cuts.Store(0)

	slow.Store(1)
	ctx, cancel := context.WithCancel(t.Context())
	cmd := s.dockerCommand(ctx, "pull", second)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	sent.Store(0)
	eventually(t, "the layer is on its way", func() bool { return sent.Load() > 1<<20 })
	cancel()
	_ = cmd.Wait()
	eventually(t, "nothing is sent any more", func() bool {
		before := sent.Load()
		time.Sleep(300 * time.Millisecond)
		return sent.Load() == before
	})
	if got := s.mustDocker("images", "-q", second); got != "" {
		t.Errorf("a part of an image has a name: %s", got)
	}

	done := make(chan lab.Result, 1)
	go func() { done <- s.docker(nil, "pull", third) }()
	sent.Store(0)
	eventually(t, "the layer is on its way", func() bool { return sent.Load() > 5<<19 })
	s.Kill()
	if got := <-done; got.Code == 0 {
		t.Errorf("docker pull while the daemon is killed: %+v", got)
	}
	s.Start()
	slow.Store(0)
	sent.Store(0)
	s.mustDocker("pull", third)
	if n := sent.Load(); n > 7<<19 {
		t.Errorf("%d bytes were sent again of 4 MiB", n)
	}
	s.mustDocker("pull", second)
	s.consistent()
}

// spoiled is an answer that is cut off after a part of it, or slow.
type spoiled struct {
	http.ResponseWriter
	cut, slow bool
	n         int
	sent      *atomic.Int64
}

func (s *spoiled) Write(b []byte) (int, error) {
	const step = 32 << 10
	done := 0
	for len(b) > 0 {
		if s.cut && s.n > 256<<10 {
			panic(http.ErrAbortHandler)
		}
		if s.slow {
			time.Sleep(10 * time.Millisecond)
		}
		n, err := s.ResponseWriter.Write(b[:min(step, len(b))])
		done, s.n, b = done+n, s.n+n, b[n:]
		s.sent.Add(int64(n))
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// TestDockerSaveAndLoad: archives go from one daemon's images to files and back, whole,
// compressed, and of several images.
func TestDockerSaveAndLoad(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dir := s.lab.Dir("archives")
	s.importImage("other", `CMD ["echo","other"]`)
	s.mustDocker("tag", "other", "other:2")
	id := s.mustDocker("image", "inspect", "-f", "{{.Id}}", "other")
	file := filepath.Join(dir, "both.tar")
	s.mustDocker("save", "-o", file, "demo", "other")
	s.mustDocker("rmi", "-f", id)
	contains(t, "docker load", s.mustDocker("load", "-i", file), "Loaded image: demo:latest", "Loaded image: other:latest", "Loaded image: other:2")
	if got := s.mustDocker("run", "--rm", "other:2"); got != "other" {
		t.Errorf("what was loaded says %q", got)
	}
	if got := s.mustDocker("image", "inspect", "-f", "{{.Id}}", "other"); got != id {
		t.Errorf("it came back as %s, was %s", got, id)
	}
	plain, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s.mustDocker("rmi", "-f", id)
	if got := s.docker(compressed(t, plain), "load", "-q"); got.Code != 0 || !strings.Contains(got.Stdout, "Loaded image: other:2") {
		t.Errorf("docker load of a compressed archive: %+v", got)
	}
	byID := s.docker(nil, "save", id)
	s.mustDocker("rmi", "-f", id)
	if got := s.docker([]byte(byID.Stdout), "load"); got.Code != 0 || !strings.Contains(got.Stdout, "Loaded image ID: "+id) {
		t.Errorf("docker load of an image without a name: %+v", got)
	}
	contains(t, "docker history", s.mustDocker("history", "--no-trunc", id), id)
	if got := s.docker(nil, "save", "demo", "nosuch"); got.Code == 0 || !strings.Contains(got.Stderr, "No such image: nosuch") {
		t.Errorf("docker save of what is not there: %+v", got)
	}
	if got := s.docker(plain[:len(plain)/2], "load"); got.Code == 0 {
		t.Errorf("docker load of half an archive: %+v", got)
	}
	got := s.mustDocker("image", "prune", "-f")
	contains(t, "docker image prune", got, "deleted: "+id, "Total reclaimed space: ")
	s.mustDocker("tag", "demo", "unused:1")
	contains(t, "docker image prune -a", s.mustDocker("image", "prune", "-af"), "untagged: unused:1", "untagged: demo:latest")
	s.consistent()
}
