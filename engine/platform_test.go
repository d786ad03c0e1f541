package engine

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fairlead/fairlead/engine/image"
)

func TestCheckPlatform(t *testing.T) {
	t.Parallel()
	var arm image.Image
	arm.Config.Platform = ocispec.Platform{OS: "linux", Architecture: "arm64"}
	for asked, says := range map[string]string{
		"": "", "linux/arm64": "", "linux/arm64/v8": "", "linux/amd64": "image demo is of linux/arm64, not of the platform asked for (linux/amd64)",
		"windows/arm64": "not of the platform asked for", "li nux/x": `invalid platform "li nux/x"`,
	} {
		err := checkPlatform(asked, "demo", arm)
		if (err == nil) != (says == "") || err != nil && (!errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), says)) {
			t.Errorf("%q: %v, want %q", asked, err, says)
		}
	}
}

// TestCreateForPlatform: the request's platform is looked at.
func TestCreateForPlatform(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	req := CreateRequest{Platform: "plan9/mips"}
	id := f.create(func(r *CreateRequest) { req.Config = r.Config }, "true")
	if _, err := f.Create(t.Context(), req); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "plan9/mips") {
		t.Errorf("%v", err)
	}
	f.ok(f.Start(t.Context(), id))
}
