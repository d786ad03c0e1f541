package daemon

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// foreignSettings are those of dockerd that mean nothing here. Harmless ones are
// accepted, with one warning; who gives another expects something that would not
// happen, and is refused.
type foreignSettings struct {
	PluginsNamespace  string          `json:"containerd-plugin-namespace"`
	StorageDriver     string          `json:"storage-driver"`
	StorageOptions    []string        `json:"storage-opts"`
	UserlandProxyPath string          `json:"userland-proxy-path"`
	Experimental      bool            `json:"experimental"`
	RawLogs           bool            `json:"raw-logs"`
	ControlPlaneMTU   int             `json:"network-control-plane-mtu"`
	Features          map[string]bool `json:"features"`
	Builder           any             `json:"builder"`
	CDISpecDirs       []string        `json:"cdi-spec-dirs"`
	Nondistributable  []string        `json:"allow-nondistributable-artifacts"`
	Signatures        bool            `json:"signature-verification"`
	KeyPath           string          `json:"deprecated-key-path"`
	SELinux           bool            `json:"selinux-enabled"`

	// AutoRestart is the flag of dockerds before restart policies.
	AutoRestart bool `json:"restart"`

	CRI                  bool           `json:"cri-containerd"`
	DiagnosticPort       int            `json:"network-diagnostic-port"`
	NodeGenericResources []string       `json:"node-generic-resources"`
	SwarmAdvertise       string         `json:"swarm-default-advertise-addr"`
	SwarmHeartbeatTick   int            `json:"swarm-raft-heartbeat-tick"`
	SwarmElectionTick    int            `json:"swarm-raft-election-tick"`
	AuthorizationPlugins []string       `json:"authorization-plugins"`
	UsernsRemap          string         `json:"userns-remap"`
	Rootless             bool           `json:"rootless"`
	CPURealtimePeriod    int64          `json:"cpu-rt-period"`
	CPURealtimeRuntime   int64          `json:"cpu-rt-runtime"`
	Runtimes             map[string]any `json:"runtimes"`
	CORSHeader           string         `json:"api-cors-header"`
	NRI                  any            `json:"nri-opts"`

	// OOMScoreAdjust is the daemon's own, which dockerd no longer sets.
	OOMScoreAdjust int `json:"oom-score-adjust"`
}

const meaningless = "accepted for dockerd's sake; means nothing here"

func (s *foreignSettings) register(f *pflag.FlagSet) {
	s.Signatures, s.AutoRestart = true, true
	f.StringVar(&s.PluginsNamespace, "containerd-plugins-namespace", "", meaningless)
	f.StringVarP(&s.StorageDriver, "storage-driver", "s", "", "overlay2 is what there is; others are accepted for dockerd's sake")
	f.StringArrayVar(&s.StorageOptions, "storage-opt", nil, "none is supported")
	f.StringVar(&s.UserlandProxyPath, "userland-proxy-path", "", meaningless)
	f.BoolVar(&s.Experimental, "experimental", false, meaningless)
	f.BoolVar(&s.RawLogs, "raw-logs", false, meaningless)
	f.IntVar(&s.ControlPlaneMTU, "network-control-plane-mtu", 0, meaningless)
	f.Var(featuresFlag{&s.Features}, "feature", meaningless)
	f.StringArrayVar(&s.CDISpecDirs, "cdi-spec-dir", nil, meaningless)
	f.StringArrayVar(&s.Nondistributable, "allow-nondistributable-artifacts", nil, meaningless)
	f.BoolVar(&s.Signatures, "signature-verification", s.Signatures, meaningless)
	f.BoolVar(&s.SELinux, "selinux-enabled", false, "refused where SELinux is on: containers get no labels")
	f.BoolVarP(&s.AutoRestart, "restart", "r", s.AutoRestart, meaningless)
	f.BoolVar(&s.CRI, "cri-containerd", false, "refused: set it in the containerd that --containerd names")
	f.IntVar(&s.DiagnosticPort, "network-diagnostic-port", 0, "refused: see `fairlead debug`")
	f.StringArrayVar(&s.NodeGenericResources, "node-generic-resource", nil, "refused: there is no swarm")
	f.StringVar(&s.SwarmAdvertise, "swarm-default-advertise-addr", "", "refused: there is no swarm")
	f.StringArrayVar(&s.AuthorizationPlugins, "authorization-plugin", nil, "refused: there are no plugins")
	f.StringVar(&s.UsernsRemap, "userns-remap", "", "refused: containers use the host's user namespace")
	f.BoolVar(&s.Rootless, "rootless", false, "refused: the daemon needs root")
	f.Int64Var(&s.CPURealtimePeriod, "cpu-rt-period", 0, "refused: set it in the cgroup that --cgroup-parent names")
	f.Int64Var(&s.CPURealtimeRuntime, "cpu-rt-runtime", 0, "refused: set it in the cgroup that --cgroup-parent names")
	f.Var(runtimesFlag{&s.Runtimes}, "add-runtime", "refused: runc is what there is")
	f.StringVar(&s.CORSHeader, "api-cors-header", "", "refused, as dockerd does: put a reverse proxy before the API")
	f.IntVar(&s.OOMScoreAdjust, "oom-score-adjust", 0, "the daemon's own score, -1000 to 1000")
	f.VisitAll(func(flag *pflag.Flag) {
		if flag.Usage == meaningless || strings.HasPrefix(flag.Usage, "refused") {
			flag.Hidden = true
		}
	})
}

