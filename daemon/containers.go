package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"

	"github.com/fairlead/fairlead/engine"
	"github.com/fairlead/fairlead/engine/logconfig"
)

// containerSettings are what containers get that do not say otherwise, and how
// they are ended with the daemon.
type containerSettings struct {
	LogDriver       string            `json:"log-driver"`
	LogOptions      map[string]string `json:"log-opts"`
	Ulimits         ulimits           `json:"default-ulimits"`
	ShmSize         byteSize          `json:"default-shm-size"`
	IpcMode         string            `json:"default-ipc-mode"`
	CgroupnsMode    string            `json:"default-cgroupns-mode"`
	Runtime         string            `json:"default-runtime"`
	Init            bool              `json:"init"`
	InitPath        string            `json:"init-path"`
	CgroupParent    string            `json:"cgroup-parent"`
	ExecOptions     []string          `json:"exec-opts"`
	NoNewPrivileges bool              `json:"no-new-privileges"`
	SeccompProfile  string            `json:"seccomp-profile"`
	NoNetRaw        bool              `json:"no-net-raw"`
	ShutdownTimeout int               `json:"shutdown-timeout"`
	Labels          []string          `json:"labels"`
}

func containerDefaults() containerSettings {
	return containerSettings{LogDriver: "json-file", ShmSize: 64 * units.MiB, IpcMode: "private", Runtime: "runc", SeccompProfile: "builtin", ShutdownTimeout: 15}
}

func (c *containerSettings) register(f *pflag.FlagSet) {
	f.StringVar(&c.LogDriver, "log-driver", c.LogDriver, "log driver of containers that name none: json-file, local, journald or none")
	f.Var(pairsFlag{&c.LogOptions}, "log-opt", "option of that log driver, as max-size=10m; several times for several")
	f.Var(&c.Ulimits, "default-ulimit", "limit of containers that do not set it, as nofile=1024:4096; several times for several")
	f.Var(&c.ShmSize, "default-shm-size", "size of /dev/shm in containers that name none")
	f.StringVar(&c.IpcMode, "default-ipc-mode", c.IpcMode, "IPC namespace of containers that name none: private or shareable")
	f.StringVar(&c.CgroupnsMode, "default-cgroupns-mode", "", "cgroup namespace of containers that name none: private or host (default: private with cgroup v2, host with v1)")
	f.StringVar(&c.Runtime, "default-runtime", c.Runtime, "runtime of containers: runc is what there is")
	f.BoolVar(&c.Init, "init", false, "run an init in containers that do not refuse it")
	f.StringVar(&c.InitPath, "init-path", "", "that init (default: docker-init or tini, where it is found)")
	f.StringVar(&c.CgroupParent, "cgroup-parent", "", "cgroup to make containers' in")
	f.StringArrayVar(&c.ExecOptions, "exec-opt", nil, "native.cgroupdriver=cgroupfs is what there is")
	f.BoolVar(&c.NoNewPrivileges, "no-new-privileges", false, "keep containers that do not say otherwise from gaining privileges")
	f.BoolVar(&c.NoNetRaw, "no-net-raw", false, "keep CAP_NET_RAW, and with it packet sockets, from every container, privileged ones too; ping works by ICMP sockets")
	f.StringVar(&c.SeccompProfile, "seccomp-profile", c.SeccompProfile, "seccomp profile of containers that name none: a file, builtin or unconfined")
	f.IntVar(&c.ShutdownTimeout, "shutdown-timeout", c.ShutdownTimeout, "seconds that containers have to stop when the daemon does, without --live-restore; -1 for ever")
	f.StringArrayVar(&c.Labels, "label", nil, "label of the daemon, KEY=VALUE; several times for several")
}

func (c *containerSettings) check() error {
	switch {
	case c.IpcMode != "private" && c.IpcMode != "shareable":
		return fmt.Errorf("--default-ipc-mode %q: want private or shareable", c.IpcMode)
	case !slices.Contains([]string{"", "private", "host"}, c.CgroupnsMode):
		return fmt.Errorf("--default-cgroupns-mode %q: want private or host", c.CgroupnsMode)
	case c.Runtime != "runc" && c.Runtime != "io.containerd.runc.v2":
		return fmt.Errorf("--default-runtime %q: only runc is supported", c.Runtime)
	case c.InitPath != "" && !strings.HasPrefix(c.InitPath, "/"):
		return fmt.Errorf("--init-path %q: want an absolute path", c.InitPath)
	case c.ShutdownTimeout < -1:
		return fmt.Errorf("--shutdown-timeout %d: want seconds, or -1 for no limit", c.ShutdownTimeout)
	}
	for _, o := range c.ExecOptions {
		switch key, val, ok := strings.Cut(o, "="); {
		case !ok || val == "":
			return fmt.Errorf("--exec-opt %q: want KEY=VALUE", o)
		case key != "native.cgroupdriver":
			return fmt.Errorf("--exec-opt %s: only native.cgroupdriver=cgroupfs is supported", key)
		case val != "cgroupfs":
			return fmt.Errorf("--exec-opt %s: only the cgroup driver cgroupfs is supported", o)
		}
	}
	if err := logconfig.Check(logconfig.Merge(container.LogConfig{}, c.logConfig())); err != nil {
		return fmt.Errorf("--log-driver, --log-opt: %w", err)
	}
	return checkLabels(c.Labels)
}

// cacheOption begins the options of Docker's second log, of which `docker logs` reads
// where the driver keeps none that can be read. There is none here.
const cacheOption = "cache-"

