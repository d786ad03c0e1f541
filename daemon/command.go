package daemon

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Command is `fairlead daemon`.
func Command(build Build) *cobra.Command {
	cmd := command(build, asFairlead)
	cmd.Use = "daemon [OPTIONS]"
	cmd.Short = "Run the engine: containers, their networks and the API"
	cmd.Long = `Run the engine in the foreground. It serves the Docker Engine API on a unix
socket, keeps containers on their networks, and leaves them running when it stops.

Flags may also be given as keys of the configuration file, a JSON object, by the
same names as dockerd's daemon.json. A flag and a key that disagree are refused.
SIGHUP has it read the file again; what it cannot change while it runs it names.`
	cmd.Example = `  fairlead daemon
  fairlead daemon --bip 10.99.0.1/24 --default-address-pool base=10.100.0.0/16,size=24
  fairlead daemon -b br0                       # the host's own bridge as the default network
  fairlead daemon --data-root /srv/a --exec-root /run/a --bridge-name fairlead1   # a second one`
	return cmd
}

// Dockerd is the same called by the name dockerd: with dockerd's defaults.
func Dockerd(build Build) *cobra.Command {
	cmd := command(build, asDockerd)
	cmd.Use = "dockerd [OPTIONS]"
	cmd.Short = "Fairlead in dockerd's place"
	cmd.Long = `Run Fairlead's engine in the foreground, with the command line, the daemon.json and
the defaults of dockerd: it listens where Docker's clients look, and stops
containers when it stops unless --live-restore is given. What has no meaning here
is accepted with a warning where that is harmless, and else refused by name.`
	cmd.Example = `  dockerd
  dockerd -H fd:// --containerd=/run/containerd/containerd.sock
  dockerd -H tcp://0.0.0.0:2376 --tlsverify --tlscacert ca.pem --tlscert cert.pem --tlskey key.pem
  dockerd --validate --config-file /etc/docker/daemon.json`
	cmd.Version = build.Version
	cmd.SetVersionTemplate(fmt.Sprintf("Fairlead version %s, build %s\n", build.Version, build.Commit))
	return cmd
}

func command(build Build, f front) *cobra.Command {
	cfg := f.defaults()
	var file string
	var teardown, halt, validate, doctor bool
	cmd := &cobra.Command{
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if doctor {
				return examine(cmd)
			}
			flags := cmd.Flags()
			given := cfg // by flags alone
			load := func() (Config, error) { return configured(given, file, flags) }
			if saved := savedSettings(given.ExecRoot); (teardown || halt) && !flags.Changed("config-file") && saved != "" {
				// What is to be taken away was made by these, unless it is said otherwise.
				load = func() (Config, error) { return remembered(given, saved, flags) }
			}
			cfg, err := load()
			if err != nil {
				return err
			}
			if validate {
				_, err := cfg.network()
				if err == nil {
					cmd.PrintErrln("configuration OK")
				}
				return err
			}
			end := serves
			switch {
			case teardown:
				end = tearsDown
			case halt:
				end = halts
			}
			return run(cmd.Context(), cfg, build, load, end)
		},
	}
	cfg.register(cmd.Flags())
	cmd.Flags().StringVar(&file, "config-file", f.configFile(), "JSON file with the same settings")
	cmd.Flags().BoolVar(&validate, "validate", false, "check the flags and the configuration file, and exit")
	cmd.Flags().BoolVar(&teardown, "teardown", false, "take everything of this daemon away and exit: containers, networks, rules, helpers")
	cmd.Flags().BoolVar(&halt, "halt", false, "stop all containers, take networks and rules away as before a reboot, and exit; all are there at the next start")
	exclusive := []string{"teardown", "halt", "validate"}
	if f == asFairlead {
		cmd.Flags().BoolVar(&doctor, "doctor", false, "print what ails this host as JSON, and exit; `fairlead doctor` without a daemon")
		exclusive = append(exclusive, "doctor")
	}
	cmd.MarkFlagsMutuallyExclusive(exclusive...)
	return cmd
}

// configured are the settings of the flags and the file together.
func configured(given Config, file string, flags *pflag.FlagSet) (Config, error) {
	if err := given.mergeFile(file, flags.Changed("config-file"), flags); err != nil {
		return given, err
	}
	given.chooseBridge(flags)
	err := given.check()
	return given, err
}

// remembered are the settings that a daemon noted, for its teardown.
func remembered(given Config, saved string, flags *pflag.FlagSet) (Config, error) {
	if err := checkSaved(saved); err != nil {
		return given, err
	}
	if _, err := given.merge(saved, true, flags); err != nil {
		return given, err
	}
	if !flags.Changed("log-level") {
		given.LogLevel, given.Debug = "warn", false // somebody waits for the end of it, at a terminal
	}
	err := given.check()
	return given, err
}
