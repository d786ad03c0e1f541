package image

import (
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestChange(t *testing.T) {
	t.Parallel()
	got, err := Change(dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{Env: []string{"A=0", "Z=1"}}}, []string{
		`CMD ["sh", "-c", "x"]`, "entrypoint /bin/run it", `ENV A=1 B="two words" C='3'`, "ENV OLD style value", "LABEL a.b=c",
		"EXPOSE 80 53/udp", `VOLUME ["/a", "/b"]`, "VOLUME /c /d", "USER me", "WORKDIR /w", "STOPSIGNAL INT", "ONBUILD RUN x",
	})
	want := dockerspec.DockerOCIImageConfig{
		ImageConfig: ocispec.ImageConfig{
			Cmd: []string{"sh", "-c", "x"}, Entrypoint: []string{"/bin/sh", "-c", "/bin/run it"},
			Env: []string{"Z=1", "A=1", "B=two words", "C=3", "OLD=style value"}, Labels: map[string]string{"a.b": "c"},
			ExposedPorts: map[string]struct{}{"80/tcp": {}, "53/udp": {}},
			Volumes:      map[string]struct{}{"/a": {}, "/b": {}, "/c": {}, "/d": {}},
			User:         "me", WorkingDir: "/w", StopSignal: "INT",
		},
		DockerOCIImageConfigExt: dockerspec.DockerOCIImageConfigExt{OnBuild: []string{"RUN x"}},
	}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v -want +got\n%s", err, d)
	}
	for _, bad := range []string{"", "CMD", "FROM x", "EXPOSE 0", "EXPOSE a", "EXPOSE 1/x", "ENV A", `ENV A="x`, "LABEL a=b c"} {
		if _, err := Change(dockerspec.DockerOCIImageConfig{}, []string{bad}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestFamiliar(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"docker.io/library/demo:latest": "demo:latest", "docker.io/a/b:1": "a/b:1", "example.org/x:2": "example.org/x:2", nameless + "sha256:00": "",
	} {
		if got := familiar(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
