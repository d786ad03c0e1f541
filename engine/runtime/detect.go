package runtime

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// usable says whether a containerd listens at the socket that sees the mounts,
// paths and processes we see. One in another mount or pid namespace (that of
// the machine around a lab, say) could not find a container's namespace by path.
func usable(socket string) bool {
	pid, err := peer(socket)
	if err != nil {
		return false
	}
	for _, ns := range []string{"mnt", "pid"} {
		same, err := sameNamespace(pid, ns)
		if err != nil || !same {
			return false
		}
	}
	return true
}

// peer returns the process that listens at the unix socket. The kernel keeps
// the credentials of listen(2), see SO_PEERCRED in unix(7); the process is 0
// when it is outside our pid namespace.
func peer(socket string) (int, error) {
	conn, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, credErr); err != nil {
		return 0, fmt.Errorf("ask who listens at %s: %w", socket, err)
	}
	return int(cred.Pid), nil
}

func sameNamespace(pid int, kind string) (bool, error) {
	if pid <= 0 {
		return false, nil
	}
	ours, err := os.Stat("/proc/self/ns/" + kind)
	if err != nil {
		return false, err
	}
	theirs, err := os.Stat("/proc/" + strconv.Itoa(pid) + "/ns/" + kind)
	if err != nil {
		return false, err
	}
	return os.SameFile(ours, theirs), nil
}
