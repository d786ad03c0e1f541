package engine

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"os"
	goruntime "runtime"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/engine/logconfig"
	"github.com/fairlead/fairlead/engine/runtime"
)

// Info tells of the daemon and its host.
func (e *Engine) Info(ctx context.Context) (system.Info, error) {
	out := e.cfg.Info
	e.applySettings(&out)
	for _, c := range e.registry.all() {
		out.Containers++
		switch c.record().State.Status() {
		case container.StateRunning, container.StateRestarting:
			out.ContainersRunning++
		case container.StatePaused:
			out.ContainersPaused++
		default:
			out.ContainersStopped++
		}
	}
	images, err := e.images.List(ctx)
	if err != nil {
		return out, err
	}
	ids := make(map[string]bool)
	for _, i := range images {
		ids[i.ID.String()] = true
	}
	out.Images = len(ids)
	out.NEventsListener = int(e.listeners.Load())
	e.describeRuntime(ctx, &out)
	if err := describeHost(&out); err != nil {
		return out, err
	}
	out.CgroupVersion = "1"
	if e.unified {
		out.CgroupVersion = "2"
	}
	out.Warnings = append(out.Warnings, e.cfg.Network.Warnings()...)
	if lines, path := e.lost(); len(lines) > 0 {
		out.Warnings = append(out.Warnings, fmt.Sprintf("%s: the store was damaged and %d of its records could not be had back; remove the file when it is read", path, len(lines)))
	}
	return out, nil
}

func (e *Engine) describeRuntime(ctx context.Context, out *system.Info) {
	out.Driver, out.LoggingDriver, out.CgroupDriver = runtime.Snapshotter, logconfig.Merge(container.LogConfig{}, e.cfg.LogConfig).Type, "cgroupfs"
	out.DriverStatus = [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}}
	out.DockerRootDir = e.cfg.DataRoot
	out.Plugins.Log, out.Plugins.Network, out.Plugins.Volume = slices.Clone(logconfig.Drivers), []string{"bridge", "host", "null"}, []string{"local"}
	out.DefaultRuntime = "runc"
	out.Runtimes = map[string]system.RuntimeWithStatus{"runc": {Runtime: system.Runtime{Path: "runc"}}}
	out.Containerd = &system.ContainerdInfo{
		Address: e.rt.Address(), Namespaces: system.ContainerdNamespaces{Containers: e.rt.Namespace(), Plugins: e.rt.Namespace()},
	}
	if version, err := e.rt.Version(ctx); err == nil {
		out.ContainerdCommit.ID = version
	}
	if version, err := runtime.RuncVersion(ctx); err == nil {
		out.RuncCommit.ID = version
	}
	out.InitBinary = e.initBinary()
	version, commit := e.initVersion(ctx)
	out.InitCommit.ID = cmp.Or(commit, version)
	out.Swarm.LocalNodeState = swarm.LocalNodeStateInactive
	out.SecurityOptions = e.securityOptions()
	out.CDISpecDirs = []string{}
	out.OomKillDisable = !e.unified // the cgroup of version 2 has no such switch
	out.MemoryLimit, out.SwapLimit, out.CPUCfsPeriod, out.CPUCfsQuota = true, true, true, true
	out.CPUShares, out.CPUSet, out.PidsLimit = true, true, true
}

// securityOptions are what keeps containers in, as Docker's clients read it.
func (e *Engine) securityOptions() []string {
	var out []string
	if enabled, err := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err == nil && strings.HasPrefix(string(enabled), "Y") {
		out = append(out, "name=apparmor")
	}
	profile := "builtin"
	switch e.cfg.SeccompProfile {
	case "":
	case "unconfined":
		profile = e.cfg.SeccompProfile
	default:
		profile = "custom"
	}
	out = append(out, "name=seccomp,profile="+profile)
	if e.unified {
		out = append(out, "name=cgroupns")
	}
	if e.cfg.NoNewPrivileges {
		out = append(out, "name=no-new-privileges")
	}
	if e.cfg.NoNetRaw {
		out = append(out, "name=no-net-raw")
	}
	return out
}

func describeHost(out *system.Info) error {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return err
	}
	var mem unix.Sysinfo_t
	if err := unix.Sysinfo(&mem); err != nil {
		return err
	}
	out.KernelVersion = unix.ByteSliceToString(uts.Release[:])
	if out.Name == "" {
		out.Name = unix.ByteSliceToString(uts.Nodename[:])
	}
	out.OSType, out.Architecture = "linux", architecture()
	out.OperatingSystem, out.OSVersion = osRelease()
	out.NCPU, out.MemTotal = goruntime.NumCPU(), int64(mem.Totalram)*int64(mem.Unit)
	out.NGoroutines = goruntime.NumGoroutine()
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		out.NFd = len(open)
	}
	out.IndexServerAddress = "https://index.docker.io/v1/"
	out.SystemTime = time.Now().Format(time.RFC3339Nano)
	forward, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	out.IPv4Forwarding = err == nil && strings.TrimSpace(string(forward)) == "1"
	return nil
}

// osRelease reads the distribution's name and version, see os-release(5).
func osRelease() (name, version string) {
	name = "Linux"
	f, err := os.Open("/etc/os-release")
	if err != nil {
		return name, ""
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "=")
		value = strings.Trim(value, `"'`)
		switch key {
		case "PRETTY_NAME":
			name = value
		case "VERSION_ID":
			version = value
		}
	}
	return name, version
}
