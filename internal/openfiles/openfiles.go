// Package openfiles says why no more files can be opened, and the way out.
package openfiles

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Why says which limit of open files an error of the kernel's is about, and how it is
// raised: this process's for EMFILE, the machine's for ENFILE. Of other errors it is "".
func Why(err error) string {
	switch {
	case errors.Is(err, unix.EMFILE):
		return ofProcess()
	case errors.Is(err, unix.ENFILE):
		return "too many open files on the whole machine (sysctl fs.file-nr: open, unused, most); raise that with sysctl -w fs.file-max=NUMBER"
	}
	return ""
}

// ofProcess names this process, which may be the daemon or a helper of its.
func ofProcess() string {
	self := fmt.Sprintf("process %d (%s)", os.Getpid(), strings.Join(os.Args[:min(2, len(os.Args))], " "))
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return "too many open files in " + self
	}
	return fmt.Sprintf("too many open files: %s may have %d; raise that with prlimit --pid %d --nofile=1048576, and for its next start with ulimit -Hn or LimitNOFILE= of the unit",
		self, l.Cur, os.Getpid())
}
