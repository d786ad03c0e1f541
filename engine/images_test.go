package engine

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	apiimage "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
)

func TestImages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	first := f.must(f.ImageImport(ctx, bytes.NewReader(host.image), "example.org/app:1", []string{"ENV A=1", "LABEL k=v", "EXPOSE 80"}, "made by hand", ""))
	f.ok(f.ImageTag(ctx, "example.org/app:1", "app"))
	r, err := f.ImageInspect(ctx, "app", ImageInspectOptions{})
	f.ok(err)
	if r.ID != first || !slices.Equal(r.RepoTags, []string{"app:latest", "example.org/app:1"}) || r.Comment != "made by hand" ||
		r.Os != "linux" || r.Config.Env[0] != "A=1" || len(r.RootFS.Layers) != 1 || r.Size < 1<<20 {
		t.Errorf("%+v", r)
	}
	for _, ref := range []string{first, first[7:], first[7:15], "example.org/app:1", "app:latest"} {
		if r, err := f.ImageInspect(ctx, ref, ImageInspectOptions{}); err != nil || r.ID != first {
			t.Errorf("%s: %s %v", ref, r.ID, err)
		}
	}
	for ref, want := range map[string]string{"nonesuch": "No such image: nonesuch:latest", "a/b:c": "No such image: a/b:c"} {
		if _, err := f.ImageInspect(ctx, ref, ImageInspectOptions{}); !errdefs.IsNotFound(err) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	for _, ref := range []string{"UPPER", "a b", "", "a:b:c"} {
		if _, err := f.ImageInspect(ctx, ref, ImageInspectOptions{}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", ref, err)
		}
	}
	// A name that goes to another image leaves the first without it.
	second := f.must(f.ImageImport(ctx, bytes.NewReader(host.image), "app", []string{"ENV A=2"}, "", ""))
	f.ok(f.ImageTag(ctx, first, "temporary"))
	if got := tags(t, f, nil)[first]; !slices.Equal(got, []string{"example.org/app:1", "temporary:latest"}) {
		t.Errorf("first is %v", got)
	}
	third := f.must(f.ImageImport(ctx, bytes.NewReader(host.image), "app", []string{"ENV A=3"}, "", ""))
	if got := tags(t, f, map[string][]string{"dangling": {"true"}}); len(got) != 1 || len(got[second]) != 0 {
		t.Errorf("dangling: %v", got)
	}
	for filter, want := range map[string]string{"reference=app": third, "reference=example.org/*": first, "label=k=v": first} {
		key, value, _ := strings.Cut(filter, "=")
		if got := tags(t, f, map[string][]string{key: {value}}); len(got) != 1 || got[want] == nil {
			t.Errorf("%s: %v", filter, got)
		}
	}
	if _, err := f.ImageList(ctx, ImageListOptions{Filters: map[string][]string{"nonsense": nil}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("unknown filter: %v", err)
	}
}

func tags(t *testing.T, f *fixture, filters map[string][]string) map[string][]string {
	t.Helper()
	list, err := f.ImageList(t.Context(), ImageListOptions{Filters: filters})
	f.ok(err)
	out := make(map[string][]string)
	for _, s := range list {
		out[s.ID] = s.RepoTags
	}
	return out
}

func TestImageRemove(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	id := f.must(f.ImageImport(ctx, bytes.NewReader(host.image), "a", nil, "", ""))
	f.ok(f.ImageTag(ctx, "a", "b"))
	if _, err := f.ImageRemove(ctx, id, false); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "must be forced") {
		t.Errorf("by ID with two names: %v", err)
	}
	got, err := f.ImageRemove(ctx, "b", false)
	if d := cmp.Diff([]apiimage.DeleteResponse{{Untagged: "b:latest"}}, got); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}
	of := func(r *CreateRequest) { r.Config.Image = "a" }
	c := f.create(of, "sleep", "1000")
	if _, err := f.ImageRemove(ctx, "a", false); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "container "+c[:12]+" is using its referenced image") {
		t.Errorf("in use: %v", err)
	}
	f.ok(f.Start(ctx, c))
	if _, err := f.ImageRemove(ctx, id, true); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "cannot be forced") {
		t.Errorf("in use by a running container: %v", err)
	}
	f.ok(f.Stop(ctx, c, StopOptions{Timeout: new(int)}))
	got, err = f.ImageRemove(ctx, "a", true)
	if d := cmp.Diff([]apiimage.DeleteResponse{{Untagged: "a:latest"}, {Deleted: id}}, got); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}
	f.ok(f.Start(ctx, c)) // it still has its root
	f.ok(f.Remove(ctx, c, RemoveOptions{Force: true}))
	if _, err := f.ImageRemove(ctx, "a", false); !errdefs.IsNotFound(err) {
		t.Errorf("twice: %v", err)
	}
	if _, err := f.Create(ctx, CreateRequest{Config: &container.Config{Image: "a"}}); !errdefs.IsNotFound(err) || !strings.HasPrefix(err.Error(), "No such image: a:latest") {
		t.Errorf("create: %v", err)
	}
}

