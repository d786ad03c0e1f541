// Package e2e tests the whole product the way a person meets it: the program's
// command line, real containers, the real kernel, in throw-away hosts.
//
// A test named by a letter and a number shows one behaviour of the scenarios the
// project keeps to; its comment says which. What a package can be tested for by
// itself is tested there.
package e2e

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/lab"
)

func TestMain(m *testing.M) {
	if os.Getenv(withoutNetfilter) != "" {
		fmt.Fprintln(os.Stderr, execWithoutNetfilter(os.Args[1:]))
		os.Exit(1)
	}
	if os.Getenv(withoutHooks) != "" {
		fmt.Fprintln(os.Stderr, execWithoutHooks(os.Args[1:]))
		os.Exit(1)
	}
	lab.Main(m)
}

// withoutNetfilter, in its environment, has this program run another on what looks
// like a kernel without nf_tables.
const withoutNetfilter = "FAIRLEAD_E2E_WITHOUT_NETFILTER"

// execWithoutNetfilter refuses to make sockets of the family and protocol that
// nf_tables is reached by, as a kernel without it does, and runs the program.
func execWithoutNetfilter(args []string) error {
	const (
		allow   = unix.SECCOMP_RET_ALLOW
		refuse  = unix.SECCOMP_RET_ERRNO | uint32(unix.EPROTONOSUPPORT)
		load    = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equals  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		answer  = unix.BPF_RET | unix.BPF_K
		number  = 0  // of struct seccomp_data (linux/seccomp.h): the system call,
		domain  = 16 // its first argument, and
		thirdly = 32 // its third
	)
	return execFiltered(args, []unix.SockFilter{
		{Code: load, K: number},
		{Code: equals, K: unix.SYS_SOCKET, Jf: 5},
		{Code: load, K: domain},
		{Code: equals, K: unix.AF_NETLINK, Jf: 3},
		{Code: load, K: thirdly},
		{Code: equals, K: unix.NETLINK_NETFILTER, Jf: 1},
		{Code: answer, K: refuse},
		{Code: answer, K: allow},
	})
}

// execFiltered runs a program whose system calls, and its children's, go through a
// filter (seccomp(2)).
func execFiltered(args []string, filter []unix.SockFilter) error {
	runtime.LockOSThread()
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return errno
	}
	return syscall.Exec(args[0], args, os.Environ())
}
