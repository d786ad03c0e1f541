package daemon

import (
	"crypto/tls"
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

// listener is one of the API's sockets.
type listener struct {
	net.Listener
	host string // as the log has it
	// path is the unix socket to remove at the end; "" for one that is not ours.
	path string
}

// listen opens the API's sockets; secure is nil without TLS.
func listen(cfg *Config, secure *tls.Config) ([]listener, error) {
	var out []listener
	for _, host := range cfg.Hosts {
		ls, err := listenHost(cfg, host, secure)
		out = append(out, ls...)
		if err != nil {
			for _, l := range out {
				_ = l.Close()
			}
			return nil, err
		}
	}
	return out, nil
}

func listenHost(cfg *Config, host string, secure *tls.Config) ([]listener, error) {
	scheme, rest, _ := strings.Cut(host, "://")
	switch scheme {
	case "fd":
		return inherited(cfg, rest, secure)
	case "tcp":
		l, err := net.Listen("tcp", rest)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", host, err)
		}
		return []listener{{Listener: encrypted(l, secure), host: "tcp://" + l.Addr().String()}}, nil
	}
	l, err := listenUnix(host, cfg.Group)
	if err != nil {
		return nil, err
	}
	return []listener{{Listener: l, host: host, path: rest}}, nil
}

func listenUnix(host, group string) (net.Listener, error) {
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

// free refuses early what listen would refuse when everything else stands.
func (c *Config) free() error {
	for _, host := range c.Hosts {
		if path, ok := strings.CutPrefix(host, "unix://"); ok {
			if _, err := stale(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeStale removes a socket that nobody listens on, and refuses one that
// somebody does.
func removeStale(path string) error {
	there, err := stale(path)
	if err != nil || !there {
		return err
	}
	return os.Remove(path)
}

// stale says whether a socket that nobody listens on is there.
func stale(path string) (there bool, err error) {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if fi.Mode()&fs.ModeSocket == 0 {
		return false, fmt.Errorf("--host unix://%s: there is something there that is no socket; move it away", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close()
		return false, fmt.Errorf("--host unix://%s: another program listens there; stop it, or choose another path", path)
	}
	return true, nil
}

// chownGroup gives the socket to the group where it exists.
func chownGroup(path, group string) error {
	if group == "" {
		return nil
	}
	if gid, err := strconv.Atoi(group); err == nil {
		return os.Chown(path, 0, gid)
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
