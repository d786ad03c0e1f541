package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// teardownPatience is how long a daemon that took a teardown may take to end.
const teardownPatience = 30 * time.Second

func (a *app) systemCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "system",
		Short: "The daemon and its host: disk space, events, cleaning up, and taking all of it off this host",
		Example: `  fairlead system df
  fairlead system prune
  fairlead system teardown`,
		Args: groupArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.diskUsageCommand(), a.eventsCommand(), a.infoCommand(), a.systemPruneCommand(), a.teardownCommand())
	return cmd
}

// teardownFlags say which daemon to take down, or its leavings where it does not
// answer.
type teardownFlags struct{ dataRoot, execRoot, config string }

func (f teardownFlags) given() bool { return f.dataRoot != "" || f.execRoot != "" || f.config != "" }

// host is the address of the daemon that the flags name: never the default one's,
// which would lose everything in another's place. It is "" where they do not tell
// it; whoever takes the roots down without it is refused while a daemon holds them.
func (f teardownFlags) host() (string, error) {
	root := f.execRoot
	if root == "" && f.config != "" {
		raw, err := os.ReadFile(f.config)
		if err != nil {
			return "", fmt.Errorf("--config-file: %w", err)
		}
		var keys struct {
			ExecRoot string `json:"exec-root"`
		}
		if err := json.Unmarshal(raw, &keys); err != nil {
			return "", fmt.Errorf("--config-file %s is not a JSON object: %w", f.config, err)
		}
		root = keys.ExecRoot
	}
	if root == "" {
		return "", nil
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return "", fmt.Errorf("--exec-root: %w", err)
	}
	return "unix://" + filepath.Join(root, "fairlead.sock"), nil
}

func (a *app) teardownCommand() *cobra.Command {
	var f teardownFlags
	cmd := &cobra.Command{
		Use:   "teardown [OPTIONS]",
		Short: "Remove all containers and networks, stop the daemon, and undo every change to this host",
		Long: `Remove all containers, running and stopped, and all networks; stop the daemon;
and undo every change to this host: links, namespaces, firewall rules, mounts and
sysctls. Nothing is asked first. Images stay in the data root.

Where no daemon answers, this program does the same from what the last one left
behind. Without -H, --exec-root and --config-file say which daemon is asked: the
one that was started with them.`,
		Example: `  fairlead system teardown
  fairlead system teardown --data-root /tmp/data --exec-root /tmp/run    of a daemon with other roots`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.host == "" && f.given() {
				host, err := f.host()
				if err != nil {
					return err
				}
				if host == "" {
					return a.teardownAlone(f)
				}
				a.host = host
			}
			err := a.call(cmd.Context(), http.MethodPost, "/fairlead/v1/system/teardown", nil)
			switch {
			case err == nil:
				return a.awaitGone(cmd.Context())
			case isPermission(err):
				return a.explain(err)
			case unreachable(err), lost(err):
				// A daemon that lives after all holds its roots: then the
				// other is refused.
				return a.teardownAlone(f)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&f.dataRoot, "data-root", "", "the daemon's --data-root")
	cmd.Flags().StringVar(&f.execRoot, "exec-root", "", "the daemon's --exec-root")
	cmd.Flags().StringVar(&f.config, "config-file", "", "the daemon's --config-file")
	return cmd
}

// awaitGone returns when the daemon's socket takes no more connections.
func (a *app) awaitGone(ctx context.Context) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(teardownPatience); time.Now().Before(deadline); {
		var conn net.Conn
		if conn, err = c.Dialer()(ctx); err != nil {
			return nil //nolint:nilerr // nobody listens: that is what was waited for
		}
		_ = conn.Close()
		if !pause(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
	return fmt.Errorf("everything was taken down, but the daemon at %s still runs after %s", a.daemonHost(), teardownPatience)
}

// teardownAlone becomes `fairlead daemon --teardown`, which needs no running
// daemon. The default daemon's roots are known; another's have to be named, lest
// the wrong one be taken down.
func (a *app) teardownAlone(f teardownFlags) error {
	if a.daemonHost() != defaultHost && !f.given() {
		return usagef("no daemon answers at %s: to take down what it left, name its --data-root and --exec-root", a.daemonHost())
	}
	args := []string{"fairlead", "daemon", "--teardown"}
	for _, flag := range []struct{ name, value string }{
		{"--data-root", f.dataRoot}, {"--exec-root", f.execRoot}, {"--config-file", f.config},
	} {
		if flag.value != "" {
			args = append(args, flag.name, flag.value)
		}
	}
	err := syscall.Exec("/proc/self/exe", args, os.Environ())
	return fmt.Errorf("run %q: %w", args, err)
}

func (a *app) debugCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "debug",
		Short:   "Compare what is wanted with what the kernel has",
		Example: `  fairlead debug check`,
		Args:    groupArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:     "check",
		Short:   "Print every difference between the wanted state and the kernel's; exit 1 if there is one",
		Example: `  fairlead debug check    silent when all is as it should be`,
		Args:    exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var answer struct{ Differences []string }
			if err := a.call(cmd.Context(), http.MethodGet, "/fairlead/v1/debug/check", &answer); err != nil {
				return a.explain(err)
			}
			for _, difference := range answer.Differences {
				fmt.Fprintln(a.Out, difference)
			}
			if len(answer.Differences) > 0 {
				return exitError{code: 1}
			}
			return nil
		},
	})
	return cmd
}
