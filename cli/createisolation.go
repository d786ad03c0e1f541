package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"
)

// isolationFlags are the flags of run and create for what a container shares with the
// host, and what it may do there.
type isolationFlags struct {
	ipc, pid, uts, userns, cgroupns  string
	cgroupParent, runtime, isolation string
	umask                            string
	securityOpts, groups             []string
	annotations, storageOpts         []string
	oomKillDisable                   bool
	oomScoreAdj                      int
}

func (f *isolationFlags) register(fl *pflag.FlagSet) {
	fl.StringVar(&f.ipc, "ipc", "", "shared memory and queues: private, shareable, host, none or container:NAME (default: the daemon's)")
	fl.StringVar(&f.pid, "pid", "", "processes seen: host, or container:NAME (default: its own)")
	fl.StringVar(&f.uts, "uts", "", "host name: host for the host's (default: its own)")
	fl.StringVar(&f.userns, "userns", "", "user namespace: host")
	fl.StringVar(&f.cgroupns, "cgroupns", "", "cgroups seen: host or private (default: the daemon's)")
	fl.StringVar(&f.cgroupParent, "cgroup-parent", "", "cgroup that the container's is made in")
	fl.StringVar(&f.runtime, "runtime", "", "OCI runtime (default: the daemon's)")
	fl.StringVar(&f.isolation, "isolation", "", "isolation technology: default, which is all there is on Linux")
	fl.StringVar(&f.umask, "umask", "", "file mode mask of the command, octal, as 0027")
	fl.StringArrayVar(&f.securityOpts, "security-opt", nil,
		"seccomp=FILE|unconfined|builtin, apparmor=PROFILE, label=…, no-new-privileges,\nsystempaths=unconfined")
	fl.StringArrayVar(&f.groups, "group-add", nil, "further group of the command's user, NAME or GID")
	fl.StringArrayVar(&f.annotations, "annotation", nil, "annotation for the OCI runtime, KEY=VALUE")
	fl.StringArrayVar(&f.storageOpts, "storage-opt", nil, "option of the storage driver, KEY=VALUE")
	fl.BoolVar(&f.oomKillDisable, "oom-kill-disable", false, "do not kill it when its memory is used up (cgroup v1)")
	fl.IntVar(&f.oomScoreAdj, "oom-score-adj", 0, "how soon the host kills it when memory is short: -1000 (last) to 1000")
}

func (f *isolationFlags) apply(host *container.HostConfig) error {
	var err error
	if host.SecurityOpt, err = securityOptions(f.securityOpts); err != nil {
		return err
	}
	// The API says this one by the paths that are not hidden.
	if i := slices.Index(host.SecurityOpt, "systempaths=unconfined"); i >= 0 {
		host.SecurityOpt = slices.Delete(host.SecurityOpt, i, i+1)
		host.MaskedPaths, host.ReadonlyPaths = []string{}, []string{}
	}
	if host.Annotations, err = someKeyValues("--annotation", f.annotations); err != nil {
		return err
	}
	if host.StorageOpt, err = someKeyValues("--storage-opt", f.storageOpts); err != nil {
		return err
	}
	if host.Umask, err = umask(f.umask); err != nil {
		return err
	}
	if f.oomScoreAdj < -1000 || f.oomScoreAdj > 1000 {
		return fmt.Errorf("invalid --oom-score-adj %d: want -1000 to 1000", f.oomScoreAdj)
	}
	for _, mode := range []struct {
		flag, value string
		valid       bool
		want        string
	}{
		{"ipc", f.ipc, container.IpcMode(f.ipc).Valid(), "private, shareable, host, none or container:NAME"},
		{"pid", f.pid, container.PidMode(f.pid).Valid(), "host or container:NAME"},
		{"uts", f.uts, container.UTSMode(f.uts).Valid(), "host"},
		{"userns", f.userns, container.UsernsMode(f.userns).Valid(), "host"},
		{"cgroupns", f.cgroupns, container.CgroupnsMode(f.cgroupns).Valid(), "host or private"},
	} {
		if !mode.valid {
			return fmt.Errorf("invalid --%s %q: want %s", mode.flag, mode.value, mode.want)
		}
	}
	host.IpcMode, host.PidMode, host.UTSMode = container.IpcMode(f.ipc), container.PidMode(f.pid), container.UTSMode(f.uts)
	host.UsernsMode, host.CgroupnsMode = container.UsernsMode(f.userns), container.CgroupnsMode(f.cgroupns)
	host.CgroupParent, host.Runtime, host.Isolation = f.cgroupParent, f.runtime, container.Isolation(f.isolation)
	host.GroupAdd, host.OomScoreAdj = f.groups, f.oomScoreAdj
	if f.oomKillDisable {
		host.OomKillDisable = &f.oomKillDisable
	}
	return nil
}

// someKeyValues is nil where there are no pairs.
func someKeyValues(flag string, pairs []string) (map[string]string, error) {
	if len(pairs) == 0 {
		return nil, nil
	}
	return keyValues(flag, pairs, false)
}

func compactJSON(text []byte) (string, error) {
	var out bytes.Buffer
	if err := json.Compact(&out, text); err != nil {
		return "", err
	}
	return out.String(), nil
}

// weight reads a share of the block devices' time; 0 leaves it alone.
func weight(flag string, n uint64) (uint16, error) {
	if n != 0 && (n < 10 || n > 1000) || n > math.MaxUint16 {
		return 0, fmt.Errorf("invalid --%s %d: want 10 to 1000, or 0", flag, n)
	}
	return uint16(n), nil
}

// devicePath splits PATH:VALUE of the flags that speak of one block device.
func devicePath(text string) (path, value string, err error) {
	path, value, found := strings.Cut(text, ":")
	if !found || !strings.HasPrefix(path, "/dev/") || value == "" {
		return "", "", errors.New("want /dev/NAME:VALUE")
	}
	return path, value, nil
}
