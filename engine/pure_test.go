package engine

import (
	"errors"
	"math"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"github.com/fairlead/fairlead/engine/image"
	"github.com/fairlead/fairlead/network/spec"
)

func port(s string) network.Port { return network.MustParsePort(s) }

func TestPublish(t *testing.T) {
	t.Parallel()
	local := netip.MustParseAddr("127.0.0.1")
	for name, tc := range map[string]struct {
		bindings network.PortMap
		all      bool
		exposed  network.PortSet
		want     []spec.PortRequest
		err      string
	}{
		"none":             {exposed: network.PortSet{port("22"): {}}},
		"one":              {bindings: network.PortMap{port("80"): {{HostPort: "8080"}}}, want: []spec.PortRequest{{Proto: spec.TCP, Port: 80, HostPort: 8080, HostPortEnd: 8080}}},
		"any":              {bindings: network.PortMap{port("80"): {{}}}, want: []spec.PortRequest{{Proto: spec.TCP, Port: 80}}},
		"any by zero":      {bindings: network.PortMap{port("80"): {{HostPort: "0"}}}, want: []spec.PortRequest{{Proto: spec.TCP, Port: 80}}},
		"address":          {bindings: network.PortMap{port("53/udp"): {{HostIP: local, HostPort: "53"}}}, want: []spec.PortRequest{{Proto: spec.UDP, Port: 53, HostIP: local, HostPort: 53, HostPortEnd: 53}}},
		"range":            {bindings: network.PortMap{port("80"): {{HostPort: "8000-8010"}}}, want: []spec.PortRequest{{Proto: spec.TCP, Port: 80, HostPort: 8000, HostPortEnd: 8010}}},
		"in order":         {bindings: network.PortMap{port("81"): {{HostPort: "2"}}, port("80"): {{HostPort: "4"}, {HostPort: "3"}}}, want: []spec.PortRequest{{Proto: spec.TCP, Port: 80, HostPort: 3, HostPortEnd: 3}, {Proto: spec.TCP, Port: 80, HostPort: 4, HostPortEnd: 4}, {Proto: spec.TCP, Port: 81, HostPort: 2, HostPortEnd: 2}}},
		"all":              {all: true, exposed: network.PortSet{port("22"): {}, port("80"): {}}, bindings: network.PortMap{port("80"): {{HostPort: "8080"}}}, want: []spec.PortRequest{{Proto: spec.TCP, Port: 22}, {Proto: spec.TCP, Port: 80, HostPort: 8080, HostPortEnd: 8080}}},
		"all, bound empty": {all: true, bindings: network.PortMap{port("80"): nil}, want: []spec.PortRequest{{Proto: spec.TCP, Port: 80}}},
		"port 0":           {bindings: network.PortMap{port("0"): {{HostPort: "80"}}}, err: "want 1 to 65535"},
		"host port 65536":  {bindings: network.PortMap{port("80"): {{HostPort: "65536"}}}, err: `invalid host port "65536"`},
		"host port word":   {bindings: network.PortMap{port("80"): {{HostPort: "http"}}}, err: "invalid host port"},
		"range from 0":     {bindings: network.PortMap{port("80"): {{HostPort: "0-5"}}}, err: "invalid host port"},
		"range backwards":  {bindings: network.PortMap{port("80"): {{HostPort: "9-5"}}}, err: "ends before it begins"},
		"sctp":             {bindings: network.PortMap{port("80/sctp"): {{HostPort: "80"}}}, want: []spec.PortRequest{{Proto: spec.SCTP, Port: 80, HostPort: 80, HostPortEnd: 80}}},
		"no such protocol": {bindings: network.PortMap{port("80/dccp"): {{HostPort: "80"}}}, err: "cannot be published"},
	} {
		got, err := publish(&container.Config{ExposedPorts: tc.exposed}, &container.HostConfig{PortBindings: tc.bindings, PublishAllPorts: tc.all})
		if tc.err != "" {
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: %v, want %q", name, err, tc.err)
			}
			continue
		}
		if d := cmp.Diff(tc.want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || d != "" {
			t.Errorf("%s: %v -want +got\n%s", name, err, d)
		}
	}
}

