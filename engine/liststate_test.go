package engine

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
)

// names are those of the containers that are listed.
func (f *fixture) names(opts ListOptions) []string {
	f.t.Helper()
	list, err := f.List(f.t.Context(), opts)
	f.ok(err)
	var got []string
	for _, c := range list {
		got = append(got, c.Names[0][1:])
	}
	return got
}

// TestListByState: health, volumes, images that others stand on, and what is of
// swarms and Windows alone.
func TestListByState(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.must(f.ImageImport(t.Context(), bytes.NewReader(host.image), "other", []string{`CMD ["sh"]`, "LABEL a=b"}, "", ""))
	named := func(name string, change func(r *Record)) {
		c, err := f.registry.find(f.create(func(r *CreateRequest) { r.Name = name }, "sleep", "1000"))
		f.ok(err)
		c.update(change)
	}
	named("sick", func(r *Record) {
		r.State.Health = &container.Health{Status: container.Unhealthy, FailingStreak: 4}
		r.Mounts = []container.MountPoint{{Type: "volume", Name: "data", Source: "/x/data/_data", Destination: "/data"}}
	})
	named("well", func(r *Record) {
		r.State.Health = &container.Health{Status: container.Healthy}
		r.Mounts = []container.MountPoint{{Type: "bind", Source: "/srv", Destination: "/www"}, {Type: "tmpfs", Destination: "/tmp"}}
	})
	named("plain", func(*Record) {})
	for _, tc := range []struct {
		key    string
		values []string
		want   []string
	}{
		{"health", []string{"unhealthy"}, []string{"sick"}},
		{"health", []string{"healthy", "none"}, []string{"plain", "well"}},
		{"health", []string{"starting"}, nil},
		{"volume", []string{"data"}, []string{"sick"}},
		{"volume", []string{"/data", "/srv"}, []string{"well", "sick"}},
		{"volume", []string{"/www"}, []string{"well"}},
		{"volume", []string{"/x/data/_data", "", "dat"}, nil},
		{"is-task", []string{"false"}, []string{"plain", "well", "sick"}},
		{"is-task", []string{"1"}, nil},
		{"isolation", []string{"default"}, []string{"plain", "well", "sick"}},
		{"isolation", []string{"hyperv"}, nil},
		{"ancestor", []string{"demo"}, []string{"plain", "well", "sick"}},
	} {
		if d := cmp.Diff(tc.want, f.names(all(filter(tc.key, tc.values...)))); d != "" {
			t.Errorf("%s=%v: -want +got\n%s", tc.key, tc.values, d)
		}
	}
	f.must(f.Commit(t.Context(), "plain", CommitOptions{Name: "child"}))
	f.create(func(r *CreateRequest) { r.Name, r.Config.Image = "heir", "child" }, "true")
	for ancestor, want := range map[string][]string{"child": {"heir"}, "demo": {"heir", "plain", "well", "sick"}} {
		if d := cmp.Diff(want, f.names(all(filter("ancestor", ancestor)))); d != "" {
			t.Errorf("ancestor=%s: -want +got\n%s", ancestor, d)
		}
	}
	for _, bad := range []ListOptions{filter("health", "ill"), filter("is-task", "maybe"), filter("isolation", "total")} {
		if _, err := f.List(t.Context(), bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	list, err := f.List(t.Context(), ListOptions{All: true, Size: true})
	f.ok(err)
	for i, want := range []container.HealthSummary{{Status: "none"}, {Status: "none"}, {Status: "healthy"}, {Status: "unhealthy", FailingStreak: 4}} {
		if *list[i].Health != want || list[i].SizeRootFs <= list[i].SizeRw {
			t.Errorf("%s: %+v, sizes %d and %d", list[i].Names, *list[i].Health, list[i].SizeRw, list[i].SizeRootFs)
		}
	}
}

func TestStatusOfEachState(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := State{Running: true, StartedAt: now.Add(-2 * time.Minute)}
	health := func(status container.HealthStatus) State {
		s := s
		s.Health = &container.Health{Status: status}
		return s
	}
	paused := s
	paused.Paused = true
	ended := State{ExitCode: 3, StartedAt: now.Add(-time.Hour), FinishedAt: now.Add(-3 * time.Hour)}
	again := ended
	again.Restarting = true
	for want, state := range map[string]State{
		"Up 2 minutes (healthy)": health("healthy"), "Up 2 minutes (health: starting)": health("starting"),
		"Up 2 minutes (unhealthy)": health("unhealthy"), "Up 2 minutes (Paused)": paused,
		"Restarting (3) 3 hours ago": again,
	} {
		if got := statusText(state, now); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := statusText(health("none"), now); strings.Contains(got, "(") {
		t.Errorf("a check that was turned off is shown: %q", got)
	}
}
