package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/doctor"
)

func (a *app) doctorCommand() *cobra.Command {
	var spec string
	var quiet bool
	cmd := &cobra.Command{
		Use:   "doctor [OPTIONS]",
		Short: "Say what ails this host's container networks, and the command that mends it",
		Long: `Look at the kernel, forwarding, other programs' packet filters, routes that overlap, packet sizes, the table of
connections, what other engines left behind, limits, and how the kernel differs from what the daemon wants. Each
finding has a level: ok; note, good to know; warning, works but not for all or not under load; problem, something does
not work because of it. What can be mended by a command has that below it. Nothing is changed.

Where no daemon answers on this host, the host alone is looked at, which needs root.

The exit status is 1 where there is a problem, else 0.`,
		Example: `  fairlead doctor
  fairlead doctor -q                  without what is well
  fairlead doctor -f json
  fairlead doctor -f '{{range .findings}}{{.level}} {{.check}}{{println}}{{end}}'`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context(), spec, quiet) },
	}
	formatFlag(cmd, &spec)
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "leave out what is well")
	return cmd
}

func (a *app) doctor(ctx context.Context, spec string, quiet bool) error {
	var report doctor.Report
	err := a.call(ctx, http.MethodGet, "/fairlead/v1/doctor", &report)
	if err != nil && unreachable(err) && !isPermission(err) && strings.HasPrefix(a.daemonHost(), "unix://") {
		report, err = doctorAlone(ctx)
	}
	if err != nil {
		return a.explain(err)
	}
	if spec != "" {
		err = a.printOwn(report, spec)
	} else {
		printFindings(a.Out, report, quiet)
	}
	for _, f := range report.Findings {
		if f.Level == doctor.Problem && err == nil {
			return exitError{code: 1}
		}
	}
	return err
}

// doctorAlone has `fairlead daemon --doctor` look at the host.
func doctorAlone(ctx context.Context) (report doctor.Report, err error) {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "daemon", "--doctor")
	cmd.Args[0] = "fairlead"
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return report, fmt.Errorf("no daemon answers, and this host cannot be looked at: %s", strings.TrimSpace(strings.TrimPrefix(stderr.String(), "fairlead daemon: ")))
	}
	err = json.Unmarshal(out, &report)
	return report, err
}

// levelColours are those of a terminal (ECMA-48).
var levelColours = map[doctor.Level]string{doctor.Problem: "\x1b[31m", doctor.Warning: "\x1b[33m", doctor.OK: "\x1b[32m"}

func printFindings(w io.Writer, report doctor.Report, quiet bool) {
	colour := isTerminal(w)
	for _, f := range report.Findings {
		if quiet && f.Level == doctor.OK {
			continue
		}
		level := fmt.Sprintf("%-7s", f.Level)
		if start := levelColours[f.Level]; colour && start != "" {
			level = start + level + "\x1b[0m"
		}
		fmt.Fprintf(w, "%s  %-10s  %s\n", level, f.Check, f.What)
		for _, c := range f.Cure {
			fmt.Fprintf(w, "%s$ %s\n", strings.Repeat(" ", 21), c)
		}
	}
}
