package socket

import (
	"bufio"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// unconnected is TCP_CLOSE, which the tables have for UDP sockets that take anybody's
// datagrams.
const unconnected = "07"

// Listener is a socket that strangers can reach: TCP's that listen, UDP's that are not
// connected.
type Listener struct {
	// Proto is tcp or udp.
	Proto string
	Local netip.AddrPort
	// IPv6Only says of one on [::] that it takes no IPv4.
	IPv6Only bool
	// Link is what the descriptors of /proc/PID/fd of its holders point to.
	Link string
}

// Listeners are those of the calling thread's network namespace, by sock_diag(7). Where the
// kernel cannot be asked so, proc_net(5) is read, which costs some ten milliseconds a table
// for walking through the connections of all namespaces, and does not tell of IPv6Only.
func Listeners() ([]Listener, error) {
	var out []Listener
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		proto, six := strings.CutSuffix(table, "6")
		family := byte(unix.AF_INET)
		if six {
			family = unix.AF_INET6
		}
		found, err := askListeners(proto, family)
		if err != nil {
			found, err = readListeners(proto, table)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// readListeners reads a table of proc_net(5); none is there in a kernel without IPv6.
func readListeners(proto, table string) (out []Listener, err error) {
	f, err := os.Open("/proc/thread-self/net/" + table)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	wanted := map[string]string{"tcp": listening, "udp": unconnected}[proto]
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != wanted {
			continue
		}
		if local, ok := ParseLocal(fields[1]); ok && local.Port() != 0 {
			out = append(out, Listener{Proto: proto, Local: local, Link: socketLink(fields[9])})
		}
	}
	return out, lines.Err()
}

func socketLink(inode string) string { return "socket:[" + inode + "]" }

// HeldBy says whether the process has the socket open that Listener.Link names.
func HeldBy(pid int, link string) bool { return holds(pid, link) }
