package daemon

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
)

// newLogger writes to standard error as --log-format says, what is at least of the
// level, which may change.
func newLogger(cfg Config, level *slog.LevelVar) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts))
}

// logLevel reads --log-level; beside ours it knows dockerd's, of which the levels
// above error are never used.
func logLevel(name string) (slog.Level, error) {
	switch strings.ToLower(name) {
	case "trace", "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error", "fatal", "panic":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("--log-level %q: invalid logging level: want debug, info, warn or error", name)
}
