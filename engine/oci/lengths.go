package oci

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// What the kernel takes at most, in bytes with the NUL at the end: a path
// (PATH_MAX), one argument or variable of a program (MAX_ARG_STRLEN, 32 pages), and
// the options of a mount or the value of a sysctl (a page).
const (
	maxPath   = 4096
	maxString = 128 << 10
	maxPage   = 4096
)

// CheckProcess refuses a command, environment and working directory that no process
// can have. runc quotes what it fails on, and what does not fit into a pipe is never
// read to its end: runc would wait forever, and its shim with it.
// Errors are errdefs.ErrInvalidArgument.
func CheckProcess(args, env []string, dir string) error {
	if len(args) > 0 {
		if err := tooLong("the name of the program", args[0], maxPath); err != nil {
			return err
		}
	}
	for i, arg := range args {
		if err := tooLong(fmt.Sprintf("argument %d of the command", i), arg, maxString); err != nil {
			return err
		}
	}
	for _, variable := range env {
		if err := tooLong("environment variable "+shortened(variable), variable, maxString); err != nil {
			return err
		}
		if strings.HasPrefix(variable, "=") {
			return fmt.Errorf("invalid environment variable: %s: %w", shortened(variable), errdefs.ErrInvalidArgument)
		}
	}
	return tooLong("the working directory", dir, maxPath)
}

// checkLengths is CheckProcess for all of a specification that runc may quote.
func checkLengths(s *specs.Spec) error {
	if err := CheckProcess(s.Process.Args, s.Process.Env, s.Process.Cwd); err != nil {
		return err
	}
	if err := tooLong("the path of the control group", s.Linux.CgroupsPath, maxPath); err != nil {
		return err
	}
	for _, m := range s.Mounts {
		for what, path := range map[string]string{"destination": m.Destination, "source": m.Source} {
			if err := tooLong("the "+what+" of a mount", path, maxPath); err != nil {
				return err
			}
		}
		if err := tooLong("the options of the mount on "+m.Destination, strings.Join(m.Options, ","), maxPage); err != nil {
			return err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.Linux.Sysctl)) {
		if err := tooLong("sysctl "+shortened(key), key+"="+s.Linux.Sysctl[key], maxPage); err != nil {
			return err
		}
	}
	return nil
}

func tooLong(what, s string, limit int) error {
	if len(s) < limit {
		return nil
	}
	return fmt.Errorf("%s is too long: %d bytes, where Linux takes less than %d: %w", what, len(s), limit, errdefs.ErrInvalidArgument)
}

// shortened is the beginning of a text, for messages.
func shortened(s string) string {
	const enough = 40
	if len(s) <= enough {
		return s
	}
	return s[:enough] + "…"
}
