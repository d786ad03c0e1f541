package oci

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
)

func TestCheckSysctls(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		key  string
		h    container.HostConfig
		want string
	}{
		{"net.ipv4.ip_forward", container.HostConfig{}, ""},
		{"kernel.shmmax", container.HostConfig{}, ""},
		{"kernel/shmmax", container.HostConfig{IpcMode: "container:x"}, ""},
		{"fs.mqueue.msg_max", container.HostConfig{}, ""},
		{"fs.mqueue.msg_max", container.HostConfig{IpcMode: "host"}, "the host's"},
		{"kernel.domainname", container.HostConfig{}, ""},
		{"kernel.domainname", container.HostConfig{UTSMode: "host"}, "the host's"},
		{"kernel.hostname", container.HostConfig{}, "--hostname"},
		{"vm.swappiness", container.HostConfig{}, "not of a namespace"},
		{"kernel.core_pattern", container.HostConfig{Privileged: true}, "not of a namespace"},
		{"", container.HostConfig{}, "invalid sysctl"},
		{"net/../kernel/core_pattern", container.HostConfig{}, "invalid sysctl"},
		{"net.ipv4.conf.a\nb.rp_filter", container.HostConfig{}, "invalid sysctl"},
		{"net", container.HostConfig{}, "invalid sysctl"},
		{"net.ipv4..x", container.HostConfig{}, "invalid sysctl"},
	} {
		tc.h.Sysctls = map[string]string{tc.key: "1"}
		err := CheckSysctls(&tc.h)
		if (err == nil) != (tc.want == "") || err != nil && (!errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.key, err, tc.want)
		}
	}
}