// storageDrivers are dockerd's; whichever is named, images and containers are as
// well kept by containerd's overlayfs.
var storageDrivers = []string{"", "overlay2", "overlayfs", "overlay", "fuse-overlayfs", "vfs", "btrfs", "zfs", "aufs", "devicemapper"}

// refuse names the first setting that cannot be had, and what to do instead.
func (s *foreignSettings) refuse() error {
	for _, r := range []struct {
		given bool
		what  string
		why   string
	}{
		{s.SwarmAdvertise != "", "swarm-default-advertise-addr", "there is no swarm mode"},
		{len(s.NodeGenericResources) > 0, "node-generic-resource", "there is no swarm mode"},
		{s.SwarmHeartbeatTick != 0, "swarm-raft-heartbeat-tick", "there is no swarm mode"},
		{s.SwarmElectionTick != 0, "swarm-raft-election-tick", "there is no swarm mode"},
		{len(s.AuthorizationPlugins) > 0, "authorization-plugin", "there are no plugins, and requests would be let through; limit who reaches the socket by --group or --tlsverify"},
		{s.UsernsRemap != "", "userns-remap", "containers use the host's user namespace"},
		{s.Rootless, "rootless", "the daemon needs root"},
		{s.CRI, "cri-containerd", "switch CRI on in the configuration of the containerd that --containerd names"},
		{s.DiagnosticPort != 0, "network-diagnostic-port", "ask `fairlead debug` instead"},
		{s.CPURealtimePeriod != 0, "cpu-rt-period", "set it in the cgroup that --cgroup-parent names"},
		{s.CPURealtimeRuntime != 0, "cpu-rt-runtime", "set it in the cgroup that --cgroup-parent names"},
		{s.CORSHeader != "", "api-cors-header", "dockerd has removed it as well; use a reverse proxy if you need CORS headers"},
		{s.NRI != nil, "nri-opts", "switch NRI on in the configuration of containerd"},
		{!s.AutoRestart, "restart=false", "give containers the restart policy `no`"},
		{s.SELinux && selinuxOn(), "selinux-enabled", "containers get no SELinux labels here"},
		{!slices.Contains(storageDrivers, s.StorageDriver), "storage-driver " + s.StorageDriver, "want overlay2"},
	} {
		if r.given {
			return fmt.Errorf("--%s is not supported: %s", r.what, r.why)
		}
	}
	for _, o := range s.StorageOptions {
		if !strings.HasPrefix(o, "overlay2.override_kernel_check=") {
			return fmt.Errorf("--storage-opt %s is not supported: containerd's overlayfs has no options", o)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Runtimes)) {
		if name != "runc" && name != "io.containerd.runc.v2" {
			return fmt.Errorf("--add-runtime %s is not supported: runc is the only runtime", name)
		}
	}
	if s.OOMScoreAdjust < -1000 || s.OOMScoreAdjust > 1000 {
		return fmt.Errorf("--oom-score-adjust %d: want -1000 to 1000", s.OOMScoreAdjust)
	}
	return nil
}

