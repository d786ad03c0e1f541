package engine

import (
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
)

func TestDefaultsInside(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	out, code := f.run(nil, "sh", "-c", `
		pwd; id; env | sort
		grep -E 'Cap(Bnd|Eff|Prm)|Seccomp:|NoNewPrivs' /proc/self/status
		grep -E ' (/|/proc|/dev|/dev/shm|/sys|/etc/hosts) ' /proc/mounts | awk '{print $2, $3, $4}'
		ls /dev
		touch /proc/sys/kernel/x 2>&1; ls /proc/acpi | wc -l
		cat /proc/sys/net/ipv4/ip_unprivileged_port_start
		mkdir /sys/fs/cgroup/x /sys/fs/cgroup/memory/x 2>&1`)
	if code != 0 && code != 1 {
		t.Fatal(code, out)
	}
	for _, want := range []string{
		`(?m)^/$`, `uid=0\(root\) gid=0\(root\) groups=0\(root\)`, `(?m)^HOME=/root$`, `(?m)^HOSTNAME=[0-9a-f]{12}$`,
		`(?m)^PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin$`,
		`CapEff:\s+00000000a80425fb`, `CapBnd:\s+00000000a80425fb`, `Seccomp:\s+2`, `NoNewPrivs:\s+0`,
		`/ overlay rw`, `/dev/shm tmpfs rw,nosuid,nodev,noexec,relatime,size=65536k`, `/sys sysfs ro`, `/etc/hosts`,
		`(?m)^null$`, `(?m)^ptmx$`, `Read-only file system`, `(?m)^0$`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%s is missing in:\n%s", want, out)
		}
	}
	if strings.Contains(out, "TERM=") || strings.Contains(out, "mem\n") {
		t.Errorf("too much in:\n%s", out)
	}
}

