package streams

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/internal/spawn"
)

// Command is the hidden command `fairlead streams`, which Ensure runs.
func Command() *cobra.Command {
	return spawn.Command(Name, "Read and write the streams of containers (started by the daemon)",
		func(ctx context.Context, execRoot string, logger *slog.Logger) error {
			return Serve(ctx, ServeOptions{ExecRoot: execRoot, Logger: logger})
		})
}
