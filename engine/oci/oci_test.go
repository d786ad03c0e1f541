package oci

import (
	"bytes"
	"encoding/json"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

var update = flag.Bool("update", false, "write the golden files anew")

func ptr[T any](v T) *T { return &v }

func example() Container {
	return Container{
		ID: "c0ffee", Config: &container.Config{Env: []string{"A=1"}}, HostConfig: &container.HostConfig{}, Args: []string{"sh", "-c", "true"},
		Hostname: "c0ffee", NetworkNamespace: "/run/fairlead/netns/c0ffee", OwnNetwork: true,
		Files: map[string]string{"/etc/hosts": "/var/lib/fairlead/containers/c0ffee/hosts"},
	}
}

// TestSpec compares whole specifications with golden text. The system call
// filter is containerd's own and left out.
func TestSpec(t *testing.T) {
	t.Parallel()
	score, pids := 500, int64(100)
	for name, change := range map[string]func(*Container){
		"default": func(*Container) {},
		"host": func(c *Container) {
			c.OwnNetwork, c.NetworkNamespace = false, "/run/fairlead/netns/host"
			c.HostConfig.PidMode, c.HostConfig.IpcMode, c.HostConfig.UTSMode = "host", "host", "host"
			c.Hostname = ""
		},
		"everything": func(c *Container) {
			c.Config.Tty, c.Config.WorkingDir = true, "/srv"
			c.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{1001, 7}}
			c.RootPropagation = "rslave"
			c.Mounts = []specs.Mount{
				{Type: "bind", Source: "/srv/data", Destination: "/data/deep", Options: []string{"rbind", "rslave", "ro"}},
				{Type: "tmpfs", Source: "tmpfs", Destination: "/data", Options: []string{"noexec", "nosuid", "nodev", "size=1m", "rprivate"}},
				{Type: "tmpfs", Source: "tmpfs", Destination: "/dev/shm", Options: []string{"noexec", "nosuid", "nodev", "rprivate"}},
			}
			c.Domainname, c.Sysctls = "example.org", map[string]string{"kernel.msgmax": "1"}
			c.HostConfig = &container.HostConfig{
				CapAdd: []string{"net_admin"}, CapDrop: []string{"CAP_MKNOD"}, ReadonlyRootfs: true, ShmSize: 1 << 20, OomScoreAdj: score,
				SecurityOpt: []string{"no-new-privileges:true", "seccomp=unconfined"}, ConsoleSize: [2]uint{24, 80}, CgroupnsMode: "private",
				MaskedPaths: []string{},
				Resources: container.Resources{
					Memory: 64 << 20, NanoCPUs: 15e8, CPUShares: 512, CpusetCpus: "0", PidsLimit: &pids, CgroupParent: "group",
					Ulimits: []*container.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}, {Name: "core"}},
				},
			}
		},
	} {
		c := example()
		change(&c)
		s, err := Spec(c)
		if err != nil {
			t.Fatal(name, err)
		}
		if (option(c.HostConfig, "seccomp") == unconfined) != (s.Linux.Seccomp == nil) {
			t.Errorf("%s: seccomp %v", name, s.Linux.Seccomp)
		}
		s.Linux.Seccomp = nil
		got, err := json.MarshalIndent(s, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, '\n')
		golden := filepath.Join("testdata", name+".json")
		if *update {
			if err := os.WriteFile(golden, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: -want +got\n%s", name, cmp.Diff(string(want), string(got)))
		}
	}
}