func TestConfigInside(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.must(f.ImageImport(t.Context(), strings.NewReader(string(host.image)), "base", []string{
		`ENTRYPOINT ["echo","entry"]`, `CMD ["image"]`, "ENV A=1 B=2", "USER sailor", "WORKDIR /made/here", "LABEL x=y", "EXPOSE 80 53/udp",
	}, "", ""))
	of := func(more func(r *CreateRequest)) func(*CreateRequest) {
		return func(r *CreateRequest) {
			r.Config.Image = "base"
			if more != nil {
				more(r)
			}
		}
	}
	memory := int64(64 << 20)
	for name, tc := range map[string]struct {
		change func(*CreateRequest)
		cmd    []string
		want   string
	}{
		"the image's command": {of(nil), nil, "entry image\n"},
		"own command":         {of(nil), []string{"mine"}, "entry mine\n"},
		"own entrypoint":      {of(func(r *CreateRequest) { r.Config.Entrypoint = []string{"pwd"} }), nil, "/made/here\n"},
		"no entrypoint":       {of(func(r *CreateRequest) { r.Config.Entrypoint = []string{""} }), []string{"echo", "x"}, "x\n"},
		"environment": {of(func(r *CreateRequest) {
			r.Config.Entrypoint = []string{"sh", "-c", "echo $A $B $C"}
			r.Config.Env = []string{"B=3", "C=4"}
		}), nil, "1 3 4\n"},
		"the image's user":           {of(func(r *CreateRequest) { r.Config.Entrypoint = []string{"id"} }), nil, "uid=1000(sailor) gid=1001(crew) groups=1001(crew),1002(deck)\n"},
		"user by number":             {func(r *CreateRequest) { r.Config.User = "4711:deck" }, []string{"id"}, "uid=4711 gid=1002(deck) groups=1002(deck)\n"},
		"more groups":                {func(r *CreateRequest) { r.Config.User = "sailor:crew"; r.HostConfig.GroupAdd = []string{"7"} }, []string{"id", "-G"}, "1001 7\n"},
		"a user has no capabilities": {func(r *CreateRequest) { r.Config.User = "sailor" }, []string{"grep", "CapEff", "/proc/self/status"}, "CapEff:\t0000000000000000\n"},
		"working directory is made":  {func(r *CreateRequest) { r.Config.WorkingDir = "/new/dir" }, []string{"pwd"}, "/new/dir\n"},
		"capabilities": {func(r *CreateRequest) {
			r.HostConfig.CapDrop = []string{"ALL"}
			r.HostConfig.CapAdd = []string{"NET_ADMIN"}
		}, []string{"grep", "CapEff", "/proc/self/status"}, "CapEff:\t0000000000001000\n"},
		"no new privileges": {func(r *CreateRequest) { r.HostConfig.SecurityOpt = []string{"no-new-privileges", "seccomp=unconfined"} }, []string{"grep", "-E", "NoNewPrivs|Seccomp:", "/proc/self/status"}, "NoNewPrivs:\t1\nSeccomp:\t0\n"},
		"sysctls":           {func(r *CreateRequest) { r.HostConfig.Sysctls = map[string]string{"kernel.msgmax": "4242"} }, []string{"cat", "/proc/sys/kernel/msgmax"}, "4242\n"},
		"ulimits": {func(r *CreateRequest) {
			r.HostConfig.Ulimits = []*container.Ulimit{{Name: "nofile", Soft: 111, Hard: 222}}
		}, []string{"sh", "-c", "ulimit -n; ulimit -Hn"}, "111\n222\n"},
		"known as a container":            {nil, []string{"sh", "-c", "stat -c '%s %a' /.dockerenv; readlink /etc/mtab"}, "0 755\n/proc/mounts\n"},
		"hostname":                        {func(r *CreateRequest) { r.Config.Hostname, r.Config.Domainname = "me", "example.org" }, []string{"sh", "-c", "hostname; cat /etc/hostname; cat /proc/sys/kernel/domainname; tail -n 1 /etc/hosts"}, "me\nme\nexample.org\n172.17.0.2\tme.example.org me\n"},
		"tmpfs":                           {func(r *CreateRequest) { r.HostConfig.Tmpfs = map[string]string{"/scratch": "size=1m"} }, []string{"sh", "-c", "grep -c ' /scratch tmpfs .*size=1024k' /proc/mounts"}, "1\n"},
		"read-only":                       {func(r *CreateRequest) { r.HostConfig.ReadonlyRootfs = true }, []string{"sh", "-c", "touch /x 2>/dev/null || echo refused"}, "refused\n"},
		"shared memory":                   {func(r *CreateRequest) { r.HostConfig.ShmSize = 1 << 20 }, []string{"sh", "-c", "grep -c '/dev/shm .*size=1024k' /proc/mounts"}, "1\n"},
		"the image's exposed are no harm": {of(func(r *CreateRequest) { r.HostConfig.Memory = memory }), []string{"x"}, "entry x\n"},
		"privileged":                      {func(r *CreateRequest) { r.HostConfig.Privileged = true }, []string{"sh", "-c", "mount -t tmpfs x /mnt 2>/dev/null || mkdir /mnt && mount -t tmpfs x /mnt && test -w /proc/sys/kernel/hostname && echo can"}, "can\n"},
	} {
		t.Run(name, func(t *testing.T) {
			out, code := f.run(tc.change, tc.cmd...)
			if d := cmp.Diff(tc.want, out); d != "" {
				t.Errorf("exit code %d, -want +got\n%s", code, d)
			}
			if strings.HasPrefix(tc.want, "172") {
				f.network.next = 2
			}
		})
		f.network.mu.Lock()
		f.network.next = 2
		f.network.mu.Unlock()
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pids := int64(20)
	id := f.create(func(r *CreateRequest) {
		r.HostConfig.Memory, r.HostConfig.NanoCPUs, r.HostConfig.PidsLimit = 32<<20, 5e8, &pids
	}, "sleep", "1000")
	f.ok(f.Start(t.Context(), id))
	for file, want := range map[string]string{
		"memory/fairlead/" + id + "/memory.limit_in_bytes": "33554432",
		"cpu/fairlead/" + id + "/cpu.cfs_quota_us":         "50000",
		"pids/fairlead/" + id + "/pids.max":                "20",
	} {
		got, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", file))
		if err != nil {
			// A machine on cgroup v2 alone has other files for the same.
			continue
		}
		if strings.TrimSpace(string(got)) != want {
			t.Errorf("%s = %s, want %s", file, got, want)
		}
	}
	_, err := f.Create(t.Context(), CreateRequest{Config: &container.Config{Image: "demo"}, HostConfig: &container.HostConfig{Resources: container.Resources{Memory: 1 << 20}}})
	if !errdefs.IsInvalidArgument(err) {
		t.Errorf("1 MB of memory: %v", err)
	}
}

func TestBinds(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	dir := filepath.Join(f.cfg.DataRoot, "outside")
	bind := func(spec string) func(*CreateRequest) {
		return func(r *CreateRequest) { r.HostConfig.Binds = []string{spec} }
	}
	if out, code := f.run(bind(dir+":/data"), "sh", "-c", "echo hello >/data/x && cat /data/x"); code != 0 || out != "hello\n" {
		t.Fatal(code, out)
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "x")); err != nil || string(raw) != "hello\n" {
		t.Fatal(string(raw), err)
	}
	if out, _ := f.run(bind(dir+":/data:ro"), "sh", "-c", "cat /data/x; touch /data/y 2>&1"); !strings.Contains(out, "Read-only") {
		t.Fatal(out)
	}
	mounted := func(m mount.Mount) func(*CreateRequest) {
		return func(r *CreateRequest) { r.HostConfig.Mounts = []mount.Mount{m} }
	}
	made := mount.Mount{Type: "bind", Source: dir + "/made", Target: "/data", BindOptions: &mount.BindOptions{CreateMountpoint: true}}
	if out, code := f.run(mounted(made), "sh", "-c", "touch /data/x && echo made"); out != "made\n" || code != 0 {
		t.Fatal(code, out)
	}
	req := CreateRequest{Config: &container.Config{Image: "demo"}, HostConfig: &container.HostConfig{}}
	mounted(mount.Mount{Type: "bind", Source: dir + "/nowhere", Target: "/data"})(&req)
	if _, err := f.Create(t.Context(), req); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "bind source path does not exist") {
		t.Errorf("mount of nothing: %v", err)
	}
	for spec, want := range map[string]func(error) bool{
		dir + ":data": errdefs.IsInvalidArgument, dir + ":/": errdefs.IsInvalidArgument, dir + ":/a:nonsense": errdefs.IsInvalidArgument,
	} {
		req := CreateRequest{Config: &container.Config{Image: "demo"}, HostConfig: &container.HostConfig{}}
		bind(spec)(&req)
		if _, err := f.Create(t.Context(), req); !want(err) {
			t.Errorf("%s: %v", spec, err)
		}
	}
}

