package lab

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Signal sends the signal to the process, as kill(2), but to no more than that: there 0
// stands for all of the caller's group, with the tests and what runs them, and -1 for
// everybody. 0 is what a container that is about to be started again has for a process.
func Signal(pid int, sig unix.Signal) error {
	if pid <= 1 {
		return fmt.Errorf("send %s: %d is no process of a lab: %w", unix.SignalName(sig), pid, unix.ESRCH)
	}
	return unix.Kill(pid, sig)
}
