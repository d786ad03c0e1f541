package daemon

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// firstInherited is the number of the first socket that systemd hands over
// (SD_LISTEN_FDS_START of sd_listen_fds(3)).
const firstInherited = 3

// inherited are the sockets that systemd opened for the daemon: all of them, by
// the empty string or *, or one by its number.
func inherited(cfg *Config, which string, secure *tls.Config) ([]listener, error) {
	numbers, err := inheritedNumbers(which)
	if err != nil {
		return nil, err
	}
	var out []listener
	for _, n := range numbers {
		unix.CloseOnExec(n)
		host := "fd://" + strconv.Itoa(n)
		f := os.NewFile(uintptr(n), host)
		l, err := net.FileListener(f) // a duplicate
		_ = f.Close()
		if err != nil {
			return out, fmt.Errorf("--host %s: not a socket that listens: %w", host, err)
		}
		if _, tcp := l.(*net.TCPListener); tcp {
			if err := cfg.checkTCP(host + " (" + l.Addr().String() + ")"); err != nil {
				return out, errors.Join(err, l.Close())
			}
			l = encrypted(l, secure)
		}
		out = append(out, listener{Listener: l, host: host})
	}
	return out, nil
}

func inheritedNumbers(which string) ([]int, error) {
	defer func() {
		for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
			_ = os.Unsetenv(name) // not our children's
		}
	}()
	count := 0
	if os.Getenv("LISTEN_PID") == strconv.Itoa(os.Getpid()) {
		count, _ = strconv.Atoi(os.Getenv("LISTEN_FDS"))
	}
	if count <= 0 {
		return nil, fmt.Errorf("--host fd://%s: no sockets found via socket activation: make sure the service was started by systemd with its .socket unit", which)
	}
	if which != "" && which != "*" {
		n, err := strconv.Atoi(which)
		if err != nil || n < firstInherited || n >= firstInherited+count {
			return nil, fmt.Errorf("--host fd://%s: systemd handed over %d sockets, from fd://%d on", strings.TrimSpace(which), count, firstInherited)
		}
		return []int{n}, nil
	}
	var out []int
	for n := firstInherited; n < firstInherited+count; n++ {
		out = append(out, n)
	}
	return out, nil
}
