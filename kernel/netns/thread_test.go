package netns

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestUnfitThreadDies: a thread that is left in another namespace serves no other
// goroutine.
func TestUnfitThreadDies(t *testing.T) {
	t.Parallel()
	oops := errors.New("could not go back")
	var stray unix.Stat_t
	err := onThread(func(*os.File) (bool, error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return true, err
		}
		return false, errors.Join(oops, unix.Stat(threadNS, &stray))
	})
	if !errors.Is(err, oops) || stray.Ino == 0 {
		t.Fatalf("onThread: %v", err)
	}
	for deadline := time.Now().Add(5 * time.Second); threadsIn(t, stray.Ino) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a thread of this process is in the other namespace still")
		}
	}
}

func threadsIn(t *testing.T, inode uint64) (n int) {
	t.Helper()
	all, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil || len(all) == 0 {
		t.Fatalf("list threads: %v", err)
	}
	for _, path := range all {
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil && st.Ino == inode {
			n++
		}
	}
	return n
}
