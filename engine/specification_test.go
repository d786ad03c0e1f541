package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"
)

// with changes the host configuration of what is created.
func with(change func(*container.HostConfig)) func(*CreateRequest) {
	return func(r *CreateRequest) { change(r.HostConfig) }
}

// up starts a container that sleeps.
func (f *fixture) up(change func(*CreateRequest)) string {
	f.t.Helper()
	id := f.create(change, "sleep", "300")
	f.ok(f.Start(f.t.Context(), id))
	return id
}

// TestSharedIPC: containers that share it have each other's /dev/shm and semaphores,
// also after the daemon was killed; others cannot have them.
func TestSharedIPC(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	ipc := func(mode string) func(*CreateRequest) {
		return with(func(h *container.HostConfig) { h.IpcMode = container.IpcMode(mode) })
	}
	donor := f.create(func(r *CreateRequest) { ipc("shareable")(r); r.Name, r.HostConfig.ShmSize = "donor", 1<<20 }, "sh", "-c", "echo here >/dev/shm/f; exec sleep 300")
	f.ok(f.Start(ctx, donor))
	look := "df -k /dev/shm | awk 'NR==2 {print $2}'; while ! cat /dev/shm/f; do sleep 0.1; done; readlink /proc/self/ns/ipc"
	want := fmt.Sprintf("1024\nhere\n%s\n", f.namespace(donor, "ipc"))
	if out, _ := f.run(ipc("container:donor"), "sh", "-c", look); out != want {
		t.Errorf("%q, want %q", out, want)
	}
	if got, err := f.Inspect(ctx, f.create(ipc("container:donor"), "true"), false); err != nil || got.HostConfig.IpcMode != container.IpcMode("container:"+donor) {
		t.Errorf("inspect: %v %v", got.HostConfig.IpcMode, err)
	}
	f.crash()
	f.begin()
	if out, _ := f.run(ipc("container:donor"), "sh", "-c", look); out != want {
		t.Errorf("after a crash: %q, want %q", out, want)
	}
	guest := f.create(ipc("container:donor"), "true")
	f.ok(f.Kill(ctx, donor, "KILL"))
	eventually(t, "it ends", func() bool { return !f.state(donor).Running })
	if left := leftBehind(f.hostMountsDir(donor)); left != "" {
		t.Errorf("left mounted: %s", left)
	}
	if err := f.Start(ctx, guest); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "cannot join IPC of a non running container: "+donor) {
		t.Error(err)
	}
	private := f.up(ipc("private"))
	req := CreateRequest{Config: &container.Config{Image: "demo"}, HostConfig: &container.HostConfig{IpcMode: container.IpcMode("container:" + private)}}
	if _, err := f.Create(ctx, req); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "non-shareable IPC") {
		t.Error(err)
	}
	if out, _ := f.run(ipc("none"), "sh", "-c", "grep -c ' /dev/shm ' /proc/mounts"); out != "0\n" {
		t.Errorf("none: %q", out)
	}
	f.clean()
}

// namespace is the running container's namespace of the kind.
func (f *fixture) namespace(id, kind string) string {
	f.t.Helper()
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", f.state(id).Pid, kind))
	f.ok(err)
	return link
}

// TestSharedPID: a container sees the processes of the one it joins, and ends with it.
func TestSharedPID(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pid := func(mode string) func(*CreateRequest) {
		return with(func(h *container.HostConfig) { h.PidMode = container.PidMode(mode) })
	}
	first := f.up(nil)
	if out, code := f.run(pid("container:"+first), "sh", "-c", "tr '\\0' ' ' </proc/1/cmdline"); code != 0 || out != "sleep 300 " {
		t.Errorf("%q %d", out, code)
	}
	second := f.up(pid("container:" + first))
	f.ok(f.Kill(t.Context(), first, "KILL"))
	eventually(t, "both end", func() bool { return !f.state(second).Running })
	if err := f.Start(t.Context(), second); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "cannot join PID of a non running container") {
		t.Error(err)
	}
	req := CreateRequest{Config: &container.Config{Image: "demo"}, HostConfig: &container.HostConfig{PidMode: "container:nosuch"}}
	if _, err := f.Create(t.Context(), req); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	f.clean()
}