func TestParseSignal(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]int{
		"TERM": 15, "SIGTERM": 15, "sigkill": 9, "9": 9, "RTMIN": 34, "SIGRTMIN+3": 37, "RTMAX-1": 63, "RTMAX": 64,
	} {
		if got, err := parseSignal(s); err != nil || got != want {
			t.Errorf("%s = %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "0", "-1", "65", "NOPE", "RTMIN+40", "RTMINx"} {
		if got, err := parseSignal(s); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q = %d, %v; want it refused", s, got, err)
		}
	}
}

func TestDetachKeys(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"": "\x10\x11", "a": "a", "ctrl-a": "\x01", "ctrl-@,ctrl-_": "\x00\x1f", "a,b,ctrl-z": "ab\x1a", "ctrl-\\": "\x1c", ",": ",",
	} {
		if got, err := detachKeys(s); err != nil || string(got) != want {
			t.Errorf("%q = %q, %v; want %q", s, got, err, want)
		}
	}
	for _, s := range []string{"ab", "ctrl-", "ctrl-A", "ctrl-1", "a,,b,ctrl-"} {
		if got, err := detachKeys(s); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q = %q, %v; want it refused", s, got, err)
		}
	}
}

func TestFreeNameIsValidAndGivesWay(t *testing.T) {
	t.Parallel()
	refusals := 0
	name := freeName(func(n string) bool {
		if err := spec.ValidName("container", n); err != nil {
			t.Error(err)
		}
		refusals++
		return refusals > 10
	})
	if !regexp.MustCompile(`^[a-z]+_[a-z]+[0-9a-f]{4}$`).MatchString(name) {
		t.Errorf("after ten refusals: %s", name)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		c container.Config
		h container.HostConfig
	}{
		"--gpus": {h: container.HostConfig{Resources: container.Resources{DeviceRequests: []container.DeviceRequest{{}}}}},
		"--storage-opt (HostConfig.StorageOpt) is not supported": {h: container.HostConfig{StorageOpt: map[string]string{"size": "1"}}},
		"--cpu-count":            {h: container.HostConfig{Resources: container.Resources{CPUCount: 1}}},
		"--cpu-percent":          {h: container.HostConfig{Resources: container.Resources{CPUPercent: 1}}},
		"--io-maxiops":           {h: container.HostConfig{Resources: container.Resources{IOMaximumIOps: 1}}},
		"--io-maxbandwidth":      {h: container.HostConfig{Resources: container.Resources{IOMaximumBandwidth: 1}}},
		"HostConfig.Cgroup":      {h: container.HostConfig{Cgroup: "container:a"}},
		"Config.NetworkDisabled": {c: container.Config{NetworkDisabled: true}},
	} {
		err := refuse(&tc.c, &tc.h)
		if !errdefs.IsNotImplemented(err) || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, tc := range map[string]struct {
		c container.Config
		h container.HostConfig
	}{
		"runtime":     {h: container.HostConfig{Runtime: "kata"}},
		"ipc":         {h: container.HostConfig{IpcMode: "public"}},
		"ipc of none": {h: container.HostConfig{IpcMode: "container:"}},
		"pid":         {h: container.HostConfig{PidMode: "mine"}},
		"pid of none": {h: container.HostConfig{PidMode: "container:"}},
		"uts":         {h: container.HostConfig{UTSMode: "mine"}},
		"userns":      {h: container.HostConfig{UsernsMode: "mine"}},
		"cgroupns":    {h: container.HostConfig{CgroupnsMode: "mine"}},
		"umask":       {h: container.HostConfig{Umask: ptr(uint32(0o1000))}},
		"security":    {h: container.HostConfig{SecurityOpt: []string{"nonsense"}}},
		"directory":   {c: container.Config{WorkingDir: "a"}},
		"signal":      {c: container.Config{StopSignal: "a"}},
		"environment": {c: container.Config{Env: []string{"=a"}}},
		"oom":         {h: container.HostConfig{OomScoreAdj: 2000}},
		"policy":      {h: container.HostConfig{RestartPolicy: container.RestartPolicy{Name: "sometimes"}}},
		"retries":     {h: container.HostConfig{RestartPolicy: container.RestartPolicy{Name: "always", MaximumRetryCount: 3}}},
		"both":        {h: container.HostConfig{AutoRemove: true, RestartPolicy: container.RestartPolicy{Name: "always"}}},
		"health":      {c: container.Config{Healthcheck: &container.HealthConfig{Test: []string{"ASK", "x"}}}},
		"interval":    {c: container.Config{Healthcheck: &container.HealthConfig{Interval: 1}}},
	} {
		if err := refuse(&tc.c, &tc.h); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := refuse(&container.Config{}, &container.HostConfig{
		IpcMode: "private", RestartPolicy: container.RestartPolicy{Name: "no"}, LogConfig: container.LogConfig{Type: "json-file"},
		Mounts: []mount.Mount{{Type: "tmpfs", Target: "/x"}}, Resources: container.Resources{MemorySwappiness: ptr(int64(-1))},
	}); err != nil {
		t.Errorf("what the docker client always sends: %v", err)
	}
}

func ptr[T any](v T) *T { return &v }

func TestInheritVolumesAndHealthCheckAreTold(t *testing.T) {
	t.Parallel()
	var img image.Image
	img.Config.Config.Volumes = map[string]struct{}{"/data": {}}
	img.Config.Config.Healthcheck = &container.HealthConfig{Test: []string{"CMD", "x"}}
	img.Config.Config.ExposedPorts = map[string]struct{}{"70000/tcp": {}, "80/tcp": {}}
	c := &container.Config{}
	warnings := strings.Join(inherit(c, img), "\n")
	if h := c.Healthcheck; h == nil || len(h.Test) != 2 {
		t.Errorf("the image's health check: %v", h)
	}
	if !strings.Contains(warnings, "70000") {
		t.Errorf("%q", warnings)
	}
	if _, ok := c.Volumes["/data"]; !ok {
		t.Errorf("the image's volume: %v", c.Volumes)
	}
	if _, ok := c.ExposedPorts[port("80")]; !ok || len(c.ExposedPorts) != 1 {
		t.Errorf("%v", c.ExposedPorts)
	}
}

func TestStatusText(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for want, s := range map[string]State{
		"Created":                     {},
		"Up 5 minutes":                {Running: true, StartedAt: now.Add(-5 * time.Minute)},
		"Exited (137) 2 hours ago":    {StartedAt: now.Add(-3 * time.Hour), FinishedAt: now.Add(-2 * time.Hour), ExitCode: 137},
		"Up Less than a second":       {Running: true, StartedAt: now},
		"Exited (0) 3 seconds ago":    {StartedAt: now.Add(-time.Minute), FinishedAt: now.Add(-3 * time.Second)},
		"Removal In Progress":         {Removing: true},
		"Exited (128) 10 seconds ago": {FinishedAt: now.Add(-10 * time.Second), ExitCode: 128},
	} {
		if got := statusText(s, now); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestStopTime(t *testing.T) {
	t.Parallel()
	if got := stopTime(math.MaxInt); got < 24*time.Hour || got+time.Hour < got {
		t.Error(got)
	}
	if got := stopTime(2); got != 2*time.Second {
		t.Error(got)
	}
}

func TestStartErrorCodes(t *testing.T) {
	t.Parallel()
	r := Record{Config: &container.Config{Entrypoint: []string{"/x"}}}
	for text, want := range map[string]int{
		`runc create failed: unable to start container process: exec: "x": executable file not found in $PATH: unknown`: 127,
		`exec: "/x": stat /x: no such file or directory: unknown`:                                                       127,
		`exec: "/x": permission denied: unknown`:                                                                        126,
		`error mounting "/y" to rootfs at "/etc": not a directory`:                                                      127,
		`error mounting "/y": no such file or directory`:                                                                128,
	} {
		err := startError(r, errors.New(text))
		var s *StartError
		if !errors.As(err, &s) || s.Code != want || strings.HasSuffix(err.Error(), "unknown") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