func TestImageLoad(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	var saved bytes.Buffer
	f.ok(f.runtime.Client().Export(ctx, &saved, archive.WithImage(f.runtime.Client().ImageService(), "docker.io/library/demo:latest")))
	want := must(f.ImageInspect(ctx, "demo", ImageInspectOptions{})).ID
	must(f.ImageRemove(ctx, "demo", true))
	told := &steps{}
	err := f.ImageLoad(ctx, LoadRequest{Archive: &saved, Progress: told.take})
	if err != nil || told.streams() != "Loaded image: demo:latest\n" {
		t.Fatal(told.all, err)
	}
	if got := must(f.ImageInspect(ctx, "demo", ImageInspectOptions{})).ID; got != want {
		t.Errorf("loaded %s, saved %s", got, want)
	}
	if out, code := f.run(nil, "echo", "loaded"); out != "loaded\n" || code != 0 {
		t.Error(out, code)
	}
}

func TestBadArchives(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	for name, r := range map[string]io.Reader{
		"empty": strings.NewReader(""), "no archive": strings.NewReader(strings.Repeat("no archive ", 200)),
		"torn": bytes.NewReader(host.image[:len(host.image)/2]),
	} {
		if id, err := f.ImageImport(ctx, r, "bad", nil, "", ""); !errdefs.IsInvalidArgument(err) {
			t.Errorf("import of %s: %s %v", name, id, err)
		} else if name == "no archive" && !strings.Contains(err.Error(), "not a tar archive") {
			t.Errorf("import of %s does not say so: %v", name, err)
		}
		if err := f.ImageLoad(ctx, LoadRequest{Archive: strings.NewReader("no archive")}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("load of %s: %v", name, err)
		}
	}
	for _, change := range []string{"NONSENSE x", "ENV", "EXPOSE 70000", `ENV A="b`} {
		if _, err := f.ImageImport(ctx, bytes.NewReader(host.image), "bad", []string{change}, "", ""); !errdefs.IsInvalidArgument(err) {
			t.Errorf("change %s: %v", change, err)
		}
	}
	if _, err := f.ImageImport(ctx, bytes.NewReader(host.image), "BAD", nil, "", ""); !errdefs.IsInvalidArgument(err) {
		t.Errorf("bad name: %v", err)
	}
	if _, err := f.ImageInspect(ctx, "bad", ImageInspectOptions{}); !errdefs.IsNotFound(err) {
		t.Errorf("a bad archive has left an image: %v", err)
	}
}

func TestNetworks(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	made, err := f.NetworkCreate(ctx, network.CreateRequest{Name: "red", Attachable: true, Labels: map[string]string{"k": "v"}, IPAM: &network.IPAM{
		Config: []network.IPAMConfig{{Subnet: mustPrefix("10.9.0.0/24"), Gateway: mustPrefix("10.9.0.1/32").Addr()}},
	}})
	f.ok(err)
	list := func(filters map[string][]string) (out []string) {
		all, err := f.NetworkList(ctx, filters)
		f.ok(err)
		for _, n := range all {
			out = append(out, n.Name)
		}
		return out
	}
	for _, tc := range []struct {
		key, value string
		want       []string
	}{
		{"driver", "bridge", []string{"bridge", "red"}},
		{"name", "re", []string{"red"}},
		{"name", "^re$", nil},
		{"name", "^red$", []string{"red"}},
		{"name", "^(red|bridge)$", []string{"bridge", "red"}},
		{"id", made.ID[:8], []string{"red"}},
		{"id", "^" + made.ID[:8], []string{"red"}},
		{"label", "k=v", []string{"red"}},
		{"type", "builtin", []string{"bridge", "host", "none"}},
		{"type", "custom", []string{"red"}},
		{"scope", "local", []string{"bridge", "host", "none", "red"}},
		{"dangling", "true", []string{"red"}},
	} {
		if d := cmp.Diff(tc.want, list(map[string][]string{tc.key: {tc.value}})); d != "" {
			t.Errorf("%s=%s: %s", tc.key, tc.value, d)
		}
	}
	for key, bad := range map[string]string{"name": "re(d", "id": "[", "type": "nonsense", "dangling": "perhaps", "colour": "red"} {
		if _, err := f.NetworkList(ctx, map[string][]string{key: {bad}}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), key) {
			t.Errorf("%s=%s: %v", key, bad, err)
		}
	}
	n, err := f.NetworkInspect(ctx, "red")
	f.ok(err)
	if n.IPAM.Config[0].Subnet.String() != "10.9.0.0/24" || n.Scope != "local" || !n.Attachable {
		t.Errorf("%+v", n)
	}
	for _, name := range []string{"bridge", "host", "none"} {
		if err := f.NetworkRemove(ctx, name); !errdefs.IsPermissionDenied(err) || !strings.HasPrefix(err.Error(), name+" is a pre-defined network and cannot be removed") {
			t.Errorf("remove %s: %v", name, err)
		}
	}
	for _, bad := range []network.CreateRequest{{Name: "host"}, {Name: "default"}} {
		if _, err := f.NetworkCreate(ctx, bad); !errdefs.IsPermissionDenied(err) {
			t.Errorf("create %s: %v", bad.Name, err)
		}
	}
	for says, bad := range map[string]network.CreateRequest{
		"Ingress is not supported: it is for the services of a swarm": {Ingress: true}, "Scope is not supported: it is for": {Scope: "swarm"},
		"ConfigOnly is not supported: it is for": {ConfigOnly: true}, "ConfigFrom is not supported: it is for": {ConfigFrom: &network.ConfigReference{Network: "red"}},
		"dhcp": {IPAM: &network.IPAM{Driver: "dhcp"}},
	} {
		bad.Name = "x"
		if _, err := f.NetworkCreate(ctx, bad); !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := f.NetworkInspect(ctx, "blue"); !errdefs.IsNotFound(err) || !strings.HasPrefix(err.Error(), "network blue not found") {
		t.Errorf("%v", err)
	}
	f.ok(f.NetworkRemove(ctx, "red"))
}

