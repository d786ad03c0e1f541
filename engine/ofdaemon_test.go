package engine

import (
	"reflect"
	"slices"
	"testing"

	"github.com/moby/moby/api/types/container"
)

func TestDefaultsOfTheDaemon(t *testing.T) {
	t.Parallel()
	limit := func(name string, hard int64) *container.Ulimit {
		return &container.Ulimit{Name: name, Soft: 1, Hard: hard}
	}
	d := Defaults{
		Ulimits: []*container.Ulimit{limit("nofile", 10), limit("nproc", 20)}, ShmSize: 1 << 20, IpcMode: "shareable", CgroupnsMode: "host",
		CgroupParent: "/others", NoNewPrivileges: true, SeccompProfile: "{}",
	}
	var h container.HostConfig
	d.record(&h)
	if h.ShmSize != 1<<20 || h.IpcMode != "shareable" || h.CgroupnsMode != "host" || len(h.Ulimits) > 0 {
		t.Errorf("recorded %+v", h)
	}
	run := d.atRun(&h)
	if len(run.Ulimits) != 2 || run.CgroupParent != "/others" || !slices.Equal(run.SecurityOpt, []string{"no-new-privileges", "seccomp={}"}) {
		t.Errorf("runs with %+v", run)
	}
	if len(h.Ulimits) > 0 || len(h.SecurityOpt) > 0 || h.CgroupParent != "" {
		t.Errorf("what runs is recorded: %+v", h)
	}
	own := container.HostConfig{
		ShmSize: 2, IpcMode: "private", CgroupnsMode: "private", SecurityOpt: []string{"no-new-privileges=false", "seccomp=unconfined"},
		Resources: container.Resources{CgroupParent: "/mine", Ulimits: []*container.Ulimit{limit("nofile", 5)}},
	}
	same := own
	d.record(&own)
	if !reflect.DeepEqual(own, same) {
		t.Errorf("changed to %+v", own)
	}
	run = d.atRun(&own)
	if len(run.Ulimits) != 2 || run.Ulimits[0].Hard != 5 || run.Ulimits[1].Name != "nproc" || run.CgroupParent != "/mine" || !slices.Equal(run.SecurityOpt, own.SecurityOpt) {
		t.Errorf("its own: %+v", run)
	}
	if got := (Defaults{}).atRun(&container.HostConfig{Privileged: true}); len(got.SecurityOpt)+len(got.Ulimits) > 0 {
		t.Errorf("without defaults: %+v", got)
	}
	if got := d.atRun(&container.HostConfig{Privileged: true}); !slices.Equal(got.SecurityOpt, []string{"no-new-privileges"}) {
		t.Errorf("privileged: %+v", got.SecurityOpt)
	}
}

// TestShownOfOldRecords: what an earlier build left open is shown as it is meant.
func TestShownOfOldRecords(t *testing.T) {
	t.Parallel()
	h := (&Engine{}).shownHostConfig(Record{HostConfig: &container.HostConfig{}})
	if h.RestartPolicy.Name != "no" || h.ShmSize != 64<<20 || h.IpcMode != "private" || h.CgroupnsMode != "host" {
		t.Errorf("%+v", h)
	}
}
