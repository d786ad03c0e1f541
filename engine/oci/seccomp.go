package oci

import (
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// What the runtime knows of a system call filter; see runc's libcontainer/seccomp.
var (
	filterActions = []specs.LinuxSeccompAction{
		specs.ActKill, specs.ActKillProcess, specs.ActKillThread, specs.ActTrap, specs.ActErrno, specs.ActTrace, specs.ActAllow, specs.ActLog,
	}
	filterOperators = []specs.LinuxSeccompOperator{
		specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual,
	}
	filterFlags  = []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_TSYNC", specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow}
	filterArches = []specs.Arch{
		specs.ArchX86, specs.ArchX86_64, specs.ArchX32, specs.ArchARM, specs.ArchAARCH64, specs.ArchMIPS, specs.ArchMIPS64, specs.ArchMIPS64N32,
		specs.ArchMIPSEL, specs.ArchMIPSEL64, specs.ArchMIPSEL64N32, specs.ArchPPC, specs.ArchPPC64, specs.ArchPPC64LE, specs.ArchRISCV64,
		specs.ArchS390, specs.ArchS390X,
	}
)

// maxArgument is the last argument of a system call that a filter can look at.
const maxArgument = 5

// loadProfile makes a filter of a profile in JSON, as far as it applies to the
// capabilities in the specification.
func loadProfile(text string, s *specs.Spec) (*specs.LinuxSeccomp, error) {
	out, err := seccomp.LoadProfile(text, s)
	if err == nil && out != nil {
		err = checkFilter(*out)
	}
	if err != nil {
		return nil, fmt.Errorf("decoding seccomp profile failed: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return out, nil
}

// checkFilter says what in a filter the runtime would not know.
func checkFilter(f specs.LinuxSeccomp) error {
	if err := known("defaultAction", f.DefaultAction, filterActions); err != nil {
		return err
	}
	if f.ListenerPath != "" {
		return errors.New("listenerPath is not supported: nobody would listen there")
	}
	for _, a := range f.Architectures {
		if err := known("architecture", a, filterArches); err != nil {
			return err
		}
	}
	for _, flag := range f.Flags {
		if err := known("flag", flag, filterFlags); err != nil {
			return err
		}
	}
	for _, call := range f.Syscalls {
		if slices.Contains(call.Names, "") {
			return errors.New("a system call of syscalls has no name")
		}
		if err := known("action", call.Action, filterActions); err != nil {
			return err
		}
		for _, arg := range call.Args {
			if err := known("operator", arg.Op, filterOperators); err != nil {
				return err
			}
			if arg.Index > maxArgument {
				return fmt.Errorf("argument %d of %v: a system call has those of 0 to %d", arg.Index, call.Names, maxArgument)
			}
		}
	}
	return nil
}

func known[T ~string](what string, value T, list []T) error {
	if slices.Contains(list, value) {
		return nil
	}
	return fmt.Errorf("%s %q: want one of %q", what, value, list)
}
