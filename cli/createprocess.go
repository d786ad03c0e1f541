package cli

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// healthFlags are the flags of run and create that say how the container is known to be
// well, what happens when it ends, and where its output is kept.
type healthFlags struct {
	healthCmd                                    string
	healthInterval, healthTimeout                time.Duration
	healthStartPeriod, healthStartInterval       time.Duration
	healthRetries                                int
	noHealthcheck                                bool
	restart, logDriver                           string
	logOpts                                      []string
	init, initGiven                              bool
	intervalGiven, timeoutGiven, retriesGiven    bool
	startPeriodGiven, startIntervalGiven, tested bool
}

func (f *healthFlags) register(fl *pflag.FlagSet) {
	fl.StringVar(&f.healthCmd, "health-cmd", "", "shell command that says whether the container is well: exit 0 if it is, 1 if not")
	fl.DurationVar(&f.healthInterval, "health-interval", 0, "time between two of them, as 30s (default: the image's, else 30s)")
	fl.DurationVar(&f.healthTimeout, "health-timeout", 0, "time one may take (default: the image's, else 30s)")
	fl.IntVar(&f.healthRetries, "health-retries", 0, "failures in a row that make it unhealthy (default: the image's, else 3)")
	fl.DurationVar(&f.healthStartPeriod, "health-start-period", 0, "time to start up, in which failures do not count")
	fl.DurationVar(&f.healthStartInterval, "health-start-interval", 0, "time between two in the start period (default 5s)")
	fl.BoolVar(&f.noHealthcheck, "no-healthcheck", false, "without the health check that the image has")
	fl.StringVar(&f.restart, "restart", "no", "when to start it again after it ended: no, on-failure[:TIMES], unless-stopped or always")
	fl.BoolVar(&f.init, "init", false, "run an init as the first process, which passes signals on and reaps the dead")
	fl.StringVar(&f.logDriver, "log-driver", "", "where output is kept: json-file, local, journald or none (default: the daemon's)")
	fl.StringArrayVar(&f.logOpts, "log-opt", nil, "option of the log driver, KEY=VALUE, as max-size=10m, max-file=3")
}

// given notes which flags were on the command line.
func (f *healthFlags) given(cmd *cobra.Command) {
	changed := cmd.Flags().Changed
	f.tested = changed("health-cmd")
	f.intervalGiven, f.timeoutGiven, f.retriesGiven = changed("health-interval"), changed("health-timeout"), changed("health-retries")
	f.startPeriodGiven, f.startIntervalGiven = changed("health-start-period"), changed("health-start-interval")
	f.initGiven = changed("init")
}

// healthCheck is the health check as the API takes it, nil where no flag speaks of it.
func (f *healthFlags) healthCheck() (*container.HealthConfig, error) {
	any := f.tested || f.intervalGiven || f.timeoutGiven || f.retriesGiven || f.startPeriodGiven || f.startIntervalGiven
	switch {
	case f.noHealthcheck && any:
		return nil, errors.New("--no-healthcheck and --health-… exclude each other")
	case f.noHealthcheck:
		return &container.HealthConfig{Test: []string{"NONE"}}, nil
	case !any:
		return nil, nil
	}
	for name, d := range map[string]time.Duration{
		"interval": f.healthInterval, "timeout": f.healthTimeout,
		"start-period": f.healthStartPeriod, "start-interval": f.healthStartInterval,
	} {
		if d < 0 {
			return nil, fmt.Errorf("--health-%s cannot be negative", name)
		}
	}
	if f.healthRetries < 0 {
		return nil, errors.New("--health-retries cannot be negative")
	}
	check := &container.HealthConfig{
		Interval: f.healthInterval, Timeout: f.healthTimeout, Retries: f.healthRetries,
		StartPeriod: f.healthStartPeriod, StartInterval: f.healthStartInterval,
	}
	if f.healthCmd != "" {
		check.Test = []string{"CMD-SHELL", f.healthCmd}
	}
	return check, nil
}

func (f *healthFlags) apply(host *container.HostConfig) error {
	policy, err := restartPolicy(f.restart)
	if err != nil {
		return err
	}
	if host.AutoRemove && !policy.IsNone() && policy.Name != "" {
		return errors.New("conflicting options: cannot specify both --restart and --rm")
	}
	host.RestartPolicy = policy
	options, err := keyValues("--log-opt", f.logOpts, false)
	if err != nil {
		return err
	}
	host.LogConfig = container.LogConfig{Type: f.logDriver, Config: options}
	if f.logDriver == "none" && len(options) > 0 {
		return fmt.Errorf("invalid --log-opt %s: the log driver none has no options", f.logOpts[0])
	}
	if f.initGiven {
		host.Init = &f.init
	}
	return nil
}

// restartPolicy reads NAME[:TIMES]. The daemon knows the names.
func restartPolicy(text string) (container.RestartPolicy, error) {
	name, times, counted := strings.Cut(text, ":")
	policy := container.RestartPolicy{Name: container.RestartPolicyMode(name)}
	if text == "" {
		return policy, nil
	}
	if counted {
		n, err := strconv.Atoi(times)
		if err != nil {
			return policy, fmt.Errorf("invalid --restart %q: maximum retry count must be an integer", text)
		}
		policy.MaximumRetryCount = n
	}
	if err := container.ValidateRestartPolicy(policy); err != nil {
		return policy, fmt.Errorf("invalid --restart %q: %w", text, err)
	}
	return policy, nil
}

// readLabelFiles reads files of KEY=VALUE lines, as those of variables.
func readLabelFiles(paths []string) ([]string, error) {
	var lines []string
	for _, path := range paths {
		fromFile, err := readLines("--label-file", path)
		if err != nil {
			return nil, err
		}
		for _, line := range fromFile {
			if strings.HasPrefix(line, "=") {
				return nil, fmt.Errorf("--label-file %s: invalid label %q: want KEY=VALUE", path, line)
			}
		}
		lines = append(lines, fromFile...)
	}
	return lines, nil
}

// umask reads an octal number.
func umask(text string) (*uint32, error) {
	if text == "" {
		return nil, nil
	}
	n, err := strconv.ParseUint(text, 8, 32)
	if err != nil || n > 0o777 {
		return nil, fmt.Errorf("invalid --umask %q: want an octal number up to 0777, as 0027", text)
	}
	mask := uint32(n)
	return &mask, nil
}

// securityOptions reads what the daemon cannot: a seccomp profile's file is this host's.
func securityOptions(options []string) ([]string, error) {
	var out []string
	for _, option := range options {
		key, value, found := strings.Cut(option, "=")
		if !found && strings.Contains(option, ":") { // docker's older form
			key, value, found = strings.Cut(option, ":")
		}
		if !found && key != "no-new-privileges" {
			return nil, fmt.Errorf("invalid --security-opt %q: want KEY=VALUE, or no-new-privileges", option)
		}
		if key == "seccomp" && value != "unconfined" && value != "builtin" {
			profile, err := os.ReadFile(value)
			if err != nil {
				return nil, fmt.Errorf("--security-opt seccomp: opening seccomp profile (%s) failed: %w", value, err)
			}
			text, err := compactJSON(profile)
			if err != nil {
				return nil, fmt.Errorf("--security-opt seccomp: %s is not JSON: %w", value, err)
			}
			option = "seccomp=" + text
		}
		out = append(out, option)
	}
	return out, nil
}