// ignored names what was given and changes nothing.
func (s *foreignSettings) ignored() []string {
	var out []string
	for _, i := range []struct {
		given bool
		what  string
	}{
		{s.PluginsNamespace != "", "containerd-plugins-namespace"},
		{!slices.Contains(storageDrivers[:3], s.StorageDriver), "storage-driver"},
		{len(s.StorageOptions) > 0, "storage-opt"},
		{s.UserlandProxyPath != "", "userland-proxy-path"},
		{s.Experimental, "experimental"},
		{s.RawLogs, "raw-logs"},
		{s.ControlPlaneMTU != 0, "network-control-plane-mtu"},
		{s.Builder != nil, "builder"},
		{len(s.CDISpecDirs) > 0, "cdi-spec-dir"},
		{len(s.Nondistributable) > 0, "allow-nondistributable-artifacts"},
		{!s.Signatures, "signature-verification"},
		{s.KeyPath != "", "deprecated-key-path"},
		{s.SELinux, "selinux-enabled"},
	} {
		if i.given {
			out = append(out, i.what)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Features)) {
		if name != "containerd-snapshotter" || !s.Features[name] {
			out = append(out, fmt.Sprintf("feature %s=%t", name, s.Features[name]))
		}
	}
	return out
}

// selinuxOn says whether the kernel has SELinux switched on (selinux(8)).
func selinuxOn() bool {
	_, err := os.Stat("/sys/fs/selinux/enforce")
	return err == nil
}

// adjustOOM gives the daemon its score (proc_pid_oom_score_adj(5)).
func (s *foreignSettings) adjustOOM() error {
	if s.OOMScoreAdjust == 0 {
		return nil
	}
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(s.OOMScoreAdjust)), 0); err != nil {
		return fmt.Errorf("--oom-score-adjust: %w", err)
	}
	return nil
}

// featuresFlag reads NAME or NAME=BOOL.
type featuresFlag struct{ features *map[string]bool }

func (f featuresFlag) Type() string { return "name[=bool]" }

func (f featuresFlag) String() string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(*f.features)) {
		out = append(out, fmt.Sprintf("%s=%t", name, (*f.features)[name]))
	}
	return strings.Join(out, " ")
}

func (f featuresFlag) Set(v string) error {
	name, val, given := strings.Cut(v, "=")
	on := true
	if given {
		var err error
		if on, err = strconv.ParseBool(val); err != nil {
			return fmt.Errorf("%q is neither true nor false", val)
		}
	}
	if *f.features == nil {
		*f.features = make(map[string]bool)
	}
	(*f.features)[name] = on
	return nil
}

// runtimesFlag reads NAME=PATH.
type runtimesFlag struct{ runtimes *map[string]any }

func (r runtimesFlag) Type() string { return "name=path" }

func (r runtimesFlag) String() string {
	return strings.Join(slices.Sorted(maps.Keys(*r.runtimes)), " ")
}

func (r runtimesFlag) Set(v string) error {
	name, path, _ := strings.Cut(v, "=")
	switch {
	case name == "" || path == "":
		return errors.New("want NAME=PATH")
	case *r.runtimes == nil:
		*r.runtimes = make(map[string]any)
	}
	(*r.runtimes)[strings.ToLower(name)] = map[string]any{"path": path}
	return nil
}
