package spawn

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

// Command is the hidden command name that runs a process: serve is called with
// its EXEC_ROOT, a logger to its log file, and a context that SIGTERM ends.
func Command(name, short string, serve func(ctx context.Context, execRoot string, logger *slog.Logger) error) *cobra.Command {
	var execRoot string
	cmd := &cobra.Command{
		Use:           name,
		Short:         short,
		Hidden:        true,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Run as /proc/self/exe it would be "exe" to ps(1) and nft(8).
			_ = os.WriteFile("/proc/self/comm", []byte("fairlead-"+name), 0)
			// These processes are there for as long as the machine is up, and
			// make little garbage: memory counts more than collecting it.
			debug.SetGCPercent(25)
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return serve(ctx, execRoot, slog.New(slog.NewTextHandler(os.Stderr, nil)))
		},
	}
	cmd.Flags().StringVar(&execRoot, "exec-root", "/run/fairlead", "directory of its socket")
	return cmd
}
