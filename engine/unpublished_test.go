package engine

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// TestUnpublishedIsSaid: whoever publishes ports where there is no way in learns it
// when the container is made.
func TestUnpublishedIsSaid(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	must(f.NetworkCreate(t.Context(), network.CreateRequest{Name: "vault", Internal: true}))
	port, _ := network.ParsePort("80/tcp")
	for name, c := range map[string]struct {
		mode container.NetworkMode
		also string
		open bool
		want string
	}{
		"internal":             {"vault", "", false, "reachable nowhere while the container is on internal networks alone"},
		"internal and another": {"vault", "bridge", false, ""},
		"nothing published":    {"vault", "", true, ""},
		"bridge":               {"bridge", "", false, ""},
		"none":                 {"none", "", false, "discarded when using none network mode"},
		"host":                 {"host", "", false, "discarded when using host network mode"},
	} {
		req := CreateRequest{
			Config:     &container.Config{Image: "demo", Cmd: []string{"true"}},
			HostConfig: &container.HostConfig{NetworkMode: c.mode},
		}
		if !c.open {
			req.HostConfig.PortBindings = network.PortMap{port: {{HostPort: "8080"}}}
		}
		if c.also != "" {
			req.NetworkingConfig = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{"vault": {}, c.also: {}}}
		}
		made := must(f.Create(t.Context(), req))
		said := strings.Join(made.Warnings, "\n")
		if said != c.want && (c.want == "" || !strings.Contains(said, c.want)) {
			t.Errorf("%s: %q, want %q", name, said, c.want)
		}
	}
}

// TestWhoKeepsANetwork: one that cannot be removed since others share the network of a
// container that was on it names those.
func TestWhoKeepsANetwork(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	f.networks("red")
	red := func(name, mode string) string {
		id := f.create(func(r *CreateRequest) { r.Name, r.HostConfig.NetworkMode = name, container.NetworkMode(mode) }, "sleep", "1000")
		f.ok(f.Start(ctx, id))
		return id
	}
	first := red("first", "red")
	second := red("second", "container:first")
	f.ok(f.Stop(ctx, first, StopOptions{Timeout: new(int)}))
	err := f.NetworkRemove(ctx, "red")
	if !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "that of first, which does not run, is kept by who shares its network: second") {
		t.Errorf("%v", err)
	}
	f.ok(f.Stop(ctx, second, StopOptions{Timeout: new(int)}))
	f.ok(f.NetworkRemove(ctx, "red"))
}