func TestNetworkFiles(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	out, _ := f.run(func(r *CreateRequest) {
		r.HostConfig.ExtraHosts = []string{"db:10.0.0.9", "me:host-gateway"}
		r.HostConfig.DNS = []netip.Addr{netip.MustParseAddr("10.0.0.53")}
		r.HostConfig.DNSSearch = []string{"example.org"}
		r.HostConfig.DNSOptions = []string{"ndots:2"}
		r.Config.Hostname = "web"
	}, "sh", "-c", "cat /etc/resolv.conf; tail -n 3 /etc/hosts")
	want := "nameserver 10.0.0.53\nsearch example.org\noptions ndots:2\n10.0.0.9\tdb\n172.17.0.1\tme\n172.17.0.2\tweb\n"
	if d := cmp.Diff(want, out); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if out, _ := f.run(nil, "cat", "/etc/resolv.conf"); out != "nameserver 8.8.8.8\nnameserver 8.8.4.4\n" {
		t.Errorf("of a host with a loopback resolver: %q", out)
	}
	f.ok(os.WriteFile(f.cfg.ResolvConf, []byte("nameserver 127.0.0.53\nsearch host\n"), 0o644))
	host := func(r *CreateRequest) {
		r.HostConfig.NetworkMode = "host"
		r.HostConfig.ExtraHosts = []string{"db:10.0.0.9"}
	}
	out, _ = f.run(host, "sh", "-c", "cat /etc/resolv.conf; tail -n 1 /etc/hosts; hostname")
	name, err := os.Hostname()
	f.ok(err)
	if want := "nameserver 127.0.0.53\nsearch host\n10.0.0.9\tdb\n" + name + "\n"; out != want {
		t.Errorf("host mode: %q, want %q", out, want)
	}
	for _, bad := range []string{"db", "db:10.0.0", ":1.1.1.1"} {
		_, err := f.Create(t.Context(), CreateRequest{Config: &container.Config{Image: "demo"}, HostConfig: &container.HostConfig{ExtraHosts: []string{bad}}})
		if !errdefs.IsInvalidArgument(err) {
			t.Errorf("extra host %q: %v", bad, err)
		}
	}
}

