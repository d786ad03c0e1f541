package oci

import (
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// profile is one of Docker's form, whose second part is for those with a capability.
const profile = `{"defaultAction": "SCMP_ACT_ALLOW", "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}, {"architecture": "SCMP_ARCH_AARCH64"}],
	"syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
		{"names": ["mount"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_ADMIN"]}}]}`

func TestSecurityOptions(t *testing.T) {
	t.Parallel()
	isNil := func(err error) bool { return err == nil }
	for opt, is := range map[string]func(error) bool{
		"no-new-privileges": isNil, "no-new-privileges=false": isNil, "no-new-privileges:true": isNil, "writable-cgroups=true": isNil,
		"seccomp=unconfined": isNil, "seccomp=builtin": isNil, "seccomp=" + profile: isNil, "apparmor:unconfined": isNil, "apparmor=mine": isNil,
		"label=disable": isNil, "label:disable": isNil, "systempaths=unconfined": isNil,
		"label=type:x": errdefs.IsNotImplemented, "seccomp={": errdefs.IsInvalidArgument, "seccomp=/etc/profile.json": errdefs.IsInvalidArgument,
		"seccomp": errdefs.IsInvalidArgument, `seccomp={"syscalls": 5}`: errdefs.IsInvalidArgument, "systempaths=x": errdefs.IsInvalidArgument,
		`seccomp={"defaultAction":"X"}`: errdefs.IsInvalidArgument, `seccomp={"syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ALLOW"}]}`: errdefs.IsInvalidArgument,
		`seccomp={"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"X"}]}`:                                                      errdefs.IsInvalidArgument,
		`seccomp={"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"op":"X"}]}]}`:           errdefs.IsInvalidArgument,
		`seccomp={"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","args":[{"index":6,"op":"SCMP_CMP_EQ"}]}]}`: errdefs.IsInvalidArgument,
		`seccomp={"defaultAction":"SCMP_ACT_ALLOW","architectures":["X"]}`:                                                                              errdefs.IsInvalidArgument,
		`seccomp={"defaultAction":"SCMP_ACT_NOTIFY","listenerPath":"/x"}`:                                                                               errdefs.IsInvalidArgument,
		"apparmor": errdefs.IsInvalidArgument, "nonsense": errdefs.IsInvalidArgument, "no-new-privileges=maybe": errdefs.IsInvalidArgument,
	} {
		if err := SecurityOptions(&container.HostConfig{SecurityOpt: []string{opt}}); !is(err) {
			t.Errorf("%s: %v", opt, err)
		}
	}
}

func TestSeccompProfile(t *testing.T) {
	t.Parallel()
	names := func(change func(*Container)) string {
		c := example()
		change(&c)
		s, err := Spec(c)
		if err != nil {
			t.Fatal(err)
		}
		if s.Linux.Seccomp == nil {
			return "none"
		}
		var out []string
		for _, call := range s.Linux.Seccomp.Syscalls {
			out = append(out, call.Names...)
		}
		if len(out) > 10 {
			return "built in"
		}
		return strings.Join(out, " ")
	}
	with := func(opts ...string) func(*Container) {
		return func(c *Container) { c.HostConfig.SecurityOpt = opts }
	}
	privileged := func(opts ...string) func(*Container) {
		return func(c *Container) { c.HostConfig.SecurityOpt, c.HostConfig.Privileged = opts, true }
	}
	for name, got := range map[string][2]string{
		"none said":          {names(with()), "built in"},
		"builtin":            {names(with("seccomp=builtin")), "built in"},
		"the last wins":      {names(with("seccomp=unconfined", "seccomp=builtin")), "built in"},
		"profile":            {names(with("seccomp=" + profile)), "mkdir mkdirat mount"},
		"with a capability":  {names(func(c *Container) { with("seccomp=" + profile)(c); c.HostConfig.CapAdd = []string{"SYS_ADMIN"} }), "mkdir mkdirat"},
		"empty profile":      {names(with("seccomp={}")), "none"},
		"privileged":         {names(privileged()), "none"},
		"privileged builtin": {names(privileged("seccomp=builtin")), "none"},
		"privileged profile": {names(privileged("seccomp=" + profile)), "mkdir mkdirat"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %s, want %s", name, got[0], got[1])
		}
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	c := example()
	c.HostConfig.SecurityOpt = []string{"systempaths=unconfined", "writable-cgroups=true"}
	s, err := Spec(c)
	if err != nil || len(s.Linux.MaskedPaths)+len(s.Linux.ReadonlyPaths) > 0 {
		t.Errorf("%v %v %v", s.Linux.MaskedPaths, s.Linux.ReadonlyPaths, err)
	}
	mode := func(s *specs.Spec, dst string) string {
		t.Helper()
		i := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == dst })
		if i < 0 {
			return "none"
		}
		return strings.Join(s.Mounts[i].Options, ",")
	}
	if got := mode(s, "/sys/fs/cgroup"); !strings.HasSuffix(got, ",rw") {
		t.Errorf("the control groups: %s", got)
	}
	if got := mode(s, "/sys"); !strings.HasSuffix(got, ",ro") {
		t.Errorf("/sys: %s", got)
	}
	c = example()
	c.HostConfig.ReadonlyRootfs = true
	c.Mounts = []specs.Mount{{Destination: "/dev", Type: "bind", Source: "/dev"}}
	if s, err = Spec(c); err != nil {
		t.Fatal(err)
	}
	if got := mode(s, "/etc/hosts"); got != "rbind,rprivate,ro" {
		t.Errorf("/etc/hosts of a root that is read-only: %s", got)
	}
	if got := mode(s, "/dev/shm"); got != "none" {
		t.Errorf("/dev/shm over the user's /dev: %s", got)
	}
}

func TestAppArmor(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		host string
		h    container.HostConfig
		want string
	}{
		"none":       {"", container.HostConfig{}, ""},
		"default":    {"fairlead-default", container.HostConfig{}, "fairlead-default"},
		"unconfined": {"fairlead-default", container.HostConfig{SecurityOpt: []string{"apparmor=unconfined"}}, ""},
		"named":      {"fairlead-default", container.HostConfig{SecurityOpt: []string{"apparmor=mine"}}, "mine"},
		"privileged": {"fairlead-default", container.HostConfig{Privileged: true}, ""},
	} {
		c := example()
		c.HostConfig, c.AppArmor = &tc.h, tc.host
		s, err := Spec(c)
		if err != nil || s.Process.ApparmorProfile != tc.want {
			t.Errorf("%s: %q %v", name, s.Process.ApparmorProfile, err)
		}
	}
}
