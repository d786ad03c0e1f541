package image

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestSound(t *testing.T) {
	t.Parallel()
	good := ocispec.Descriptor{Digest: digest.FromString("x"), Size: 1}
	layers := func(n int) []ocispec.Descriptor {
		out := make([]ocispec.Descriptor, n)
		for i := range out {
			out[i] = good
		}
		return out
	}
	if err := sound(ocispec.Manifest{Config: good, Layers: layers(127)}); err != nil {
		t.Error(err)
	}
	if err := sound(ocispec.Manifest{Config: good, Layers: layers(128)}); !errdefs.IsInvalidArgument(err) || !strings.HasPrefix(err.Error(), "max depth exceeded") {
		t.Error(err)
	}
	for _, d := range []digest.Digest{"x", "", "sha256", "sha256:", "sha256:12", digest.Digest("md5:" + strings.Repeat("0", 32))} {
		bad := ocispec.Descriptor{Digest: d, Size: 1}
		for _, m := range []ocispec.Manifest{{Config: bad}, {Config: good, Layers: []ocispec.Descriptor{bad}}} {
			if err := sound(m); !errdefs.IsInvalidArgument(err) {
				t.Errorf("%q: %v", d, err)
			}
		}
	}
	if err := sound(ocispec.Manifest{Config: ocispec.Descriptor{Digest: good.Digest, Size: -1}}); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
}