// TestDevices: a container gets the devices it is given, to do what it may with them.
func TestDevices(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	dir := filepath.Join(f.cfg.DataRoot, "devices")
	f.ok(os.MkdirAll(dir, 0o755))
	for name, minor := range map[string]uint32{"zero": 5, "null": 3} {
		f.ok(unix.Mknod(filepath.Join(dir, name), unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))))
	}
	given := func(d ...container.DeviceMapping) func(*CreateRequest) {
		return with(func(h *container.HostConfig) { h.Devices, h.CapAdd = d, []string{"SYSLOG"} })
	}
	out, _ := f.run(given(container.DeviceMapping{PathOnHost: "/dev/kmsg", PathInContainer: "/dev/log7", CgroupPermissions: "r"}), "sh", "-c",
		": </dev/log7 && echo read; (: >/dev/log7) 2>/dev/null || echo no")
	if out != "read\nno\n" {
		t.Errorf("%q", out)
	}
	if out, _ := f.run(given(container.DeviceMapping{PathOnHost: dir, PathInContainer: "/dev/all"}), "sh", "-c", "ls /dev/all; head -c 3 /dev/all/zero | wc -c"); out != "null\nzero\n3\n" {
		t.Errorf("a directory: %q", out)
	}
	if out, _ := f.run(nil, "sh", "-c", "(: </tmp/k) 2>/dev/null || mknod /tmp/k c 1 11 2>/dev/null; (: </tmp/k) 2>/dev/null || echo no"); out != "no\n" {
		t.Errorf("without a rule: %q", out)
	}
	rule := with(func(h *container.HostConfig) {
		h.DeviceCgroupRules, h.CapAdd = []string{"c 1:11 rm"}, []string{"SYSLOG"}
	})
	if out, _ := f.run(rule, "sh", "-c", "mknod /tmp/k c 1 11; : </tmp/k && echo yes"); out != "yes\n" {
		t.Errorf("with a rule: %q", out)
	}
	id := f.create(given(container.DeviceMapping{PathOnHost: "/dev/nosuch"}), "true")
	if err := f.Start(t.Context(), id); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), `error gathering device information while adding custom device "/dev/nosuch"`) {
		t.Error(err)
	}
	f.clean()
}

// TestSecurity: what a system call filter, the hidden paths and the umask say holds, for
// execs too.
func TestSecurity(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	opts := func(o ...string) func(*CreateRequest) {
		return with(func(h *container.HostConfig) { h.SecurityOpt = o })
	}
	profile := `seccomp={"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}`
	for name, tc := range map[string]struct {
		change func(*CreateRequest)
		script string
		want   string
	}{
		"profile":     {opts(profile), "mkdir /tmp/x 2>&1", "mkdir: can't create directory '/tmp/x': Function not implemented\n"},
		"built in":    {opts("seccomp=builtin"), "mkdir /tmp/x && unshare -U true 2>/dev/null || echo no", "no\n"},
		"unconfined":  {opts("seccomp=unconfined"), "grep -c 'Seccomp:.0' /proc/self/status", "1\n"},
		"paths":       {opts("systempaths=unconfined"), "grep -c ' /proc/' /proc/mounts", "0\n"},
		"umask":       {with(func(h *container.HostConfig) { h.Umask = ptr(uint32(0o077)) }), "umask", "0077\n"},
		"umask unset": {nil, "umask", "0022\n"},
		"no more":     {opts("no-new-privileges"), "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n"},
		"domain":      {func(r *CreateRequest) { r.Config.Hostname, r.Config.Domainname = "web", "example.org" }, "cat /proc/sys/kernel/domainname; hostname", "example.org\nweb\n"},
		"user's gids": {func(r *CreateRequest) { r.Config.User, r.HostConfig.GroupAdd = "sailor", []string{"77"} }, "id -G", "1001 77 1002\n"},
	} {
		if out, _ := f.run(tc.change, "sh", "-c", tc.script); out != tc.want {
			t.Errorf("%s: %q, want %q", name, out, tc.want)
		}
	}
	for opt, want := range map[string]string{"apparmor=mine": "AppArmor", "seccomp={": "decoding seccomp profile failed"} {
		req := CreateRequest{Config: &container.Config{Image: "demo"}, HostConfig: &container.HostConfig{SecurityOpt: []string{opt}}}
		if _, err := f.Create(t.Context(), req); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", opt, err)
		}
	}
	f.clean()
}

