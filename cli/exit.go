package cli

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Docker's exit codes of run and exec, which scripts read.
const (
	exitDaemon    = 125 // the daemon, or the command line, failed
	exitNotRun    = 126 // the command was found and cannot be run
	exitNotFound  = 127 // the command was not found
	exitSignalled = 128 // plus the signal's number
)

// exitError ends the program with a code; a nil err prints nothing.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

// exitWith turns a container's exit code into what a command returns.
func exitWith(code int) error {
	if code == 0 {
		return nil
	}
	return exitError{code: code}
}

// startFailure gives an error of create, attach or start the exit code a shell
// would: 127 where the command is not there, 126 where it cannot be run.
// The daemon answers in words alone, so words are what is looked at, as in
// Docker's client.
func startFailure(err error) error {
	if err == nil {
		return nil
	}
	var exit exitError
	if errors.As(err, &exit) {
		return err
	}
	code := exitDaemon
	text := err.Error()
	switch {
	case strings.Contains(text, "executable file not found"),
		strings.Contains(text, syscall.ENOENT.Error()):
		code = exitNotFound
	case strings.Contains(text, syscall.EACCES.Error()),
		strings.Contains(text, syscall.EISDIR.Error()),
		strings.Contains(text, syscall.ENOEXEC.Error()):
		code = exitNotRun
	}
	return exitError{code: code, err: err}
}

// usageError is a command line that cannot be understood.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// countError is a usageError that Docker's exit code for bad flags is not of: the
// wrong number of arguments, or a word that is no command.
type countError struct{ usageError }

func (e countError) Unwrap() error { return e.usageError }

func countf(format string, args ...any) error {
	return countError{usageError{fmt.Errorf(format, args...)}}
}

// noteError is printed, and leaves the exit code 0 where nothing else fails.
type noteError struct{ error }

func (e noteError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// exactArgs and minArgs check the number of arguments in words that say what is
// missing.
func exactArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return countf("%q takes %s, %s", cmd.CommandPath(), arguments(n), have(len(args)))
	}
}

func minArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= n {
			return nil
		}
		return countf("%q takes at least %s, %s: %s", cmd.CommandPath(), arguments(n), have(len(args)), cmd.UseLine())
	}
}

func rangeArgs(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= most {
			return nil
		}
		return countf("%q takes %d to %d arguments, %s: %s", cmd.CommandPath(), least, most, have(len(args)), cmd.UseLine())
	}
}

func arguments(n int) string {
	switch n {
	case 0:
		return "no arguments"
	case 1:
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", n)
}

func have(n int) string {
	if n == 0 {
		return "none given"
	}
	return fmt.Sprintf("%d given", n)
}

// each does one thing to every named object, prints the names that were done,
// and goes on past errors: all of them are returned.
func (a *app) each(names []string, do func(name string) error) error {
	return a.quietly(names, func(name string) error {
		err := do(name)
		if err == nil {
			fmt.Fprintln(a.Out, name)
		}
		return err
	})
}

// quietly is each without the names. An unreachable daemon is said once.
func (a *app) quietly(names []string, do func(name string) error) error {
	var errs []error
	for _, name := range names {
		err := do(name)
		var note noteError
		switch {
		case err == nil:
		case errors.As(err, &note):
			fmt.Fprintf(a.Err, "fairlead: %s\n", message(note))
		case unreachable(err):
			return errors.Join(append(errs, err)...)
		default:
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
