package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/bench/report"
)

// peers are the packages whose programs are measured, or stand below those that are.
var peers = []string{"containerd", "runc", "docker.io", "podman", "netavark", "aardvark-dns", "containernetworking-plugins"}

// machine says where and on what the numbers are taken.
func machine(ctx context.Context) ([]report.Fact, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, err
	}
	var packages []string
	for _, name := range peers {
		out, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${Package} ${Version}", name).Output()
		if err != nil {
			return nil, fmt.Errorf("the version of %s: %w", name, err)
		}
		packages = append(packages, string(out))
	}
	return []report.Fact{
		{Name: "Machine", Value: fmt.Sprintf("%s, %d cores, %s of memory", firstField("/proc/cpuinfo", "model name"), runtime.NumCPU(), memory())},
		{Name: "Kernel", Value: unix.ByteSliceToString(u.Release[:])},
		{Name: "System", Value: strings.Trim(firstField("/etc/os-release", "PRETTY_NAME"), `"`)},
		{Name: "Go", Value: runtime.Version()},
		{Name: "Packages", Value: strings.Join(packages, ", ")},
	}, nil
}

// commit is what is measured, as git calls it.
func commit(ctx context.Context) string {
	version, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(version))
}

// firstField reads the value of the first line "name : value" or "name=value".
func firstField(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.Trim(rest, " \t:=\n")
		}
	}
	return "unknown"
}

func memory() string {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%.0f GiB", float64(info.Totalram)*float64(info.Unit)/(1<<30))
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}
