package cli

import (
	"fmt"
	"math/big"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"
)

// resourceFlags are the limits that run and create set, and that update changes.
type resourceFlags struct {
	memory, memorySwap, memoryReservation string
	cpus, cpuset, cpusetMems              string
	cpuShares, cpuPeriod, cpuQuota        int64
	cpuRTPeriod, cpuRTRuntime             int64
	pids                                  int64
	blkioWeight                           uint64
}

func (f *resourceFlags) register(fl *pflag.FlagSet) {
	fl.StringVarP(&f.memory, "memory", "m", "", "most memory, in bytes or as 64m, 1g")
	fl.StringVar(&f.memoryReservation, "memory-reservation", "", "memory it is pressed back to when the host's is short")
	fl.StringVar(&f.memorySwap, "memory-swap", "", "most memory and swap together; -1 for no limit of swap (default: twice the memory)")
	fl.StringVar(&f.cpus, "cpus", "", "most processor time, in processors, as 1.5")
	fl.Int64VarP(&f.cpuShares, "cpu-shares", "c", 0, "share of the processors beside others (default 1024)")
	fl.Int64Var(&f.cpuPeriod, "cpu-period", 0, "microseconds that --cpu-quota is of (default 100000)")
	fl.Int64Var(&f.cpuQuota, "cpu-quota", 0, "most microseconds of processor time in each period")
	fl.Int64Var(&f.cpuRTPeriod, "cpu-rt-period", 0, "microseconds that --cpu-rt-runtime is of")
	fl.Int64Var(&f.cpuRTRuntime, "cpu-rt-runtime", 0, "most microseconds of real-time scheduling in each period")
	fl.StringVar(&f.cpuset, "cpuset-cpus", "", "processors to run on, as 0-2,4")
	fl.StringVar(&f.cpusetMems, "cpuset-mems", "", "memory nodes to use, as 0,1")
	fl.Int64Var(&f.pids, "pids-limit", 0, "most processes and threads; -1 for no limit")
	fl.Uint64Var(&f.blkioWeight, "blkio-weight", 0, "share of the block devices' time beside others, 10 to 1000")
}

func (f *resourceFlags) apply(host *container.Resources) error {
	for _, size := range []struct {
		flag, text string
		into       *int64
	}{{"memory", f.memory, &host.Memory}, {"memory-reservation", f.memoryReservation, &host.MemoryReservation}, {"memory-swap", f.memorySwap, &host.MemorySwap}} {
		if err := readSize(size.flag, size.text, size.into); err != nil {
			return err
		}
	}
	host.CPUShares, host.CPUPeriod, host.CPUQuota = f.cpuShares, f.cpuPeriod, f.cpuQuota
	host.CPURealtimePeriod, host.CPURealtimeRuntime = f.cpuRTPeriod, f.cpuRTRuntime
	host.CpusetCpus, host.CpusetMems = f.cpuset, f.cpusetMems
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
	var err error
	host.BlkioWeight, err = weight("blkio-weight", f.blkioWeight)
	return err
}

// limitFlags are the flags of run and create for a container's share of the host:
// its files, memory, processors and processes.
type limitFlags struct {
	resourceFlags
	volumeFlags
	shm        string
	swappiness int64
	ulimits    []string
}

func (f *limitFlags) register(fl *pflag.FlagSet) {
	f.resourceFlags.register(fl)
	fl.StringVar(&f.shm, "shm-size", "", "size of /dev/shm, in bytes or as 64m (default 64m)")
	fl.Int64Var(&f.swappiness, "memory-swappiness", -1, "how soon its memory is swapped out, 0 to 100 (cgroup v1; -1: the host's)")
	fl.StringArrayVar(&f.ulimits, "ulimit", nil, "limit of each process, NAME=SOFT[:HARD], as nofile=1024:4096")
}

func (f *limitFlags) apply(host *container.HostConfig) error {
	if err := f.volumeFlags.apply(host); err != nil {
		return err
	}
	for _, text := range f.ulimits {
		limit, err := units.ParseUlimit(text)
		if err != nil {
			return fmt.Errorf("invalid --ulimit %q: want NAME=SOFT[:HARD]: %w", text, err)
		}
		host.Ulimits = append(host.Ulimits, limit)
	}
	if err := readSize("shm-size", f.shm, &host.ShmSize); err != nil {
		return err
	}
	var err error
	if host.MemorySwappiness, err = swappiness(f.swappiness); err != nil {
		return err
	}
	return f.resourceFlags.apply(&host.Resources)
}

// swappiness reads 0 to 100; -1 leaves it to the host.
func swappiness(n int64) (*int64, error) {
	if n == -1 {
		return nil, nil
	}
	if n < 0 || n > 100 {
		return nil, fmt.Errorf("invalid --memory-swappiness %d: want 0 to 100", n)
	}
	return &n, nil
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
