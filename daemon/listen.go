package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// socketMode lets root and the group in, and nobody else: whoever can use the
// API is root on this machine.
const socketMode = 0o660

// listen opens the API's sockets. Only unix:// is served; a plain tcp:// would
// give the machine to anybody who reaches the port.
func listen(hosts []string, group string) ([]net.Listener, error) {
	var out []net.Listener
	for _, host := range hosts {
		l, err := listenOne(host, group)
		if err != nil {
			for _, l := range out {
				_ = l.Close()
			}
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

func listenOne(host, group string) (net.Listener, error) {
	if err := checkHost(host); err != nil {
		return nil, err
	}
	path := strings.TrimPrefix(host, "unix://")
	if err := removeStale(path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	// Born under a name nobody knows and with its final mode, then renamed
	// into place: at no moment can anybody else connect.
	born := path + ".new"
	_ = os.Remove(born)
	l, err := net.Listen("unix", born)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", host, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(born, socketMode), chownGroup(born, group), os.Rename(born, path)); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", host, err), l.Close())
	}
	return l, nil
}

// removeStale removes a socket that nobody listens on, and refuses one that
// somebody does.
func removeStale(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("--host unix://%s: there is something there that is no socket; move it away", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close()
		return fmt.Errorf("--host unix://%s: another program listens there; stop it, or choose another path", path)
	}
	return os.Remove(path)
}

// chownGroup gives the socket to the group where it exists.
func chownGroup(path, group string) error {
	if group == "" {
		return nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		var unknown user.UnknownGroupError
		if errors.As(err, &unknown) {
			return nil
		}
		return err
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return err
	}
	return os.Chown(path, 0, gid)
}
