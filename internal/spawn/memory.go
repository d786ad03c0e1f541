package spawn

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// helperGarbage is how much garbage helpers have, in percent of what they use: they are
// there for as long as the machine is up and make little of it, so that memory counts
// more than the work of collecting it.
const helperGarbage = 25

// SaveMemory gives back what starting the one binary took: packages are initialised that
// this process never runs. Code and constants are dropped from the mapping and come back
// from the page cache, a page fault each, as they are used. It is for once, after the
// start. From then on there is no more garbage than the percentage of what is in use
// (runtime/debug.SetGCPercent).
func SaveMemory(garbage int) error {
	debug.SetGCPercent(garbage)
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("read own mappings: %w", err)
	}
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	for _, m := range cleanParts(string(b), program) {
		// Not unix.Madvise, which wants the memory as a slice.
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.start, m.length, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("madvise: %w", errno)
		}
	}
	return nil
}

// extent is a piece of the address space.
type extent struct{ start, length uintptr }

// cleanParts returns, of a text as /proc/PID/smaps (proc_pid_smaps(5)), the
// mappings of the program's file that cannot be written and have not been: nothing is lost
// when they are dropped. That a mapping is read-only is not enough, for the
// dynamic linker writes to some before it makes them so. Nor is it that it has a file: the
// kernel does not bring back the pages of a BPF map, and the next look at one that was
// dropped is SIGBUS.
func cleanParts(smaps, program string) []extent {
	var out []extent
	var candidate *extent
	for line := range strings.Lines(smaps) {
		f := strings.Fields(line)
		switch {
		case len(f) >= 2 && strings.HasSuffix(f[0], ":"): // Name: value kB
			if f[0] == "Anonymous:" && f[1] == "0" && candidate != nil {
				out = append(out, *candidate)
			}
		case len(f) >= 5: // address perms offset dev inode [path]
			candidate = nil
			if f[1][0] == 'r' && f[1][1] == '-' && f[4] != "0" && strings.Join(f[5:], " ") == program {
				candidate = parseExtent(f[0])
			}
		}
	}
	return out
}

func parseExtent(s string) *extent {
	from, to, _ := strings.Cut(s, "-")
	a, errFrom := strconv.ParseUint(from, 16, 64)
	b, errTo := strconv.ParseUint(to, 16, 64)
	if errFrom != nil || errTo != nil || b <= a {
		return nil
	}
	return &extent{uintptr(a), uintptr(b - a)}
}
