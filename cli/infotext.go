package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/system"
)

// printInfo prints what the daemon runs on and with, line by line as docker does, for
// those who look for a line. What is not told is left out.
func printInfo(w io.Writer, info system.Info) {
	fmt.Fprintln(w, "Server:")
	line := func(indent int, name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%*s%s: %s\n", indent, "", name, value)
		}
	}
	line(1, "Containers", fmt.Sprint(info.Containers))
	line(2, "Running", fmt.Sprint(info.ContainersRunning))
	line(2, "Paused", fmt.Sprint(info.ContainersPaused))
	line(2, "Stopped", fmt.Sprint(info.ContainersStopped))
	line(1, "Images", fmt.Sprint(info.Images))
	line(1, "Server Version", info.ServerVersion)
	line(1, "Storage Driver", info.Driver)
	for _, pair := range info.DriverStatus {
		line(2, pair[0], pair[1])
	}
	line(1, "Logging Driver", info.LoggingDriver)
	line(1, "Cgroup Driver", info.CgroupDriver)
	line(1, "Cgroup Version", info.CgroupVersion)
	fmt.Fprintln(w, " Plugins:")
	line(2, "Volume", strings.Join(info.Plugins.Volume, " "))
	line(2, "Network", strings.Join(info.Plugins.Network, " "))
	line(2, "Log", strings.Join(info.Plugins.Log, " "))
	line(1, "Swarm", string(info.Swarm.LocalNodeState))
	line(1, "Runtimes", strings.Join(slices.Sorted(maps.Keys(info.Runtimes)), " "))
	line(1, "Default Runtime", info.DefaultRuntime)
	line(1, "Init Binary", info.InitBinary)
	line(1, "containerd version", info.ContainerdCommit.ID)
	line(1, "runc version", info.RuncCommit.ID)
	line(1, "init version", info.InitCommit.ID)
	printSecurity(w, info.SecurityOptions)
	line(1, "Kernel Version", info.KernelVersion)
	line(1, "Operating System", info.OperatingSystem)
	line(1, "OSType", info.OSType)
	line(1, "Architecture", info.Architecture)
	line(1, "CPUs", fmt.Sprint(info.NCPU))
	line(1, "Total Memory", units.BytesSize(float64(info.MemTotal)))
	line(1, "Name", info.Name)
	line(1, "ID", info.ID)
	line(1, "Docker Root Dir", info.DockerRootDir)
	line(1, "Debug Mode", fmt.Sprint(info.Debug))
	line(1, "HTTP Proxy", info.HTTPProxy)
	line(1, "HTTPS Proxy", info.HTTPSProxy)
	line(1, "No Proxy", info.NoProxy)
	printList(w, "Labels", info.Labels)
	line(1, "Experimental", fmt.Sprint(info.ExperimentalBuild))
	printRegistries(w, info)
	line(1, "Live Restore Enabled", fmt.Sprint(info.LiveRestoreEnabled))
	line(1, "IPv4 Forwarding", fmt.Sprint(info.IPv4Forwarding))
	if len(info.DefaultAddressPools) > 0 {
		fmt.Fprintln(w, " Default Address Pools:")
		for _, pool := range info.DefaultAddressPools {
			fmt.Fprintf(w, "   Base: %s, Size: %d\n", pool.Base, pool.Size)
		}
	}
	if info.FirewallBackend != nil {
		line(1, "Firewall Backend", info.FirewallBackend.Driver)
		for _, pair := range info.FirewallBackend.Info {
			line(2, pair[0], pair[1])
		}
	}
	if info.Containerd != nil {
		line(1, "containerd", info.Containerd.Address)
		line(2, "Namespace", info.Containerd.Namespaces.Containers)
	}
}

// printList prints a title and what is below it.
func printList(w io.Writer, title string, values []string) {
	if len(values) > 0 {
		fmt.Fprintf(w, " %s:\n  %s\n", title, strings.Join(values, "\n  "))
	}
}

// printSecurity prints options of the form name=seccomp,profile=builtin.
func printSecurity(w io.Writer, options []string) {
	if len(options) == 0 {
		return
	}
	fmt.Fprintln(w, " Security Options:")
	for _, option := range options {
		for field := range strings.SplitSeq(option, ",") {
			key, value, found := strings.Cut(field, "=")
			switch {
			case !found:
				fmt.Fprintf(w, "  %s\n", field)
			case key == "name":
				fmt.Fprintf(w, "  %s\n", value)
			default:
				fmt.Fprintf(w, "   %s: %s\n", strings.ToUpper(key[:1])+key[1:], value)
			}
		}
	}
}

func printRegistries(w io.Writer, info system.Info) {
	if info.RegistryConfig == nil {
		return
	}
	var insecure []string
	for _, prefix := range info.RegistryConfig.InsecureRegistryCIDRs {
		insecure = append(insecure, prefix.String())
	}
	for _, name := range slices.Sorted(maps.Keys(info.RegistryConfig.IndexConfigs)) {
		if index := info.RegistryConfig.IndexConfigs[name]; index != nil && !index.Secure {
			insecure = append(insecure, name)
		}
	}
	printList(w, "Insecure Registries", insecure)
	printList(w, "Registry Mirrors", info.RegistryConfig.Mirrors)
}
