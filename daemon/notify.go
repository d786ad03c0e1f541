package daemon

import (
	"log/slog"
	"net"
	"os"
)

// notify tells systemd of the daemon's state (sd_notify(3)). Without systemd it
// does nothing.
func notify(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		slog.Warn("systemd is not told of our state", "operation", "notify", "state", state, "err", err)
		return
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte(state)); err != nil {
		slog.Warn("systemd is not told of our state", "operation", "notify", "state", state, "err", err)
	}
}
