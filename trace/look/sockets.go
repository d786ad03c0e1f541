package look

import (
	"bufio"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/fairlead/fairlead/kernel/socket"
	"github.com/fairlead/fairlead/trace/picture"
)

// listeners reads the sockets of proc_net(5) that take connections or packets, with the
// processes that have them.
func (r reader) listeners(all *Processes) {
	if all == nil {
		all = new(Processes)
	}
	owners := all.bySocket()
	for _, table := range []struct{ file, proto, state string }{
		{"tcp", "tcp", "0A"}, {"tcp6", "tcp", "0A"}, {"udp", "udp", "07"}, {"udp6", "udp", "07"},
	} {
		f, err := os.Open("/proc/thread-self/net/" + table.file)
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			// sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode
			fields := strings.Fields(lines.Text())
			if len(fields) < 10 || fields[3] != table.state {
				continue
			}
			at, ok := socket.ParseLocal(fields[1])
			if !ok {
				continue
			}
			at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
			l := picture.Listener{Proto: table.proto, At: at, Dual: at.Addr() == netip.IPv6Unspecified()}
			if p, ok := owners[fields[9]]; ok {
				l.PID, l.Process, l.Stopped = p.pid, p.name, p.stopped
			}
			r.n.Listeners = append(r.n.Listeners, l)
		}
		f.Close()
	}
}

type process struct {
	pid     int
	name    string
	stopped bool
}

// Processes are who has sockets open on the machine, whatever their namespace. The zero
// value is ready to be used; looking through all of them is what costs most of a look.
type Processes struct {
	once   sync.Once
	owners map[string]process
}

func (p *Processes) bySocket() map[string]process {
	p.once.Do(func() { p.owners = processes() })
	return p.owners
}

// processes are those that have sockets open, by the sockets' inodes.
func processes() map[string]process {
	out := make(map[string]process)
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	known := make(map[string]process)
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		inode, ok := strings.CutPrefix(target, "socket:[")
		if err != nil || !ok {
			continue
		}
		dir := strings.SplitN(fd, "/", 4)[2]
		p, ok := known[dir]
		if !ok {
			p = readProcess(dir)
			known[dir] = p
		}
		out[strings.TrimSuffix(inode, "]")] = p
	}
	return out
}

func readProcess(dir string) process {
	pid, _ := strconv.Atoi(dir)
	p := process{pid: pid}
	// pid (name) state …
	b, _ := os.ReadFile(filepath.Join("/proc", dir, "stat"))
	if open, end := strings.IndexByte(string(b), '('), strings.LastIndexByte(string(b), ')'); open >= 0 && end+2 < len(b) {
		p.name, p.stopped = string(b[open+1:end]), b[end+2] == 'T'
	}
	return p
}
