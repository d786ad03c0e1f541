package engine

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestCreateForPlatform: a container is of the platform asked for; where the image has
// nothing for it the client is told in the words by which it knows to pull.
func TestCreateForPlatform(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	req := CreateRequest{}
	id := f.create(func(r *CreateRequest) { req.Config = r.Config }, "true")
	for platform, want := range map[string]struct {
		kind func(error) bool
		says string
	}{
		"plan9/mips": {errdefs.IsNotFound, "image with reference demo:latest was found but does not match the specified platform: wanted plan9/mips"},
		"li nux/x":   {errdefs.IsInvalidArgument, `invalid platform "li nux/x"`},
	} {
		req.Platform = platform
		if _, err := f.Create(t.Context(), req); !want.kind(err) || !strings.Contains(err.Error(), want.says) {
			t.Errorf("%s: %v", platform, err)
		}
	}
	f.ok(f.Start(t.Context(), id))
	// An image of several is taken for the one that is asked for, if that is here.
	r := newRegistry(t, lab.RegistryOptions{})
	other, err := lab.MakeImageFor(v1.Platform{OS: "linux", Architecture: "s390x"}, v1.Config{Cmd: []string{"true"}}, lab.RandomLayer("s390x", 1<<10))
	f.ok(err)
	index, err := lab.MakeIndex(map[string]v1.Image{"linux/s390x": other})
	f.ok(err)
	f.ok(r.Write("multi:1", index))
	f.ok(f.ImagePull(t.Context(), PullRequest{Ref: r.Image("multi:1"), Platform: "linux/s390x"}))
	req = CreateRequest{Platform: "linux/s390x", Config: req.Config}
	req.Config.Image, req.Config.Cmd = r.Image("multi:1"), nil
	made, err := f.Create(t.Context(), req)
	f.ok(err)
	if got := must(f.Inspect(t.Context(), made.ID, false)).Config.Cmd; len(got) != 1 || got[0] != "true" {
		t.Errorf("command %q", got)
	}
	if got := must(f.ImageInspect(t.Context(), r.Image("multi:1"), ImageInspectOptions{})); got.Architecture != "s390x" {
		t.Errorf("without a platform: %s", got.Architecture)
	}
}
