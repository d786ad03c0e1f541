package engine

import (
	"bytes"
	"encoding/json"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	apievents "github.com/moby/moby/api/types/events"
	apiregistry "github.com/moby/moby/api/types/registry"

	"github.com/fairlead/fairlead/internal/lab"
)

func (f *fixture) push(ref string, auth ...apiregistry.AuthConfig) *steps {
	f.t.Helper()
	s := &steps{}
	req := PushRequest{Ref: ref, Progress: s.take}
	if len(auth) > 0 {
		req.Auth = auth[0]
	}
	if err := f.ImagePush(f.t.Context(), req); err != nil {
		f.t.Fatal(err)
	}
	return s
}

func TestPush(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := newRegistry(t, lab.RegistryOptions{})
	heard := f.events.Listen()
	ref := r.Image("out/demo:1")
	f.ok(f.ImageTag(t.Context(), "demo", ref))
	if got := must(f.ImageInspect(t.Context(), ref, ImageInspectOptions{})); len(got.RepoDigests) != 0 {
		t.Errorf("no registry has it, and yet %q", got.RepoDigests)
	}
	id := must(f.ImageInspect(t.Context(), "demo", ImageInspectOptions{})).ID
	s := f.push(ref)
	layer := s.all[1].ID
	if got := slices.DeleteFunc(s.of(layer), func(s string) bool { return s == "Pushing" }); !slices.Equal(got, []string{"Preparing", "Pushed"}) {
		t.Errorf("%q", got)
	}
	lines := s.of("")
	if lines[0] != "The push refers to repository ["+r.Image("out/demo")+"]" || !strings.HasPrefix(lines[1], "1: digest: "+id+" size: ") {
		t.Errorf("%q", lines)
	}
	var aux struct{ Tag, Digest string }
	if last := s.all[len(s.all)-1]; last.Aux == nil || json.Unmarshal(*last.Aux, &aux) != nil || aux.Tag != "1" || aux.Digest != id {
		t.Errorf("%+v", last)
	}
	if d, err := r.Digest("out/demo:1"); err != nil || d != id {
		t.Errorf("the registry has %s %v, want %s", d, err, id)
	}
	if got := must(f.ImageInspect(t.Context(), "demo", ImageInspectOptions{})).RepoDigests; !slices.Equal(got, []string{r.Image("out/demo") + "@" + id}) {
		t.Errorf("%q", got)
	}
	if got := f.push(ref).of(layer); !slices.Equal(got, []string{"Preparing", "Layer already exists"}) {
		t.Errorf("again: %q", got)
	}
	messages, _ := heard.Ready()
	pushes := 0
	for _, m := range messages {
		if m.Action == apievents.ActionPush && m.Actor.ID == ref {
			pushes++
		}
	}
	if pushes != 2 {
		t.Errorf("%d events of pushes", pushes)
	}
	// All tags, and another repository, which need not be sent the layer.
	f.ok(f.ImageTag(t.Context(), "demo", r.Image("out/demo:2")))
	f.push(r.Image("out/demo"))
	if d, err := r.Digest("out/demo:2"); err != nil || d != id {
		t.Error(d, err)
	}
	// It comes back as it went.
	must(f.ImageRemove(t.Context(), id, true))
	f.pull(ref)
	if got := must(f.ImageInspect(t.Context(), ref, ImageInspectOptions{})).ID; got != id {
		t.Errorf("%s came back, %s went", got, id)
	}
	for bad, kind := range map[string]func(error) bool{
		r.Image("nosuch:1"): errdefs.IsNotFound, r.Image("nosuch"): errdefs.IsNotFound, "UPPER": errdefs.IsInvalidArgument,
		r.Image("out/demo") + "@" + id: errdefs.IsInvalidArgument,
	} {
		if err := f.ImagePush(t.Context(), PushRequest{Ref: bad}); !kind(err) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestPushWithAuth(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, tokens := range []bool{false, true} {
		r := newRegistry(t, lab.RegistryOptions{User: "me", Password: "secret", Tokens: tokens})
		ref := r.Image("private:1")
		f.must(f.ImageImport(t.Context(), bytes.NewReader(lab.RandomLayer("x", 1<<10)), ref, nil, "", ""))
		good := apiregistry.AuthConfig{Username: "me", Password: "secret", ServerAddress: r.Host}
		bad := apiregistry.AuthConfig{Username: "me", Password: "wrong", ServerAddress: "http://" + r.Host + "/v2/"}
		for _, auth := range []apiregistry.AuthConfig{{}, bad} {
			if err := f.ImagePush(t.Context(), PushRequest{Ref: ref, Auth: auth}); !errdefs.IsUnauthorized(err) || !strings.Contains(err.Error(), "docker login "+r.Host) {
				t.Errorf("%+v: %v", auth, err)
			}
		}
		f.push(ref, good)
		if token, err := f.Login(t.Context(), good); err != nil || (token != "") != tokens {
			t.Errorf("login: %q %v", token, err)
		}
		if _, err := f.Login(t.Context(), bad); !errdefs.IsUnauthorized(err) || !strings.Contains(err.Error(), "unauthorized") {
			t.Errorf("login: %v", err)
		}
		if got, err := f.DistributionInspect(t.Context(), ref, good); err != nil || got.Descriptor.Digest.String() != must(f.ImageInspect(t.Context(), ref, ImageInspectOptions{})).ID || len(got.Platforms) != 1 {
			t.Errorf("%+v %v", got, err)
		}
		if _, err := f.DistributionInspect(t.Context(), ref, bad); !errdefs.IsNotFound(err) {
			t.Error(err)
		}
	}
	if _, err := f.Login(t.Context(), apiregistry.AuthConfig{ServerAddress: "a b"}); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
}

func TestRegistryWithTLS(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := newRegistry(t, lab.RegistryOptions{TLS: true})
	f.ok(r.Write("x:1", app(t, lab.RandomLayer("x", 1<<10))))
	f.pull(r.Image("x:1")) // on the loopback any certificate will do
	ref := r.Image("y:1")
	f.ok(f.ImageTag(t.Context(), r.Image("x:1"), ref))
	f.push(ref)
	got, err := f.DistributionInspect(t.Context(), ref, apiregistry.AuthConfig{})
	if err != nil || got.Descriptor.Digest.String() != must(f.ImageInspect(t.Context(), ref, ImageInspectOptions{})).ID {
		t.Error(got, err)
	}
}

func TestPushOfOnePlatform(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := newRegistry(t, lab.RegistryOptions{})
	other, err := lab.MakeImageFor(v1.Platform{OS: "linux", Architecture: "s390x"}, v1.Config{}, lab.RandomLayer("s390x", 1<<10))
	f.ok(err)
	own := app(t, lab.RandomLayer("own", 1<<10))
	index, err := lab.MakeIndex(map[string]v1.Image{"linux/s390x": other, "linux/" + goruntime.GOARCH: own})
	f.ok(err)
	f.ok(r.Write("multi:1", index))
	f.pull(r.Image("multi:1"))
	f.ok(f.ImageTag(t.Context(), r.Image("multi:1"), r.Image("part:1")))
	s := f.push(r.Image("part:1"))
	d, _ := own.Digest()
	if got, err := r.Digest("part:1"); err != nil || got != d.String() {
		t.Errorf("%s %v, want %s", got, err, d)
	}
	if !slices.ContainsFunc(s.of(""), func(l string) bool { return strings.HasPrefix(l, "Not all multiplatform-content is present") }) {
		t.Errorf("%q", s.of(""))
	}
	// With all of it here, all of it goes.
	f.ok(f.ImagePull(t.Context(), PullRequest{Ref: r.Image("multi:1"), Platform: "linux/s390x"}))
	f.push(r.Image("part:1"))
	whole, _ := index.Digest()
	if got, err := r.Digest("part:1"); err != nil || got != whole.String() {
		t.Errorf("%s %v, want %s", got, err, whole)
	}
	if err := f.ImagePush(t.Context(), PushRequest{Ref: r.Image("part:1"), Platform: "linux/riscv64"}); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
}
