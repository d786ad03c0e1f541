package runtime

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// choose returns the system's socket where its containerd is to be used, and ""
// for a child. The choice stands for the life of the data root: what containerd
// keeps of our containers cannot be found in another one.
func choose(ctx context.Context, dataRoot, system string) (string, error) {
	if _, err := os.Stat(filepath.Join(dataRoot, childDir)); err == nil {
		return "", nil
	}
	mark := filepath.Join(dataRoot, "containerd.address")
	_, err := os.Stat(mark)
	chosen := err == nil
	// At boot the system's may be a moment later than we are.
	for deadline := time.Now().Add(systemStart); ; {
		switch {
		case usable(system) && chosen:
			return system, nil
		case usable(system):
			err := os.MkdirAll(dataRoot, 0o710)
			if err == nil {
				err = os.WriteFile(mark, []byte(system+"\n"), 0o600)
			}
			if err != nil {
				return "", fmt.Errorf("note which containerd is in use: %w", err)
			}
			return system, nil
		case !chosen:
			return "", nil
		case time.Now().After(deadline):
			return "", fmt.Errorf("the containers of %s are in the system's containerd, which does not answer at %s: start it, "+
				"or remove %s to begin anew with a containerd of our own: %w", dataRoot, system, mark, errdefs.ErrUnavailable)
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// systemStart is how long the system's containerd may take to come up.
const systemStart = 3 * time.Second

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