func TestCreateWithSeveralNetworks(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	for _, name := range []string{"red", "blue"} {
		must(f.NetworkCreate(ctx, network.CreateRequest{Name: name, IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: mustPrefix("10.9.0.0/24")}}}}))
	}
	id := f.create(func(r *CreateRequest) {
		r.HostConfig.NetworkMode = "red"
		r.NetworkingConfig = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{
			"red": {Aliases: []string{"r"}}, "blue": nil,
		}}
	}, "sleep", "1000")
	f.ok(f.Start(ctx, id))
	a, _ := f.network.Attachment(id)
	if len(a.Endpoints) != 2 || a.Endpoints[0].Network != "red" || a.Endpoints[1].Network != "blue" {
		t.Fatalf("%+v", a.Endpoints)
	}
	if s := must(f.Inspect(ctx, id, false)).NetworkSettings; len(s.Networks) != 2 || s.Networks["red"].Aliases[0] != "r" {
		t.Errorf("%+v", s.Networks)
	}
	ask := func(mode string, e map[string]*network.EndpointSettings) error {
		_, err := f.Create(context.Background(), CreateRequest{
			Config: &container.Config{Image: "demo"}, HostConfig: &container.HostConfig{NetworkMode: container.NetworkMode(mode)},
			NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: e},
		})
		return err
	}
	fixed := &network.EndpointSettings{IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: mustPrefix("172.17.0.9/32").Addr()}}
	if err := ask("bridge", map[string]*network.EndpointSettings{"bridge": fixed}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("address on the default network: %v", err)
	}
	if err := ask("red", map[string]*network.EndpointSettings{"red": {Links: []string{"a:b:c"}}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("link: %v", err)
	}
	if err := ask("red", map[string]*network.EndpointSettings{"green": nil}); !errdefs.IsNotFound(err) {
		t.Errorf("unknown network: %v", err)
	}
	if err := ask("none", map[string]*network.EndpointSettings{"red": nil}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("network beside none: %v", err)
	}
}

func TestInfo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.network.warnings = []string{"IPv4 forwarding is disabled. Networking will not work."}
	id := f.create(nil, "sleep", "1000")
	f.create(nil, "true")
	f.ok(f.Start(t.Context(), id))
	i, err := f.Info(t.Context())
	f.ok(err)
	if i.Containers != 2 || i.ContainersRunning != 1 || i.Images != 1 || i.NCPU < 1 || i.ContainerdCommit.ID == "" ||
		i.KernelVersion == "" || i.OperatingSystem == "" || len(i.Warnings) != 1 || i.MemTotal < 1<<20 {
		t.Errorf("%+v", i)
	}
	r, err := f.Create(t.Context(), CreateRequest{Config: &container.Config{Image: "demo"}})
	if err != nil || !slices.Equal(r.Warnings, f.network.warnings) {
		t.Errorf("%v %v", r.Warnings, err)
	}
}

func mustPrefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
