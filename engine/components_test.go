package engine

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInitVersion(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][2]string{
		"tini version 0.19.0 - git.de40ad0\n": {"0.19.0", "de40ad0"},
		"tini version 0.19.0\n":               {"0.19.0", ""},
		"0.1":                                 {"0.1", ""},
		"":                                    {"", ""},
	} {
		version, commit := parseInitVersion(text)
		if diff := cmp.Diff(want, [2]string{version, commit}); diff != "" {
			t.Errorf("%q: -want +got\n%s", text, diff)
		}
	}
}

// TestInfoCounts: containers are counted by how they are, and what runs them is named.
func TestInfoCounts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for name, state := range map[string]State{
		"a": {}, "b": {Running: true}, "c": {Running: true, Paused: true}, "d": {Restarting: true}, "e": {ExitCode: 1},
	} {
		c, err := f.registry.find(f.create(func(r *CreateRequest) { r.Name = name }, "true"))
		f.ok(err)
		was := c.record().State
		c.update(func(r *Record) { r.State = state })
		t.Cleanup(func() { c.update(func(r *Record) { r.State = was }) })
	}
	info, err := f.Info(t.Context())
	f.ok(err)
	got := []int{info.Containers, info.ContainersRunning, info.ContainersPaused, info.ContainersStopped, info.Images, info.NEventsListener}
	if diff := cmp.Diff([]int{5, 2, 1, 2, 1, 0}, got); diff != "" {
		t.Errorf("containers, running, paused, stopped, images, listeners: -want +got\n%s", diff)
	}
	if info.InitBinary != "docker-init" || info.ContainerdCommit.ID == "" || info.RuncCommit.ID == "" || info.NFd < 3 || info.Plugins.Volume[0] != "local" || !uuid.MatchString(info.ID) {
		t.Errorf("%+v", info)
	}
	var names []string
	for _, c := range f.Components(t.Context()) {
		names = append(names, c.Name)
		if c.Version == "" {
			t.Errorf("%s has no version", c.Name)
		}
	}
	if len(names) < 2 || names[0] != "containerd" || names[1] != "runc" {
		t.Errorf("%v", names)
	}
}
