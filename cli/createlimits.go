package cli

import (
	"fmt"
	"math/big"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"
)

// limitFlags are the flags of run and create for a container's share of the host:
// its files, memory, processors and processes.
type limitFlags struct {
	volumes, tmpfs, mounts  []string
	memory, memorySwap, shm string
	cpus, cpuset            string
	ulimits                 []string
	pids                    int64
}

func (f *limitFlags) register(fl *pflag.FlagSet) {
	fl.StringArrayVarP(&f.volumes, "volume", "v", nil, "share a directory or file of the host, HOSTPATH:PATH[:ro]")
	fl.StringArrayVar(&f.tmpfs, "tmpfs", nil, "empty directory in memory, PATH[:OPTION,…], as /tmp:size=64m")
	fl.StringArrayVar(&f.mounts, "mount", nil,
		"the same in long form: type=bind,source=HOSTPATH,target=PATH[,readonly][,bind-propagation=…]\nor type=tmpfs,target=PATH[,tmpfs-size=64m][,tmpfs-mode=1777]")
	fl.StringVar(&f.shm, "shm-size", "", "size of /dev/shm, in bytes or as 64m (default 64m)")
	fl.StringArrayVar(&f.ulimits, "ulimit", nil, "limit of each process, NAME=SOFT[:HARD], as nofile=1024:4096")
	fl.StringVarP(&f.memory, "memory", "m", "", "most memory, in bytes or as 64m, 1g")
	fl.StringVar(&f.memorySwap, "memory-swap", "", "most memory and swap together; -1 for no limit of swap (default: twice the memory)")
	fl.StringVar(&f.cpuset, "cpuset-cpus", "", "processors to run on, as 0-2,4")
	fl.StringVar(&f.cpus, "cpus", "", "most processor time, in processors, as 1.5")
	fl.Int64Var(&f.pids, "pids-limit", 0, "most processes and threads; 0 or -1 for no limit")
}

func (f *limitFlags) apply(host *container.HostConfig) error {
	for _, volume := range f.volumes {
		bind, err := parseVolume(volume)
		if err != nil {
			return err
		}
		host.Binds = append(host.Binds, bind)
	}
	for _, value := range f.tmpfs {
		path, options, _ := strings.Cut(value, ":")
		if host.Tmpfs == nil {
			host.Tmpfs = map[string]string{}
		}
		host.Tmpfs[path] = options
	}
	for _, text := range f.mounts {
		m, err := parseMount(text)
		if err != nil {
			return err
		}
		host.Mounts = append(host.Mounts, m)
	}
	for _, text := range f.ulimits {
		limit, err := units.ParseUlimit(text)
		if err != nil {
			return fmt.Errorf("invalid --ulimit %q: want NAME=SOFT[:HARD]: %w", text, err)
		}
		host.Ulimits = append(host.Ulimits, limit)
	}
	for _, size := range []struct {
		flag, text string
		into       *int64
	}{{"memory", f.memory, &host.Memory}, {"shm-size", f.shm, &host.ShmSize}, {"memory-swap", f.memorySwap, &host.MemorySwap}} {
		if err := readSize(size.flag, size.text, size.into); err != nil {
			return err
		}
	}
	host.CpusetCpus = f.cpuset
	if f.cpus != "" {
		cpus, ok := new(big.Rat).SetString(f.cpus)
		if !ok || cpus.Sign() <= 0 {
			return fmt.Errorf("invalid --cpus %q: want a number above 0, as 1.5", f.cpus)
		}
		nano := cpus.Mul(cpus, big.NewRat(1e9, 1))
		if !nano.IsInt() || !nano.Num().IsInt64() {
			return fmt.Errorf("invalid --cpus %q: want nine digits after the point at most", f.cpus)
		}
		host.NanoCPUs = nano.Num().Int64()
	}
	if f.pids != 0 {
		host.PidsLimit = &f.pids
	}
	return nil
}

// readSize reads a number of bytes above 0. Swap may be without limit.
func readSize(flag, text string, into *int64) error {
	if text == "" {
		return nil
	}
	if flag == "memory-swap" && text == "-1" {
		*into = -1
		return nil
	}
	bytes, err := units.RAMInBytes(text)
	if err != nil || bytes <= 0 {
		return fmt.Errorf("invalid --%s %q: want a number of bytes, or one as 64m or 1g", flag, text)
	}
	*into = bytes
	return nil
}

// parseVolume makes the host's path absolute where it begins with a dot: the
// daemon does not know where we are.
func parseVolume(value string) (string, error) {
	source, target, found := strings.Cut(value, ":")
	if !found || source == "" || target == "" {
		return "", fmt.Errorf("invalid -v %q: want HOSTPATH:PATH[:ro]", value)
	}
	if source == "." || source == ".." || strings.HasPrefix(source, "./") || strings.HasPrefix(source, "../") {
		abs, err := filepath.Abs(source)
		if err != nil {
			return "", fmt.Errorf("invalid -v %q: %w", value, err)
		}
		source = abs
	}
	return source + ":" + target, nil
}
