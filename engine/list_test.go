package engine

import (
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

func TestListFilters(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	labelled := func(name, label string) func(*CreateRequest) {
		return func(r *CreateRequest) { r.Name = name; r.Config.Labels = map[string]string{"tier": label} }
	}
	web := f.create(labelled("web", "front"), "sleep", "1000")
	db := f.create(labelled("db", "back"), "sh", "-c", "exit 3")
	f.create(labelled("webmail", "front"), "sleep", "1000")
	f.ok(f.Start(ctx, web))
	ended := must(f.Wait(ctx, db, container.WaitConditionNextExit))
	f.ok(f.Start(ctx, db))
	<-ended
	for _, tc := range []struct {
		opts ListOptions
		want []string
	}{
		{ListOptions{}, []string{"web"}},
		{ListOptions{All: true}, []string{"webmail", "db", "web"}},
		{ListOptions{Limit: 2}, []string{"webmail", "db"}},
		{filter("status", "exited"), []string{"db"}},
		{filter("status", "created", "running"), []string{"webmail", "web"}},
		{filter("exited", "3"), []string{"db"}},
		{filter("exited", "4"), nil},
		{all(filter("name", "web")), []string{"webmail", "web"}},
		{all(filter("name", "^/web$")), []string{"web"}},
		{all(filter("name", "^web$", "^d.$")), []string{"db", "web"}},
		{all(filter("label", "tier=front")), []string{"webmail", "web"}},
		{all(filter("label", "tier")), []string{"webmail", "db", "web"}},
		{all(filter("id", db[:6])), []string{"db"}},
		{all(filter("before", "webmail")), []string{"db", "web"}},
		{all(filter("since", "web")), []string{"webmail", "db"}},
		{all(filter("network", "bridge")), []string{"webmail", "db", "web"}},
		{all(filter("network", "none")), nil},
		{all(filter("ancestor", "demo")), []string{"webmail", "db", "web"}},
		{all(filter("ancestor", "nonesuch")), nil},
	} {
		list, err := f.List(ctx, tc.opts)
		f.ok(err)
		var got []string
		for _, c := range list {
			got = append(got, c.Names[0][1:])
		}
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%+v: -want +got\n%s", tc.opts, d)
		}
	}
	for _, bad := range []ListOptions{
		filter("nonsense", "x"), filter("status", "nonsense"), filter("exited", "x"), filter("name", "we(b"),
		filter("publish", "8080:80"), filter("publish", "0"), filter("expose", "90-80"), filter("expose", "80/icmp"), filter("expose", "http"),
	} {
		if _, err := f.List(ctx, bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// TestPortFilters: published and exposed ports of those that run are looked for.
func TestPortFilters(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	port := func(text string) network.Port { return must(network.ParsePort(text)) }
	serving := func(name, private, public string) string {
		id := f.create(func(r *CreateRequest) {
			r.Name, r.Config.ExposedPorts = name, network.PortSet{port(private): {}}
			if public != "" {
				r.HostConfig.PortBindings = network.PortMap{port(private): {{HostPort: public}}}
			}
		}, "sleep", "1000")
		f.ok(f.Start(ctx, id))
		return id
	}
	serving("web", "80/tcp", "8080")
	serving("names", "53/udp", "5353")
	serving("db", "5432/tcp", "")
	f.ok(f.Stop(ctx, serving("stopped", "81/tcp", "8081"), StopOptions{Timeout: new(int)}))
	for _, tc := range []struct {
		opts ListOptions
		want []string
	}{
		{filter("publish", "8080"), []string{"web"}},
		{filter("publish", "8080/tcp"), []string{"web"}},
		{filter("publish", "8080/udp"), nil},
		{filter("publish", "80"), nil},
		{filter("publish", "5000-6000/UDP", "8080"), []string{"names", "web"}},
		{filter("publish", "5432"), nil},
		{filter("expose", "80"), []string{"web"}},
		{filter("expose", "1-65535"), []string{"db", "web"}},
		{all(filter("publish", "8081")), nil},
		{ListOptions{Filters: map[string][]string{"publish": {"8080"}, "expose": {"5432"}}}, []string{"db", "web"}},
		{ListOptions{Filters: map[string][]string{"publish": {"8080"}, "name": {"db"}}}, nil},
	} {
		list, err := f.List(ctx, tc.opts)
		f.ok(err)
		var got []string
		for _, c := range list {
			got = append(got, c.Names[0][1:])
		}
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%+v: -want +got\n%s", tc.opts, d)
		}
	}
}

func filter(key string, values ...string) ListOptions {
	return ListOptions{Filters: map[string][]string{key: values}}
}

func all(o ListOptions) ListOptions {
	o.All = true
	return o
}