func TestPrivileged(t *testing.T) {
	t.Parallel()
	c := example()
	c.HostConfig.Privileged = true
	var err error
	if c.Devices, err = FindDevices(c.HostConfig); err != nil {
		t.Fatal(err)
	}
	s, err := Spec(c)
	if err != nil {
		t.Fatal(err)
	}
	if s.Linux.Seccomp != nil || len(s.Linux.MaskedPaths)+len(s.Linux.ReadonlyPaths) > 0 || !s.Linux.Resources.Devices[0].Allow {
		t.Errorf("%+v", s.Linux)
	}
	if !slices.Equal(s.Process.Capabilities.Bounding, prefixed(every())) || len(every()) <= len(defaults) {
		t.Errorf("%v", s.Process.Capabilities.Bounding)
	}
	null := slices.IndexFunc(s.Linux.Devices, func(d specs.LinuxDevice) bool { return d.Path == "/dev/null" })
	if null < 0 || s.Linux.Devices[null].Major != 1 || s.Linux.Devices[null].Minor != 3 || s.Linux.Devices[null].Type != "c" {
		t.Errorf("devices %v", s.Linux.Devices)
	}
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	has := func(h container.HostConfig, name string) bool {
		t.Helper()
		caps, err := capabilities(&h, nil)
		if err != nil {
			t.Fatal(err)
		}
		return slices.Contains(caps, "CAP_"+name)
	}
	for name, ok := range map[string]bool{
		"default":               has(container.HostConfig{}, "CHOWN") && !has(container.HostConfig{}, "SYS_ADMIN"),
		"add":                   has(container.HostConfig{CapAdd: []string{"sys_admin"}}, "SYS_ADMIN"),
		"add with prefix":       has(container.HostConfig{CapAdd: []string{"CAP_SYS_ADMIN"}}, "SYS_ADMIN"),
		"drop":                  !has(container.HostConfig{CapDrop: []string{"CHOWN"}}, "CHOWN"),
		"drop all, add":         has(container.HostConfig{CapDrop: []string{"ALL"}, CapAdd: []string{"CHOWN"}}, "CHOWN"),
		"drop all":              !has(container.HostConfig{CapDrop: []string{"all"}}, "CHOWN"),
		"add all, drop":         !has(container.HostConfig{CapAdd: []string{"ALL"}, CapDrop: []string{"CHOWN"}}, "CHOWN"),
		"add all":               has(container.HostConfig{CapAdd: []string{"ALL"}}, "SYS_ADMIN"),
		"added and dropped one": !has(container.HostConfig{CapAdd: []string{"CHOWN"}, CapDrop: []string{"CHOWN"}}, "CHOWN"),
	} {
		if !ok {
			t.Error(name)
		}
	}
	if _, err := capabilities(&container.HostConfig{CapAdd: []string{"NONSENSE"}}, nil); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
}

// TestDeniedCapabilities: no container and no exec has what is denied to all, and ping
// does without it; who asks for it by name is refused.
func TestDeniedCapabilities(t *testing.T) {
	t.Parallel()
	denied := []string{"NET_RAW"}
	for name, h := range map[string]container.HostConfig{
		"default":    {},
		"all":        {CapAdd: []string{"ALL"}},
		"privileged": {Privileged: true},
	} {
		c := example()
		c.HostConfig, c.OwnNetwork = &h, true
		with, err := Spec(c)
		if err != nil {
			t.Fatal(err)
		}
		c.DeniedCapabilities = denied
		s, err := Spec(c)
		if err != nil {
			t.Fatal(err)
		}
		exec, err := Exec(c, s, container.ExecCreateRequest{Cmd: []string{"sh"}, Privileged: true}, c.User)
		if err != nil {
			t.Fatal(err)
		}
		for what, caps := range map[string]*specs.LinuxCapabilities{"the container": s.Process.Capabilities, "a privileged exec": exec.Capabilities} {
			if slices.Contains(slices.Concat(caps.Bounding, caps.Effective, caps.Permitted, caps.Inheritable, caps.Ambient), "CAP_NET_RAW") || len(caps.Bounding) == 0 {
				t.Errorf("%s: %s has %v", name, what, caps)
			}
		}
		if !slices.Contains(with.Process.Capabilities.Bounding, "CAP_NET_RAW") {
			t.Errorf("%s: no CAP_NET_RAW though it is not denied", name)
		}
		if s.Linux.Sysctl["net.ipv4.ping_group_range"] != "0 2147483647" {
			t.Errorf("%s: sysctls %v", name, s.Linux.Sysctl)
		}
	}
	for _, add := range []string{"NET_RAW", "cap_net_raw"} {
		h := &container.HostConfig{CapAdd: []string{add}, Privileged: true}
		if err := CheckDenied(h, denied, "a policy"); !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "--cap-add NET_RAW (HostConfig.CapAdd) is refused: a policy") {
			t.Errorf("%s: %v", add, err)
		}
		if err := CheckDenied(h, nil, "nothing"); err != nil {
			t.Error(err)
		}
	}
}

