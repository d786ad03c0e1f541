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
	volumes, tmpfs []string
	memory, cpus   string
	pids           int64
}

func (f *limitFlags) register(fl *pflag.FlagSet) {
	fl.StringArrayVarP(&f.volumes, "volume", "v", nil, "share a directory or file of the host, HOSTPATH:PATH[:ro]")
	fl.StringArrayVar(&f.tmpfs, "tmpfs", nil, "empty directory in memory, PATH[:OPTION,…], as /tmp:size=64m")
	fl.StringVarP(&f.memory, "memory", "m", "", "most memory, in bytes or as 64m, 1g")
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
	if f.memory != "" {
		bytes, err := units.RAMInBytes(f.memory)
		if err != nil || bytes <= 0 {
			return fmt.Errorf("invalid --memory %q: want a number of bytes, or one as 64m or 1g", f.memory)
		}
		host.Memory = bytes
	}
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
