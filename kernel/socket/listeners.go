package socket

import (
	"bufio"
	"net/netip"
	"os"
	"strings"
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

// Listeners are those of the calling thread's network namespace, by proc_net(5).
func Listeners() ([]Listener, error) {
	var out []Listener
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		f, err := os.Open("/proc/thread-self/net/" + table)
		if os.IsNotExist(err) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, err
		}
		proto := strings.TrimSuffix(table, "6")
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
		err = lines.Err()
		_ = f.Close()
		if err != nil {
			return nil, err
		}
	}
	markIPv6Only(out)
	return out, nil
}

func socketLink(inode string) string { return "socket:[" + inode + "]" }

// HeldBy says whether the process has the socket open that Listener.Link names.
func HeldBy(pid int, link string) bool { return holds(pid, link) }
