package relay

import (
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Command is the hidden command `fairlead relay`, which Ensure runs.
func Command() *cobra.Command {
	var o ServeOptions
	cmd := &cobra.Command{
		Use:           Name,
		Short:         "Hold published ports and proxy them (started by the daemon)",
		Hidden:        true,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			o.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
			return Serve(ctx, o)
		},
	}
	cmd.Flags().StringVar(&o.ExecRoot, "exec-root", "/run/fairlead", "directory of the socket")
	return cmd
}
