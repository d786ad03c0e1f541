package engine

import (
	"context"
	"fmt"
	"net"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	apievents "github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	apiregistry "github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"

	"github.com/fairlead/fairlead/internal/lab"
)

// newRegistry is a registry on the loopback, gone with the test.
func newRegistry(t *testing.T, o lab.RegistryOptions) *lab.Registry {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r, err := lab.NewRegistry(l, t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// runs is an image that runs: a busybox, packed once for all tests.
var runs = sync.OnceValues(func() (v1.Image, error) {
	return lab.MakeImage(v1.Config{Cmd: []string{"cat", "/app"}, Labels: map[string]string{"k": "v"}}, host.image)
})

// app is an image that runs, of the layers upon a busybox.
func app(t *testing.T, layers ...[]byte) v1.Image {
	t.Helper()
	img, err := runs()
	if err != nil {
		t.Fatal(err)
	}
	upper, err := lab.MakeImage(v1.Config{}, layers...)
	if err != nil {
		t.Fatal(err)
	}
	upon, err := upper.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range upon {
		add := mutate.Addendum{Layer: l, History: v1.History{CreatedBy: fmt.Sprintf("layer %d", i+1)}, MediaType: types.OCILayer}
		if img, err = mutate.Append(img, add); err != nil {
			t.Fatal(err)
		}
	}
	return img
}

// steps takes the progress of a pull or push.
type steps struct {
	mu  sync.Mutex
	all []jsonstream.Message
}

func (s *steps) take(m jsonstream.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, m)
}

// of are the statuses of one ID, each once, in order.
func (s *steps) of(id string) (out []string) {
	for _, m := range s.all {
		if m.ID == id && !slices.Contains(out, m.Status) {
			out = append(out, m.Status)
		}
	}
	return out
}

// streams are the texts to be shown as they are.
func (s *steps) streams() (out string) {
	for _, m := range s.all {
		out += m.Stream
	}
	return out
}

func (f *fixture) pull(ref string, auth ...apiregistry.AuthConfig) *steps {
	f.t.Helper()
	s := &steps{}
	req := PullRequest{Ref: ref, Progress: s.take}
	if len(auth) > 0 {
		req.Auth = auth[0]
	}
	if err := f.ImagePull(f.t.Context(), req); err != nil {
		f.t.Fatal(err)
	}
	return s
}

func TestPull(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := newRegistry(t, lab.RegistryOptions{})
	heard := f.events.Listen()
	img := app(t, lab.FileLayer("app", []byte("pulled\n")), lab.RandomLayer("big", 3<<20))
	f.ok(r.Write("team/app:1", img))
	ref := r.Image("team/app:1")
	s := f.pull(ref)
	layers, _ := img.Layers()
	for _, l := range layers[1:] {
		d, _ := l.Digest()
		got := s.of(d.Hex[:12])
		got = slices.DeleteFunc(got, func(s string) bool { return s == "Downloading" || s == "Waiting" })
		if !slices.Equal(got, []string{"Pulling fs layer", "Download complete", "Extracting", "Pull complete"}) {
			t.Errorf("layer %s: %q", d.Hex[:12], got)
		}
	}
	d, _ := img.Digest()
	if got := s.of("1"); !slices.Equal(got, []string{"Pulling from team/app"}) {
		t.Errorf("%q", got)
	}
	if got := s.of(""); !slices.Equal(got, []string{"Digest: " + d.String(), "Status: Downloaded newer image for " + ref}) {
		t.Errorf("%q", got)
	}
	if out, code := f.run(func(q *CreateRequest) { q.Config.Image, q.Config.Cmd = ref, nil }); out != "pulled\n" || code != 0 {
		t.Error(out, code)
	}
	messages, _ := heard.Ready()
	if m := messages[0]; m.Type != apievents.ImageEventType || m.Action != apievents.ActionPull || m.Actor.ID != ref ||
		m.Actor.Attributes["name"] != strings.TrimSuffix(ref, ":1") || m.Actor.Attributes["k"] != "v" {
		t.Errorf("%+v", m)
	}
	// What is there is not fetched again.
	before := len(r.Asked())
	s = f.pull(ref)
	if got := s.of(""); !slices.Equal(got, []string{"Digest: " + d.String(), "Status: Image is up to date for " + ref}) {
		t.Errorf("%q", got)
	}
	for _, l := range layers {
		d, _ := l.Digest()
		if got := s.of(d.Hex[:12]); !slices.Equal(got, []string{"Already exists"}) {
			t.Errorf("%q", got)
		}
	}
	if asked := r.Asked()[before:]; len(asked) != 1 || !strings.HasPrefix(asked[0], "HEAD ") {
		t.Errorf("%q", asked)
	}
	// A newer image takes the name; the older stays without one.
	f.ok(r.Write("team/app:1", app(t, lab.FileLayer("app", []byte("newer\n")))))
	f.pull(ref)
	if out, _ := f.run(func(q *CreateRequest) { q.Config.Image, q.Config.Cmd = ref, nil }); out != "newer\n" {
		t.Error(out)
	}
	if got := tags(t, f, map[string][]string{"dangling": {"true"}}); len(got) != 1 || got[d.String()] == nil {
		t.Errorf("dangling: %v", got)
	}
	// By digest, and all tags.
	f.ok(r.Write("team/app:2", app(t, lab.FileLayer("app", []byte("second\n")))))
	byDigest := strings.TrimSuffix(ref, ":1") + "@" + d.String()
	f.pull(byDigest)
	if got := must(f.ImageInspect(t.Context(), byDigest, ImageInspectOptions{})); got.ID != d.String() || !slices.Equal(got.RepoDigests, []string{byDigest}) || len(got.RepoTags) != 0 {
		t.Errorf("%+v", got)
	}
	// What was pulled by a tag is found by its digest, which is taken away alone.
	second := strings.TrimSuffix(ref, ":1") + "@" + must(f.ImageInspect(t.Context(), ref, ImageInspectOptions{})).ID
	if got := must(f.ImageInspect(t.Context(), second, ImageInspectOptions{})); !slices.Equal(got.RepoTags, []string{ref}) {
		t.Errorf("%+v", got)
	}
	if got := must(f.ImageRemove(t.Context(), second, false)); len(got) != 1 || got[0].Untagged != second {
		t.Errorf("%+v", got)
	}
	if got := must(f.ImageInspect(t.Context(), ref, ImageInspectOptions{})); len(got.RepoDigests) != 0 {
		t.Errorf("%+v", got)
	}
	if _, err := f.ImageInspect(t.Context(), second, ImageInspectOptions{}); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	f.pull(strings.TrimSuffix(ref, ":1"))
	if got := must(f.ImageInspect(t.Context(), r.Image("team/app:2"), ImageInspectOptions{})); !slices.Equal(got.RepoTags, []string{r.Image("team/app:2")}) {
		t.Errorf("%+v", got)
	}
}

func TestPullPlatforms(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := newRegistry(t, lab.RegistryOptions{})
	other, err := lab.MakeImageFor(v1.Platform{OS: "linux", Architecture: "s390x"}, v1.Config{}, lab.FileLayer("s390x", []byte("x")))
	f.ok(err)
	index, err := lab.MakeIndex(map[string]v1.Image{"linux/s390x": other, "linux/" + goruntime.GOARCH: app(t)})
	f.ok(err)
	f.ok(r.Write("multi:1", index))
	ref := r.Image("multi:1")
	f.pull(ref)
	d, _ := index.Digest()
	got := must(f.ImageInspect(t.Context(), ref, ImageInspectOptions{}))
	if got.ID != d.String() || got.Architecture != goruntime.GOARCH {
		t.Errorf("%+v", got)
	}
	err = f.ImagePull(t.Context(), PullRequest{Ref: ref, Platform: "linux/riscv64"})
	if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "no matching manifest for linux/riscv64 in the manifest list entries") {
		t.Error(err)
	}
	f.ok(r.Write("single:1", other))
	err = f.ImagePull(t.Context(), PullRequest{Ref: r.Image("single:1"), Platform: "linux/riscv64"})
	if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "does not match the specified platform: wanted linux/riscv64, actual: linux/s390x") {
		t.Error(err)
	}
	if err := f.ImagePull(t.Context(), PullRequest{Ref: ref, Platform: "nonsense/a/b/c"}); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
	f.ok(f.ImagePull(t.Context(), PullRequest{Ref: ref, Platform: "linux/s390x"}))
	if _, err := f.runtime.Client().ContentStore().Info(t.Context(), digest.Digest(must(other.Digest()).String())); err != nil {
		t.Errorf("the other platform's manifest: %v", err)
	}
}

func TestPullRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := newRegistry(t, lab.RegistryOptions{})
	for ref, want := range map[string]string{
		r.Image("nosuch:1"): "manifest for " + r.Image("nosuch:1") + " not found: manifest unknown",
		r.Image("nosuch"):   "",
	} {
		if err := f.ImagePull(t.Context(), PullRequest{Ref: ref}); !errdefs.IsNotFound(err) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	for _, bad := range []string{"UPPER", "", "a b", r.Image("x@sha256:00")} {
		if err := f.ImagePull(t.Context(), PullRequest{Ref: bad}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	r.Close()
	if err := f.ImagePull(t.Context(), PullRequest{Ref: r.Image("x:1")}); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Error(err)
	}
	if got, err := f.images.List(context.Background()); err != nil || len(got) != 1 {
		t.Error(got, err)
	}
}

func TestPullWithAuth(t *testing.T) {
	t.Parallel()
	for _, tokens := range []bool{false, true} {
		t.Run(fmt.Sprintf("tokens=%v", tokens), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			r := newRegistry(t, lab.RegistryOptions{User: "me", Password: "secret", Tokens: tokens})
			f.ok(r.Write("private:1", app(t, lab.RandomLayer("x", 1<<10))))
			ref := r.Image("private:1")
			for _, auth := range []apiregistry.AuthConfig{{}, {Username: "me", Password: "wrong"}} {
				err := f.ImagePull(t.Context(), PullRequest{Ref: ref, Auth: auth})
				if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "pull access denied for "+r.Image("private")) || !strings.Contains(err.Error(), "docker login") {
					t.Errorf("%+v: %v", auth, err)
				}
			}
			f.pull(ref, apiregistry.AuthConfig{Username: "me", Password: "secret"})
			f.pull(r.Image("private"), apiregistry.AuthConfig{Username: "me", Password: "secret"})
			if tokens {
				f.pull(ref, apiregistry.AuthConfig{IdentityToken: "a-token-of-the-lab"})
				f.pull(ref, apiregistry.AuthConfig{RegistryToken: "a-token-of-the-lab"})
				if err := f.ImagePull(t.Context(), PullRequest{Ref: ref, Auth: apiregistry.AuthConfig{RegistryToken: "wrong"}}); !errdefs.IsNotFound(err) {
					t.Error(err)
				}
			}
		})
	}
}