func TestListedProfiles(t *testing.T) {
	t.Parallel()
	const list = "/usr/bin/man (enforce)\nmine (complain)\nminer (enforce)\n"
	for name, want := range map[string]bool{"mine": true, "/usr/bin/man": true, "min": false, "mine (complain)": false} {
		if got, err := listed(strings.NewReader(list), name); err != nil || got != want {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
}

// TestResources: limits that only some kernels have reach the kernel, or are told of.
func TestResources(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	group := "spec-" + filepath.Base(filepath.Dir(f.cfg.DataRoot))
	loop := filepath.Join(f.cfg.DataRoot, "disk")
	f.ok(unix.Mknod(loop, unix.S_IFBLK|0o600, int(unix.Mkdev(7, 0))))
	id := f.up(with(func(h *container.HostConfig) {
		h.CgroupParent = group
		h.MemorySwappiness, h.Memory, h.CpusetCpus = ptr(int64(7)), 64<<20, "0"
		h.BlkioDeviceReadBps = []*blkiodev.ThrottleDevice{{Path: loop, Rate: 1 << 20}}
		h.Ulimits = []*container.Ulimit{{Name: "core", Soft: 1024, Hard: -1}}
	}))
	defer func() {
		f.ok(f.Remove(ctx, id, RemoveOptions{Force: true}))
		f.removeGroups(group)
	}()
	for file, want := range map[string]string{
		"memory/" + group + "/" + id + "/memory.swappiness":             "7",
		"cpuset/" + group + "/" + id + "/cpuset.cpus":                   "0",
		"blkio/" + group + "/" + id + "/blkio.throttle.read_bps_device": "7:0 1048576",
	} {
		raw, err := os.ReadFile(filepath.Join(cgroups, file))
		if f.unified {
			continue
		}
		if got := strings.TrimSpace(string(raw)); err != nil || got != want {
			t.Errorf("%s: %q %v, want %q", file, got, err, want)
		}
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", f.state(id).Pid))
	if line := strings.Fields(string(raw[strings.Index(string(raw), "Max core"):])); err != nil || line[4] != "1024" || line[5] != "unlimited" {
		t.Errorf("%v %v", line[:6], err)
	}
	for want, r := range map[string]container.Resources{
		"Requested CPUs are not available - requested 4000": {CpusetCpus: "4000"},
		"Requested memory nodes are not available":          {CpusetMems: "63"},
		"--cpu-rt":           {CPURealtimeRuntime: 500, CPURealtimePeriod: 1000},
		"is no block device": {BlkioDeviceWriteBps: []*blkiodev.ThrottleDevice{{Path: "/dev/null", Rate: 1}}},
	} {
		req := CreateRequest{Config: &container.Config{Image: "demo"}, HostConfig: &container.HostConfig{Resources: r}}
		made, err := f.Create(ctx, req)
		if err == nil {
			err = f.Start(ctx, made.ID)
		}
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	made, err := f.Create(ctx, CreateRequest{Config: &container.Config{Image: "demo"}, HostConfig: &container.HostConfig{Resources: container.Resources{OomKillDisable: ptr(true)}}})
	if err != nil || len(made.Warnings) != 1 || !strings.Contains(made.Warnings[0], "OOM") && !strings.Contains(made.Warnings[0], "Oom") {
		t.Errorf("%v %v", made.Warnings, err)
	}
}

// removeGroups removes the parent group that a test's containers were in.
func (f *fixture) removeGroups(name string) {
	f.t.Helper()
	dirs, err := filepath.Glob(filepath.Join(cgroups, "*", name))
	f.ok(err)
	for _, dir := range append(dirs, filepath.Join(cgroups, name)) {
		eventually(f.t, dir+" goes", func() bool {
			err := os.Remove(dir)
			return err == nil || errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
		})
	}
}

// TestPropagation: mounts pass between the host and the container where they are to, and
// are refused where the host does not share them.
func TestPropagation(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	dir := filepath.Join(f.cfg.DataRoot, "shared")
	f.ok(os.MkdirAll(dir, 0o755))
	bind := func(p mount.Propagation) func(*CreateRequest) {
		return with(func(h *container.HostConfig) {
			h.Mounts = []mount.Mount{{Type: "bind", Source: dir, Target: "/m", BindOptions: &mount.BindOptions{Propagation: p}}}
		})
	}
	f.ok(unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	defer func() { f.ok(unix.Unmount(dir, unix.MNT_DETACH)) }()
	f.ok(unix.Mount("", dir, "", unix.MS_PRIVATE, ""))
	for _, p := range []mount.Propagation{"rshared", "rslave"} {
		if err := f.Start(t.Context(), f.create(bind(p), "true")); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "path "+dir+" is mounted on "+dir+" but it is not a shared") {
			t.Errorf("%s: %v", p, err)
		}
	}
	f.ok(unix.Mount("", dir, "", unix.MS_SHARED, ""))
	privileged := func(p mount.Propagation) func(*CreateRequest) {
		return func(r *CreateRequest) { bind(p)(r); r.HostConfig.Privileged = true }
	}
	inside := "mkdir -p /m/in && mount -t tmpfs in /m/in && echo seen >/m/in/f && sleep 300"
	sharing := f.create(privileged("rshared"), "sh", "-c", inside)
	f.ok(f.Start(t.Context(), sharing))
	eventually(t, "the host sees what the container mounts", func() bool { raw, _ := os.ReadFile(dir + "/in/f"); return string(raw) == "seen\n" })
	slave := f.create(bind("rslave"), "sh", "-c", "while [ ! -e /m/late/f ]; do sleep 0.1; done; cat /m/late/f")
	f.ok(f.Start(t.Context(), slave))
	time.Sleep(100 * time.Millisecond)
	f.ok(os.Mkdir(dir+"/late", 0o755))
	f.ok(unix.Mount("late", dir+"/late", "tmpfs", 0, ""))
	f.ok(os.WriteFile(dir+"/late/f", []byte("late\n"), 0o600))
	eventually(t, "the container sees what the host mounts", func() bool { return !f.state(slave).Running })
	if out := f.output(slave); out != "late\n" {
		t.Errorf("%q", out)
	}
	f.ok(f.Remove(t.Context(), sharing, RemoveOptions{Force: true}))
	f.ok(unix.Unmount(dir+"/late", 0))
	_ = unix.Unmount(dir+"/in", unix.MNT_DETACH) // the container took it along, or not
}

// TestReadOnlyBelow: what is mounted below a mount that is read-only is so too, unless
// it is not to be.
func TestReadOnlyBelow(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	dir := filepath.Join(f.cfg.DataRoot, "outer")
	f.ok(os.MkdirAll(dir+"/in", 0o755))
	f.ok(unix.Mount("in", dir+"/in", "tmpfs", 0, ""))
	defer func() { f.ok(unix.Unmount(dir+"/in", unix.MNT_DETACH)) }()
	for want, o := range map[string]*mount.BindOptions{
		"no\nno\n": nil, "no\nyes\n": {ReadOnlyNonRecursive: true}, "no\nnone\n": {NonRecursive: true},
	} {
		out, _ := f.run(with(func(h *container.HostConfig) {
			h.Mounts = []mount.Mount{{Type: "bind", Source: dir, Target: "/m", ReadOnly: true, BindOptions: o}}
		}), "sh", "-c", "exec 2>/dev/null; touch /m/x && echo yes || echo no; grep -q ' /m/in ' /proc/mounts || { echo none; exit; }; touch /m/in/x && echo yes || echo no")
		if out != want {
			t.Errorf("%+v: %q, want %q", o, out, want)
		}
	}
	if recursiveReadOnly() {
		out, _ := f.run(with(func(h *container.HostConfig) { h.Binds = []string{dir + ":/m:ro"} }), "sh", "-c", "touch /m/in/x 2>/dev/null || echo no")
		if out != "no\n" {
			t.Errorf("-v …:ro: %q", out)
		}
	}
}

// TestUpdateTells: an update says what the kernel cannot do, and refuses what the
// machine does not have.
func TestUpdateTells(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.up(nil)
	if _, err := f.Update(t.Context(), id, container.UpdateConfig{Resources: container.Resources{CpusetCpus: "4000"}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("processors that are not there: %v", err)
	}
	out, err := f.Update(t.Context(), id, container.UpdateConfig{Resources: container.Resources{BlkioWeight: 500}})
	_, v1 := os.Stat(filepath.Join(cgroups, "blkio/blkio.weight"))
	_, bfq := os.Stat(filepath.Join(cgroups, "blkio/blkio.bfq.weight"))
	if known := f.unified || v1 == nil || bfq == nil; err != nil || known != (len(out.Warnings) == 0) {
		t.Errorf("%v %v", out.Warnings, err)
	}
}