func TestBadLimits(t *testing.T) {
	t.Parallel()
	ulimit := func(name string, soft, hard int64) container.Resources {
		return container.Resources{Ulimits: []*container.Ulimit{{Name: name, Soft: soft, Hard: hard}}}
	}
	for name, r := range map[string]container.Resources{
		"negative memory":      {Memory: -1},
		"too little memory":    {Memory: 1 << 20},
		"memory overflows":     {Memory: 1<<63 - 1},
		"negative swap":        {Memory: 8 << 20, MemorySwap: -2},
		"processes":            {PidsLimit: ptr(int64(1<<22 + 1))},
		"reservation":          {Memory: 8 << 20, MemoryReservation: 16 << 20},
		"swap below memory":    {Memory: 16 << 20, MemorySwap: 8 << 20},
		"swap without memory":  {MemorySwap: 8 << 20},
		"swappiness":           {MemorySwappiness: ptr(int64(101))},
		"negative swappiness":  {MemorySwappiness: ptr(int64(-2))},
		"negative CPUs":        {NanoCPUs: -1},
		"too little of a CPU":  {NanoCPUs: 1},
		"too many CPUs":        {NanoCPUs: 1e9 * 4096},
		"two kinds of a limit": {NanoCPUs: 1e9, CPUQuota: 5000},
		"quota":                {CPUQuota: 999},
		"short period":         {CPUPeriod: 999},
		"long period":          {CPUPeriod: 1000001},
		"real time":            {CPURealtimePeriod: 1000, CPURealtimeRuntime: 2000},
		"negative real time":   {CPURealtimeRuntime: -1},
		"CPU set":              {CpusetCpus: "0-"},
		"CPU set, backwards":   {CpusetCpus: "2-1"},
		"memory nodes":         {CpusetMems: "a"},
		"small weight":         {BlkioWeight: 9},
		"device's weight":      {BlkioWeightDevice: []*blkiodev.WeightDevice{{Path: "/dev/null", Weight: 1001}}},
		"ulimit's name":        ulimit("nofiles", 1, 1),
		"negative ulimit":      ulimit("nofile", -5, -5),
		"shares":               {CPUShares: 1},
		"more shares":          {CPUShares: 1<<18 + 1},
		"long quota":           {CPUQuota: 1 << 44},
		"ulimit upside down":   ulimit("nofile", 2, 1),
		"ulimit without end":   ulimit("nofile", -1, 1),
		"device's mode":        {Devices: []container.DeviceMapping{{PathOnHost: "/dev/null", CgroupPermissions: "rwx"}}},
		"device's mode, twice": {Devices: []container.DeviceMapping{{PathOnHost: "/dev/null", CgroupPermissions: "rr"}}},
		"relative device":      {Devices: []container.DeviceMapping{{PathOnHost: "dev/null"}}},
		"relative inside":      {Devices: []container.DeviceMapping{{PathOnHost: "/dev/null", PathInContainer: "null"}}},
		"device rule":          {DeviceCgroupRules: []string{"c 1:3 x"}},
		"device rule's number": {DeviceCgroupRules: []string{"c 1:9999999999 r"}},
	} {
		if _, err := resources(&container.HostConfig{Resources: r}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	out, err := resources(&container.HostConfig{Resources: container.Resources{Memory: 8 << 20, MemorySwap: -1}})
	if err != nil || *out.Memory.Swap != -1 {
		t.Errorf("unlimited swap: %v %v", out, err)
	}
	out, err = resources(&container.HostConfig{Resources: container.Resources{
		MemorySwappiness: new(int64), CPURealtimePeriod: 2000, CPURealtimeRuntime: 1000, CpusetCpus: "0-1,3",
		Ulimits: []*container.Ulimit{{Name: "nofile", Soft: 1, Hard: -1}, {Name: "memlock", Soft: -1, Hard: -1}},
	}})
	if err != nil || *out.Memory.Swappiness != 0 || *out.CPU.RealtimePeriod != 2000 || *out.CPU.RealtimeRuntime != 1000 || out.CPU.Cpus != "0-1,3" {
		t.Errorf("%+v %v", out, err)
	}
	if out, err = resources(&container.HostConfig{Resources: container.Resources{MemorySwappiness: ptr(int64(-1))}}); err != nil || out.Memory != nil {
		t.Errorf("swappiness that is not asked for: %+v %v", out, err)
	}
}

type memoryFS map[string]string

func (m memoryFS) ReadFile(path string) ([]byte, error) {
	if s, ok := m[path]; ok {
		return []byte(s), nil
	}
	return nil, fs.ErrNotExist
}

func TestUser(t *testing.T) {
	t.Parallel()
	full := memoryFS{
		"/etc/passwd": "root:x:0:0::/root:/bin/sh\nann:x:5:6::/:/bin/sh\n",
		"/etc/group":  "root:x:0:\nwheel:x:10:root,ann\ncrew:x:6:\n",
	}
	for name, tc := range map[string]struct {
		root   memoryFS
		user   string
		groups []string
		want   specs.User
	}{
		"none":             {memoryFS{}, "", nil, specs.User{AdditionalGids: []uint32{0}}},
		"root's groups":    {full, "", nil, specs.User{AdditionalGids: []uint32{0, 10}}},
		"by name":          {full, "ann", nil, specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{6, 10}}},
		"by number":        {full, "5", nil, specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{6, 10}}},
		"unknown number":   {full, "77:88", nil, specs.User{UID: 77, GID: 88, AdditionalGids: []uint32{88}}},
		"with a group":     {full, "ann:wheel", nil, specs.User{UID: 5, GID: 10, AdditionalGids: []uint32{10}}},
		"with more groups": {full, "ann:crew", []string{"wheel", "99"}, specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{6, 10, 99}}},
	} {
		got, err := User(tc.root, tc.user, tc.groups)
		if d := cmp.Diff(tc.want, got); err != nil || d != "" {
			t.Errorf("%s: %v %s", name, err, d)
		}
	}
	for _, bad := range []string{"bob", "ann:nonesuch", "-1"} {
		if _, err := User(full, bad, nil); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestMergeEnv(t *testing.T) {
	t.Parallel()
	got := MergeEnv([]string{"A=1", "B=2", "AB=3"}, []string{"A=9", "B", "C=4", "D", "A=10"})
	if d := cmp.Diff([]string{"A=10", "AB=3", "C=4"}, got); d != "" {
		t.Error(d)
	}
}

func TestExec(t *testing.T) {
	t.Parallel()
	c := example()
	c.HostConfig.CapDrop = []string{"ALL"}
	s, err := Spec(c)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Exec(c, s, container.ExecCreateRequest{
		Cmd: []string{"id"}, Env: []string{"B=2"}, Tty: true, ConsoleSize: &[2]uint{3, 4}, WorkingDir: "/w",
	}, specs.User{})
	if err != nil {
		t.Fatal(err)
	}
	if !p.Terminal || p.Cwd != "/w" || p.ConsoleSize.Height != 3 || len(p.Capabilities.Effective) != 0 ||
		!slices.Contains(p.Env, "TERM=xterm") || !slices.Contains(p.Env, "A=1") || !slices.Contains(p.Env, "B=2") || slices.Contains(s.Process.Env, "B=2") {
		t.Errorf("%+v", p)
	}
	p, err = Exec(c, s, container.ExecCreateRequest{Cmd: []string{"id"}, Privileged: true}, specs.User{})
	if err != nil || len(p.Capabilities.Effective) != len(every()) {
		t.Errorf("%+v %v", p, err)
	}
}
