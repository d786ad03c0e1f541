package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// report is what was seen of each engine.
type report struct {
	started time.Time
	engines []string
	// rows are the numbers of those that are tried; none is all.
	rows []string
	// seen is in the order of the rows, by engine.
	seen map[string][]string
}

// preface explains the table.
const preface = `# Attacks, side by side

Written by ` + "`make bench-attacks`" + `; nothing here is typed by hand. Each engine runs on a throw-away host with the settings
that it has by itself, and the same program attacks it. The numbers are those of [docs/SECURITY.md](../docs/SECURITY.md).
Every attack has a control that takes the same way and works. Containers have ` + "`CAP_NET_RAW`" + `, which Fairlead and Docker
give by themselves and Podman when asked. "segment" is a machine on the wire of the host's first uplink that takes the
host for the way to its networks.

What it says of Docker and Podman is of Debian 12's versions, which are not their newest; what their newer ones do is in
[docs/FEATURES.md](../docs/FEATURES.md).

`

// write prints the report, and writes it unless something was left out.
func (r *report) write(path string) error {
	var b bytes.Buffer
	b.WriteString(preface)
	if err := r.machine(&b); err != nil {
		return err
	}
	b.WriteString("\n| # | attack |")
	for _, e := range r.engines {
		fmt.Fprintf(&b, " %s |", strings.ToUpper(e[:1])+e[1:])
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(r.engines)) + "\n")
	for i, row := range rows {
		fmt.Fprintf(&b, "| %s | %s |", row.number, row.attack)
		for _, e := range r.engines {
			fmt.Fprintf(&b, " %s |", r.seen[e][i])
		}
		b.WriteString("\n")
	}
	fmt.Print(b.String())
	if path == "" || len(r.engines) < len(engines) || r.rows != nil {
		return nil
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// machine says of which versions the report is.
func (r *report) machine(b *bytes.Buffer) error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	var packages []string
	for _, name := range []string{"docker.io", "podman", "netavark", "aardvark-dns", "containerd", "runc"} {
		out, err := exec.Command("dpkg-query", "-W", "-f", "${Package} ${Version}", name).Output()
		if err != nil {
			return fmt.Errorf("the version of %s, which is to be compared (make bench-attacks installs it): %w", name, err)
		}
		packages = append(packages, string(out))
	}
	version, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		version = []byte("unknown")
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	for _, line := range [][2]string{
		{"Date", r.started.UTC().Format(time.DateOnly + " 15:04 UTC")},
		{"Fairlead", strings.TrimSpace(string(version))},
		{"Packages", strings.Join(packages, ", ")},
		{"Kernel", unix.ByteSliceToString(u.Release[:])},
		{"Load average after", strings.Join(strings.Fields(string(load))[:3], " ")},
		{"Took", time.Since(r.started).Round(time.Second).String()},
	} {
		fmt.Fprintf(b, "- %s: %s\n", line[0], line[1])
	}
	return nil
}
