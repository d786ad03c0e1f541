package look

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/doctor"
)

// modules says which parts the kernel has: by its configuration, where that can be
// read, else by what is loaded.
func modules(release string) map[string]bool {
	out := make(map[string]bool)
	config := configuration(release)
	for name, option := range doctor.ModuleNames {
		if config != nil {
			out[name] = config[option]
			continue
		}
		if _, err := os.Stat(filepath.Join("/sys/module", name)); err == nil {
			out[name] = true
		}
	}
	return out
}

// configuration are the options that the kernel was built with (y or m), nil where it
// does not tell.
func configuration(release string) map[string]bool {
	raw, err := os.ReadFile("/boot/config-" + release)
	if err != nil {
		packed, err := os.Open("/proc/config.gz")
		if err != nil {
			return nil
		}
		defer packed.Close()
		plain, err := gzip.NewReader(packed)
		if err != nil {
			return nil
		}
		if raw, err = io.ReadAll(plain); err != nil {
			return nil
		}
	}
	out := make(map[string]bool)
	for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); {
		if option, value, found := strings.Cut(lines.Text(), "="); found && (value == "y" || value == "m") {
			out[option] = true
		}
	}
	return out
}

// cgroups says whether /sys/fs/cgroup is of version 2, or has it beside version 1.
func cgroups() (v2, hybrid bool) {
	is := func(path string) bool {
		var fs unix.Statfs_t
		return unix.Statfs(path, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC
	}
	return is("/sys/fs/cgroup"), is("/sys/fs/cgroup/unified")
}

// patience is how long a program may take to say its version.
const patience = 3 * time.Second

// programs asks each for its version.
func programs(ctx context.Context) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out := make(map[string]string)
	for _, name := range []string{"containerd", "runc", "iptables"} {
		out[name] = ""
		path, err := find(name)
		if err != nil {
			continue
		}
		said, err := exec.CommandContext(ctx, path, "--version").Output()
		if err != nil {
			continue
		}
		first, _, _ := strings.Cut(string(said), "\n")
		out[name] = version(strings.Fields(first))
	}
	return out
}

// version is the first word with a number in front, or what there is.
func version(words []string) string {
	for _, w := range words {
		if n := strings.TrimPrefix(w, "v"); n != "" && n[0] >= '0' && n[0] <= '9' {
			return n
		}
	}
	return strings.Join(words, " ")
}

// find looks where the daemon does, too: without a login shell PATH may lack them.
func find(name string) (string, error) {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if err == nil {
			break
		}
		path, err = exec.LookPath(filepath.Join(dir, name))
	}
	return path, err
}

// files reads how many are open and may be (proc_sys_fs(5)).
func files() (open, most uint64) {
	raw, err := os.ReadFile("/proc/sys/fs/file-nr")
	if err != nil {
		return 0, 0
	}
	var unused uint64
	if n, err := fmt.Sscan(string(raw), &open, &unused, &most); n < 3 || err != nil {
		return 0, 0
	}
	return open, most
}

// neighbours reads the kernel's tables of them, which it shows in the first network
// namespace alone, a line for each processor (net/core/neighbour.c, neigh_stat_seq_show).
func neighbours() map[string]doctor.Neighbours {
	out := make(map[string]doctor.Neighbours)
	for family, name := range map[string]string{"IPv4": "arp_cache", "IPv6": "ndisc_cache"} {
		raw, err := os.ReadFile("/proc/net/stat/" + name)
		if err != nil {
			continue
		}
		if n, ok := readNeighbours(string(raw)); ok {
			out[family] = n
		}
	}
	return out
}

// readNeighbours reads such a table: titles, and numbers in hexadecimal. The entries are
// the same in every line, the rest are to be added up.
func readNeighbours(text string) (n doctor.Neighbours, ok bool) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	titles := strings.Fields(lines[0])
	full := slices.Index(titles, "table_fulls")
	for _, line := range lines[1:] {
		cells := strings.Fields(line)
		if len(cells) != len(titles) || len(cells) == 0 || titles[0] != "entries" {
			return n, false
		}
		entries, err := strconv.ParseUint(cells[0], 16, 64)
		if err != nil {
			return n, false
		}
		n.Entries, ok = entries, true
		if full < 0 {
			continue // before Linux 4.19
		}
		times, err := strconv.ParseUint(cells[full], 16, 64)
		if err != nil {
			return n, false
		}
		n.Full += times
	}
	return n, ok
}

// engines are the processes of other container engines in this network namespace.
func engines() []string {
	own, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return nil
	}
	names, _ := filepath.Glob("/proc/[0-9]*/comm") // its one error is of the pattern
	var out []string
	for _, path := range names {
		raw, err := os.ReadFile(path)
		name := strings.TrimSpace(string(raw))
		if err != nil || !slices.Contains([]string{"dockerd", "podman", "netavark", "kubelet"}, name) {
			continue
		}
		if ns, err := os.Readlink(filepath.Join(filepath.Dir(path), "ns/net")); err == nil && ns == own && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}
