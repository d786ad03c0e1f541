package openfiles_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/openfiles"
)

// TestWhy: a process at its own limit is named with its way out, and a machine at its limit
// is not taken for it.
func TestWhy(t *testing.T) {
	t.Parallel()
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	for err, says := range map[error][]string{
		unix.EMFILE: {fmt.Sprintf("process %d (%s", os.Getpid(), os.Args[0]), fmt.Sprintf("may have %d;", l.Cur), fmt.Sprintf("prlimit --pid %d --nofile=", os.Getpid()), "LimitNOFILE="},
		unix.ENFILE: {"whole machine", "fs.file-max"},
	} {
		for _, err := range []error{err, os.NewSyscallError("socket", err), fmt.Errorf("in between: %w", err)} {
			for _, s := range says {
				if why := openfiles.Why(err); !strings.Contains(why, s) {
					t.Errorf("%v: %q does not say %q", err, why, s)
				}
			}
		}
	}
	for _, err := range []error{unix.EACCES, unix.ENOMEM, nil} {
		if why := openfiles.Why(err); why != "" {
			t.Errorf("%v: %q", err, why)
		}
	}
	if why := openfiles.Why(unix.ENFILE); strings.Contains(why, "prlimit") || strings.Contains(why, "process") {
		t.Errorf("the machine's limit is taken for a process's: %q", why)
	}
}
