package socket

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// listening is TCP_LISTEN as /proc/net/tcp writes it.
const listening = "0A"

// Owner finds the process whose socket stands in the way of binding the port: a
// listener if there is one, or else any socket with that local port. It looks
// through every process's open files and is for messages only. It is not ok when
// nothing is found, such as for a process of another PID namespace.
func Owner(proto string, ap netip.AddrPort) (pid int, name string, ok bool) {
	var found string
	for _, table := range tablesOf(proto, ap) {
		inode, listens := search("/proc/thread-self/net/"+table, ap)
		if inode != "" && (found == "" || listens) {
			found = inode
		}
		if listens {
			break
		}
	}
	if found == "" {
		return 0, "", false
	}
	return holder("socket:[" + found + "]")
}

// tablesOf are the tables of sockets that may be in the way.
func tablesOf(proto string, ap netip.AddrPort) []string {
	if ap.Addr().Unmap().Is4() {
		return []string{proto, proto + "6"} // a socket on [::] may take IPv4 too
	}
	return []string{proto + "6"}
}

// search reads a table of proc_net(5) for a socket in the way of ap.
func search(table string, ap netip.AddrPort) (inode string, listens bool) {
	f, err := os.Open(table)
	if err != nil {
		return "", false
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[9] == "0" {
			continue
		}
		have, ok := ParseLocal(fields[1])
		if !ok || !inTheWay(ap, have) {
			continue
		}
		inode = fields[9]
		if fields[3] == listening {
			return inode, true
		}
	}
	return inode, false
}

func inTheWay(want, have netip.AddrPort) bool {
	w, h := want.Addr().Unmap().WithZone(""), have.Addr().Unmap()
	if want.Port() != have.Port() {
		return false
	}
	if h.IsUnspecified() {
		return h.Is6() || w.Is4()
	}
	return w == h || w.IsUnspecified() && w.Is4() == h.Is4()
}

// ParseLocal reads an address and a port as the kernel's tables of sockets have them
// (/proc/net/tcp): 0100007F:0050, the address as 32-bit words in the machine's byte order.
func ParseLocal(s string) (netip.AddrPort, bool) {
	address, port, ok := strings.Cut(s, ":")
	n, err := strconv.ParseUint(port, 16, 16)
	raw, e := hex.DecodeString(address)
	if !ok || err != nil || e != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	a, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(a, uint16(n)), ok
}

// holder finds a process that has the socket open.
func holder(socket string) (pid int, name string, ok bool) {
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return 0, "", false
	}
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || !holds(pid, socket) {
			continue
		}
		comm, _ := os.ReadFile(filepath.Join("/proc", p.Name(), "comm"))
		return pid, strings.TrimSpace(string(comm)), true
	}
	return 0, "", false
}

func holds(pid int, socket string) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	files, err := os.ReadDir(dir)
	if err != nil {
		return false // it is gone, or not ours to look at
	}
	for _, f := range files {
		if target, err := os.Readlink(filepath.Join(dir, f.Name())); err == nil && target == socket {
			return true
		}
	}
	return false
}
