package spawn

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
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
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
			if err := SaveMemory(helperGarbage); err != nil {
				logger.Warn("save memory", "err", err)
			}
			// Who may not trace every process reads nothing of this one, and it leaves no
			// core: other processes' sockets and what is sent by them are in it.
			if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
				logger.Warn("close the process to others", "err", err)
			}
			return serve(ctx, execRoot, logger)
		},
	}
	cmd.Flags().StringVar(&execRoot, "exec-root", "/run/fairlead", "directory of its socket")
	return cmd
}
