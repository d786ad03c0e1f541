package engine

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/fairlead/fairlead/network/spec"
)

func TestLinkVariables(t *testing.T) {
	t.Parallel()
	ports := []spec.ContainerPort{{Proto: "udp", Port: 53}, {Proto: "tcp", Port: 8080}, {Proto: "tcp", Port: 8081}}
	got := linkVariables("/b2/my-db", "my-db", "172.17.0.2", ports, []string{"PATH=/bin", "HOME=/", "A=1", "B="})
	want := []string{
		"MY_DB_PORT=udp://172.17.0.2:53",
		"MY_DB_PORT_8080_TCP_START=tcp://172.17.0.2:8080", "MY_DB_PORT_8080_TCP_END=tcp://172.17.0.2:8081",
		"MY_DB_PORT_53_UDP=udp://172.17.0.2:53", "MY_DB_PORT_53_UDP_ADDR=172.17.0.2", "MY_DB_PORT_53_UDP_PORT=53", "MY_DB_PORT_53_UDP_PROTO=udp",
		"MY_DB_PORT_8080_TCP=tcp://172.17.0.2:8080", "MY_DB_PORT_8080_TCP_ADDR=172.17.0.2", "MY_DB_PORT_8080_TCP_PORT=8080", "MY_DB_PORT_8080_TCP_PROTO=tcp",
		"MY_DB_PORT_8081_TCP=tcp://172.17.0.2:8081", "MY_DB_PORT_8081_TCP_ADDR=172.17.0.2", "MY_DB_PORT_8081_TCP_PORT=8081", "MY_DB_PORT_8081_TCP_PROTO=tcp",
		"MY_DB_NAME=/b2/my-db", "MY_DB_ENV_A=1", "MY_DB_ENV_B=",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseLink(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"b1": "b1 b1", "b1:x": "b1 x", "/b1:/b2/x": "b1 x", "": "!", ":x": "!", "b1:": "!", "b1:a:b": "!", "b1:a b": "!",
	} {
		name, alias, err := parseLink(in)
		if got := name + " " + alias; (err != nil) != (want == "!") || (err == nil && got != want) {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

// TestLinks: a linked container finds the other in its environment and its hosts
// file, which follows.
func TestLinks(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	port, _ := network.ParsePort("80/tcp")
	b1 := f.create(func(r *CreateRequest) {
		r.Name, r.Config.ExposedPorts = "b1", network.PortSet{port: {}}
	}, "sleep", "1000")
	b2 := f.create(func(r *CreateRequest) { r.Name, r.HostConfig.Links = "b2", []string{"b1:db"} }, "sh", "-c", "env; sleep 1000")
	if err := f.Start(ctx, b2); err == nil || !strings.Contains(err.Error(), "Cannot link to a non running container: /b1 AS /b2/db") {
		t.Errorf("%v", err)
	}
	f.ok(f.Start(ctx, b1))
	f.ok(f.Start(ctx, b2))
	eventually(t, "the environment", func() bool { return strings.Contains(f.output(b2), "DB_PORT_80_TCP=tcp://172.17.0.2:80\n") })
	c, _ := f.registry.find("b2/db")
	if c == nil || c.id != b1 {
		t.Errorf("b2/db is %v", c)
	}
	hosts := func() string {
		text, err := readIfThere(f.mountedFiles(f.recordOf(b2))["/etc/hosts"])
		f.ok(err)
		return string(text)
	}
	if got := hosts(); !strings.Contains(got, "172.17.0.2\tdb "+short(b1)+" b1\n") {
		t.Errorf("%s", got)
	}
	f.ok(f.Restart(ctx, b1, StopOptions{Timeout: new(int)}))
	if got := hosts(); !strings.Contains(got, "172.17.0.4\tdb "+short(b1)+" b1\n") || strings.Contains(got, "172.17.0.2\t") {
		t.Errorf("%s", got)
	}
	f.ok(f.Remove(ctx, b1, RemoveOptions{Force: true}))
	if got := f.recordOf(b2).Links; len(got) > 0 {
		t.Errorf("%v", got)
	}
}

// TestLinkToOneYetToCome: on an own network a link leads to whoever gets the name, as
// in Docker; on the default one it is to a container that is there.
func TestLinkToOneYetToCome(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	f.networks("red", "blue")
	web := f.create(func(r *CreateRequest) {
		r.Name, r.HostConfig.NetworkMode, r.HostConfig.Links = "web", "red", []string{"db:store"}
	}, "sleep", "1000")
	f.ok(f.Start(ctx, web))
	f.ok(f.NetworkConnect(ctx, "blue", network.ConnectRequest{Container: web, EndpointConfig: &network.EndpointSettings{Links: []string{"db"}}}))
	leads := func(want ...spec.Link) {
		t.Helper()
		a, _ := f.network.Attachment(web)
		for i, e := range a.Endpoints {
			if i < len(want) && (len(e.Links) != 1 || e.Links[0].Sandbox != want[i].Sandbox || e.Links[0].Alias != want[i].Alias) || len(want) == 0 && len(e.Links) > 0 {
				t.Errorf("on %s: %+v, want %+v", e.Network, e.Links, want)
			}
		}
	}
	leads()
	db := f.create(func(r *CreateRequest) { r.Name, r.HostConfig.NetworkMode = "db", "red" }, "sleep", "1000")
	f.ok(f.Start(ctx, db))
	leads(spec.Link{Sandbox: db, Alias: "store"}, spec.Link{Sandbox: db, Alias: "db"})
	f.ok(f.Restart(ctx, web, StopOptions{Timeout: new(int)}))
	leads(spec.Link{Sandbox: db, Alias: "store"}, spec.Link{Sandbox: db, Alias: "db"})
	for _, bad := range []string{"", "db:", "db:a:b"} {
		err := f.NetworkConnect(ctx, "bridge", network.ConnectRequest{Container: db, EndpointConfig: &network.EndpointSettings{Links: []string{bad}}})
		if err == nil || !strings.Contains(err.Error(), "bad format for links: "+bad) {
			t.Errorf("link %q: %v", bad, err)
		}
	}
	_, err := f.Create(ctx, CreateRequest{Config: &container.Config{Image: "demo"}, HostConfig: &container.HostConfig{Links: []string{"nosuch"}}})
	if err == nil || !strings.Contains(err.Error(), "could not get container for nosuch") {
		t.Errorf("a link on the default network to nobody: %v", err)
	}
	f.clean()
}

func (f *fixture) recordOf(id string) Record {
	f.t.Helper()
	c, err := f.registry.find(id)
	f.ok(err)
	return c.record()
}
