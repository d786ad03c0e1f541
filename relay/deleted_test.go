package relay

import (
	"os"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/spawn"
)

// TestDeletedSocketAndStart: a daemon that starts at once after somebody deleted the socket
// finds the process as well, and does not start a second.
func TestDeletedSocketAndStart(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c := ensure(t, root, "one")
	host := hold(t, c, "a", "tcp", "127.0.0.1", echoTCP(t))
	if err := os.Remove(spawn.SocketPath(root, Name)); err != nil {
		t.Fatal(err)
	}
	for _, build := range []string{"one", "two"} {
		again := ensure(t, root, build)
		if held, err := again.List(t.Context()); err != nil || len(held) != 1 || held[0].Host != host {
			t.Errorf("build %s holds %v, %v", build, held, err)
		}
	}
	answersAgain(t, host)
}

// TestDeletedSocket: where somebody deletes the process's socket, it is there again before
// long, the next daemon finds the same process with all that it holds, and so does the next
// build's.
func TestDeletedSocket(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c := ensure(t, root, "one")
	host := hold(t, c, "a", "tcp", "127.0.0.1", echoTCP(t))
	conn := dial(t, "tcp", host)
	path := spawn.SocketPath(root, Name)
	for range 2 {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			info, err := os.Lstat(path)
			if err == nil && info.Mode().Perm() == 0o600 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the socket is not there again: ", err)
			}
		}
	}
	for _, build := range []string{"one", "two"} {
		again := ensure(t, root, build)
		if held, err := again.List(t.Context()); err != nil || len(held) != 1 || held[0].Host != host {
			t.Errorf("build %s holds %v, %v", build, held, err)
		}
	}
	say(t, conn, "still there")
	answersAgain(t, host)
}
