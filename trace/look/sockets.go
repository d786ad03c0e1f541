package look

import (
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/internal/printable"
	"github.com/fairlead/fairlead/kernel/socket"
	"github.com/fairlead/fairlead/trace/picture"
)

// listeners reads the sockets that take connections or packets.
func (r reader) listeners() {
	all, _ := socket.Listeners() // what could not be read is not known
	for _, l := range all {
		at := netip.AddrPortFrom(l.Local.Addr().Unmap(), l.Local.Port())
		inode := strings.TrimSuffix(strings.TrimPrefix(l.Link, "socket:["), "]")
		r.n.Listeners = append(r.n.Listeners, picture.Listener{Proto: l.Proto, At: at, Dual: at.Addr() == netip.IPv6Unspecified() && !l.IPv6Only, Inode: inode})
	}
}

// Owners finds the processes that have the wanted ones of the listeners, in whichever
// namespace. It looks through the descriptors of all processes, until it has found all: on a
// busy machine that costs more than everything else of a look.
func Owners(listeners [][]picture.Listener, wanted func(picture.Listener) bool) {
	missing := make(map[string][]*picture.Listener)
	for _, list := range listeners {
		for i := range list {
			if l := &list[i]; wanted(*l) && l.Inode != "0" {
				missing[l.Inode] = append(missing[l.Inode], l)
			}
		}
	}
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, p := range processes {
		if len(missing) == 0 {
			return
		}
		if name := p.Name(); name[0] >= '0' && name[0] <= '9' {
			owns(name, missing)
		}
	}
}

// owns gives the process the listeners that it has, and takes them off what is missing.
func owns(dir string, missing map[string][]*picture.Listener) {
	fds, err := os.Open(filepath.Join("/proc", dir, "fd"))
	if err != nil {
		return // it has ended
	}
	defer fds.Close()
	names, _ := fds.Readdirnames(-1)
	for _, name := range names {
		target, err := os.Readlink(filepath.Join("/proc", dir, "fd", name))
		inode, ok := strings.CutPrefix(target, "socket:[")
		if err != nil || !ok {
			continue
		}
		inode = strings.TrimSuffix(inode, "]")
		if len(missing[inode]) == 0 {
			continue
		}
		p := readProcess(dir)
		for _, l := range missing[inode] {
			l.PID, l.Process, l.Stopped = p.pid, p.name, p.stopped
		}
		delete(missing, inode)
	}
}

type process struct {
	pid     int
	name    string
	stopped bool
}

func readProcess(dir string) process {
	pid, _ := strconv.Atoi(dir)
	p := process{pid: pid}
	// pid (name) state …
	b, _ := os.ReadFile(filepath.Join("/proc", dir, "stat"))
	if open, end := strings.IndexByte(string(b), '('), strings.LastIndexByte(string(b), ')'); open >= 0 && end+2 < len(b) {
		p.name, p.stopped = printable.Text(string(b[open+1:end])), b[end+2] == 'T'
	}
	return p
}