func TestNetworkModes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	mode := func(m string) func(*CreateRequest) {
		return func(r *CreateRequest) { r.HostConfig.NetworkMode = container.NetworkMode(m) }
	}
	ours, err := os.Readlink("/proc/self/ns/net")
	f.ok(err)
	if out, _ := f.run(mode("host"), "readlink", "/proc/self/ns/net"); strings.TrimSpace(out) != ours {
		t.Errorf("host mode is in %s, the host in %s", out, ours)
	}
	if out, _ := f.run(mode("none"), "sh", "-c", "readlink /proc/self/ns/net; ls /sys/class/net"); strings.Contains(out, ours) || !strings.HasSuffix(out, "\nlo\n") {
		t.Errorf("none mode: %s", out)
	}
	id := f.create(func(r *CreateRequest) { r.Name = "first" }, "sleep", "1000")
	join := f.create(mode("container:first"), "sh", "-c", "readlink /proc/self/ns/net; hostname; tail -n 1 /etc/hosts")
	if err := f.Start(ctx, join); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "cannot join network of a non running container: "+id) {
		t.Errorf("join of a stopped container: %v", err)
	}
	f.ok(f.Start(ctx, id))
	f.ok(f.Rename(ctx, id, "second")) // the container stays the one it was
	ended := must(f.Wait(ctx, join, container.WaitConditionNextExit))
	f.ok(f.Start(ctx, join))
	<-ended
	r, err := f.Inspect(ctx, id, false)
	f.ok(err)
	want, err := os.Readlink("/proc/" + portText(uint16(r.State.Pid)) + "/ns/net")
	f.ok(err)
	if got := f.output(join); got != want+"\n"+id[:12]+"\n172.17.0.2\t"+id[:12]+"\n" {
		t.Errorf("container mode: %q, want %s", got, want)
	}
	for m, is := range map[string]func(error) bool{
		"container:nonesuch": errdefs.IsNotFound, "container:": errdefs.IsInvalidArgument, "nonesuch": errdefs.IsNotFound,
	} {
		req := CreateRequest{Config: &container.Config{Image: "demo"}, HostConfig: &container.HostConfig{}}
		mode(m)(&req)
		if _, err := f.Create(ctx, req); !is(err) {
			t.Errorf("mode %s: %v", m, err)
		}
	}
	req := CreateRequest{Config: &container.Config{Image: "demo"}, HostConfig: &container.HostConfig{
		NetworkMode: "container:second", PortBindings: network.PortMap{network.MustParsePort("80"): {{HostPort: "80"}}},
	}}
	if _, err := f.Create(ctx, req); !errdefs.IsInvalidArgument(err) {
		t.Errorf("ports in another's network: %v", err)
	}
}

func TestInspectNetwork(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	id := f.create(func(r *CreateRequest) {
		r.Name = "web"
		r.Config.ExposedPorts = network.PortSet{network.MustParsePort("22/tcp"): {}}
		r.HostConfig.PortBindings = network.PortMap{network.MustParsePort("80/tcp"): {{HostPort: "8080"}}}
	}, "sleep", "1000")
	before, err := f.Inspect(ctx, id, false)
	f.ok(err)
	if s := before.NetworkSettings; s.SandboxKey != "" || s.Networks["bridge"] == nil || len(s.Ports) != 0 {
		t.Errorf("created: %+v", s)
	}
	f.ok(f.Start(ctx, id))
	r, err := f.Inspect(ctx, id, true)
	f.ok(err)
	s := r.NetworkSettings
	if s.SandboxKey != f.sandboxPath(id) || s.SandboxID != id {
		t.Errorf("sandbox %s %s", s.SandboxID, s.SandboxKey)
	}
	b := s.Networks["bridge"]
	if b == nil || b.IPAddress.String() != "172.17.0.2" || b.IPPrefixLen != 16 || b.Gateway.String() != "172.17.0.1" || b.MacAddress.String() != "02:42:ac:11:00:02" {
		t.Errorf("endpoint %+v", b)
	}
	if p := s.Ports[network.MustParsePort("80/tcp")]; len(p) != 1 || p[0].HostPort != "8080" {
		t.Errorf("ports %+v", s.Ports)
	}
	if p, ok := s.Ports[network.MustParsePort("22/tcp")]; !ok || p != nil {
		t.Errorf("ports %+v", s.Ports)
	}
	list, err := f.List(ctx, ListOptions{})
	f.ok(err)
	if len(list) != 1 || len(list[0].Ports) != 2 || list[0].Ports[1].PublicPort != 8080 || !strings.HasPrefix(list[0].Status, "Up ") {
		t.Errorf("list %+v", list)
	}
	n, err := f.NetworkInspect(ctx, "bridge")
	f.ok(err)
	if c := n.Containers[id]; c.Name != "web" || c.IPv4Address.String() != "172.17.0.2/16" {
		t.Errorf("network inspect: %+v", n.Containers)
	}
}