func (c *containerSettings) logConfig() container.LogConfig {
	options := maps.Clone(c.LogOptions)
	maps.DeleteFunc(options, func(key, _ string) bool { return strings.HasPrefix(key, cacheOption) })
	return container.LogConfig{Type: c.LogDriver, Config: options}
}

// ignoredOptions names those that were given and change nothing.
func (c *containerSettings) ignoredOptions() (out []string) {
	for _, key := range slices.Sorted(maps.Keys(c.LogOptions)) {
		if strings.HasPrefix(key, cacheOption) {
			out = append(out, "log-opt "+key)
		}
	}
	return out
}

// checkLabels refuses a label without a value, and one that has two.
func checkLabels(labels []string) error {
	values := make(map[string]string)
	for _, l := range labels {
		key, val, ok := strings.Cut(l, "=")
		if !ok || key == "" {
			return fmt.Errorf("--label %q: bad attribute format: want KEY=VALUE", l)
		}
		if other, there := values[key]; there && other != val {
			return fmt.Errorf("--label: conflict labels for %s=%s and %s=%s", key, val, key, other)
		}
		values[key] = val
	}
	return nil
}

// seccomp is the profile itself.
func (c *containerSettings) seccomp() (string, error) {
	switch c.SeccompProfile {
	case "", "builtin":
		return "", nil
	case "unconfined":
		return "unconfined", nil
	}
	raw, err := os.ReadFile(c.SeccompProfile)
	if err != nil {
		return "", fmt.Errorf("--seccomp-profile: %w", err)
	}
	var profile map[string]any
	if err := json.Unmarshal(raw, &profile); err != nil {
		return "", fmt.Errorf("--seccomp-profile %s: opening seccomp profile failed: %w", c.SeccompProfile, err)
	}
	return string(raw), nil
}

// engineDefaults are the settings as the engine takes them.
func (c *containerSettings) engineDefaults() (engine.Defaults, error) {
	profile, err := c.seccomp()
	var limits []*container.Ulimit
	for _, name := range slices.Sorted(maps.Keys(c.Ulimits)) {
		limits = append(limits, c.Ulimits[name])
	}
	return engine.Defaults{
		LogConfig: c.logConfig(), Ulimits: limits, ShmSize: int64(c.ShmSize),
		IpcMode: container.IpcMode(c.IpcMode), CgroupnsMode: container.CgroupnsMode(c.CgroupnsMode),
		Init: c.Init, InitPath: c.InitPath, CgroupParent: c.CgroupParent,
		NoNewPrivileges: c.NoNewPrivileges, SeccompProfile: profile, NoNetRaw: c.NoNetRaw,
	}, err
}

// shutdownTime is how long the containers as a whole have.
func (c *containerSettings) shutdownTime() time.Duration {
	return time.Duration(c.ShutdownTimeout) * time.Second
}

// byteSize is a number of bytes, which people write as 64M.
type byteSize int64

func (b *byteSize) Type() string { return "bytes" }

func (b *byteSize) String() string { return units.BytesSize(float64(*b)) }

func (b *byteSize) Set(v string) error {
	n, err := units.RAMInBytes(v)
	if err == nil && n <= 0 {
		err = errors.New("want more than nothing")
	}
	if err != nil {
		return err
	}
	*b = byteSize(n)
	return nil
}

// UnmarshalJSON reads a number, or a text as of the flag.
func (b *byteSize) UnmarshalJSON(raw []byte) error {
	if bytes.HasPrefix(raw, []byte(`"`)) {
		var text string
		if err := json.Unmarshal(raw, &text); err != nil || text == "" {
			return err
		}
		return b.Set(text)
	}
	var n int64
	err := json.Unmarshal(raw, &n)
	*b = byteSize(n)
	return err
}

// ulimits are by their names.
type ulimits map[string]*container.Ulimit

func (u *ulimits) Type() string { return "ulimit" }

func (u *ulimits) String() string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(*u)) {
		out = append(out, (*u)[name].String())
	}
	return strings.Join(out, " ")
}

func (u *ulimits) Set(v string) error {
	limit, err := units.ParseUlimit(v)
	if err != nil {
		return err
	}
	if *u == nil {
		*u = make(ulimits)
	}
	(*u)[limit.Name] = limit
	return nil
}

// UnmarshalJSON reads Docker's form: limits by name, each with its name again.
func (u *ulimits) UnmarshalJSON(raw []byte) error {
	limits := make(map[string]*container.Ulimit)
	if err := json.Unmarshal(raw, &limits); err != nil {
		return err
	}
	for name, limit := range limits {
		if limit == nil {
			return fmt.Errorf("%s has no limit", name)
		}
		if limit.Name == "" {
			limit.Name = name
		}
		checked, err := units.ParseUlimit(limit.String())
		if err != nil {
			return err
		}
		if checked.Name != name {
			return fmt.Errorf("%s is of %s", name, checked.Name)
		}
	}
	*u = limits
	return nil
}

// pairsFlag reads KEY=VALUE, several times.
type pairsFlag struct{ pairs *map[string]string }

func (p pairsFlag) Type() string { return "key=value" }

func (p pairsFlag) String() string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(*p.pairs)) {
		out = append(out, key+"="+(*p.pairs)[key])
	}
	return strings.Join(out, " ")
}

func (p pairsFlag) Set(v string) error {
	key, val, _ := strings.Cut(v, "=")
	if key == "" {
		return fmt.Errorf("%q: want KEY=VALUE", v)
	}
	if *p.pairs == nil {
		*p.pairs = make(map[string]string)
	}
	(*p.pairs)[key] = val
	return nil
}
