package netns_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/netns"
)

// pins returns a directory for pins that is gone, mounts and all, after the test.
func pins(t testing.TB) string {
	t.Helper()
	base, err := os.MkdirTemp("", "fl-netns-")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, "netns")
	t.Cleanup(func() {
		if err := netns.RemoveDir(dir); err != nil {
			t.Error(err)
		}
		if err := os.Remove(base); err != nil {
			t.Error(err)
		}
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil || strings.Contains(string(mounts), base) {
			t.Errorf("a mount is left under %s (%v)", base, err)
		}
	})
	return dir
}

// inode identifies the namespace that the calling thread is in.
func inode(t testing.TB) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		t.Error(err)
	}
	return st.Ino
}

func TestNewRunsAndGoes(t *testing.T) {
	t.Parallel()
	dir := pins(t)
	path := filepath.Join(dir, "a")
	if err := netns.New(path); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o711 {
		t.Errorf("directory: %v %v, want mode 0711", fi, err)
	}
	if !netns.IsPinned(path) {
		t.Error("not pinned after New")
	}
	if err := netns.New(path); !errdefs.IsAlreadyExists(err) {
		t.Errorf("second New: %v, want ErrAlreadyExists", err)
	}
	ns, err := netns.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	var inside uint64
	if err := netns.Do(ns, func() error {
		inside = inode(t)
		links, err := net.Interfaces()
		if err != nil || len(links) != 1 || links[0].Name != "lo" {
			return fmt.Errorf("links in a new namespace: %v, %w", links, err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if outside := inode(t); inside == 0 || inside == outside {
		t.Errorf("Do ran in namespace %d, the test in %d", inside, outside)
	}
	if names, err := netns.List(dir); err != nil || !cmp.Equal(names, []string{"a"}) {
		t.Errorf("List = %v, %v", names, err)
	}
	for range 2 { // a second time, for a pin that is gone
		if err := netns.Remove(path); err != nil {
			t.Error(err)
		}
	}
	if names, err := netns.List(dir); err != nil || len(names) != 0 {
		t.Errorf("List after Remove = %v, %v", names, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	dir := pins(t)
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := netns.Open(filepath.Join(dir, "absent")); !errdefs.IsNotFound(err) {
		t.Errorf("absent: %v, want ErrNotFound", err)
	}
	for _, path := range []string{plain, "/proc/self/ns/mnt"} {
		if _, err := netns.Open(path); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("%s: %v, want ErrFailedPrecondition", path, err)
		}
	}
	// What a New that was killed half-way leaves is listed and can be removed.
	if err := os.MkdirAll(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(dir, "half")
	if err := os.WriteFile(half, nil, 0o400); err != nil {
		t.Fatal(err)
	}
	if names, err := netns.List(dir); err != nil || !cmp.Equal(names, []string{"half"}) || netns.IsPinned(half) {
		t.Errorf("List = %v, %v; pinned %v", names, err, netns.IsPinned(half))
	}
	if err := netns.Remove(half); err != nil {
		t.Error(err)
	}
}

func TestDo(t *testing.T) {
	t.Parallel()
	path := filepath.Join(pins(t), "a")
	if err := netns.New(path); err != nil {
		t.Fatal(err)
	}
	ns, err := netns.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	oops := errors.New("oops")
	if err := netns.Do(ns, func() error { return oops }); !errors.Is(err, oops) {
		t.Errorf("Do returned %v", err)
	}
	if err := netns.Do(ns, func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("Do of a function that ends its goroutine gave no error")
	}
	// Every thread that served Do is back where it came from, or gone.
	home := inode(t)
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			_ = netns.Do(ns, func() error {
				if inode(t) == home {
					t.Error("Do ran outside the namespace")
				}
				if unix.Gettid() == os.Getpid() {
					t.Error("Do ran on the main thread, whose namespace is the process's")
				}
				return nil
			})
			if got := inode(t); got != home {
				t.Errorf("a goroutine is in namespace %d, want %d", got, home)
			}
		})
	}
	wg.Wait()
}

// TestRemoveReachesCopies: another mount namespace, made while the pin was there,
// must not keep it.
func TestRemoveReachesCopies(t *testing.T) {
	t.Parallel()
	path := filepath.Join(pins(t), "a")
	if err := netns.New(path); err != nil {
		t.Fatal(err)
	}
	var before, after bool
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends here
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			// As systemd and runc do in theirs.
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, "")
		}
		before = netns.IsPinned(path)
		done <- err
		<-done
		after = netns.IsPinned(path)
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	err := netns.Remove(path)
	done <- nil
	<-done
	if err != nil || !before || after {
		t.Errorf("Remove: %v; the pin in the other mount namespace was there: %v, and after: %v", err, before, after)
	}
}

// What somebody mounted over a pin goes with it.
func TestRemoveWhatCovers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(pins(t), "a")
	if err := netns.New(path); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := unix.Mount("/proc/self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := netns.Remove(path); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
}

func TestNewLeavesNothing(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := netns.New(filepath.Join(file, "a")); err == nil {
		t.Error("New under a plain file gave no error")
	}
}

func BenchmarkNew(b *testing.B) {
	dir := pins(b)
	i := 0
	for b.Loop() {
		i++
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := netns.New(path); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := netns.Remove(path); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkDo(b *testing.B) {
	path := filepath.Join(pins(b), "a")
	if err := netns.New(path); err != nil {
		b.Fatal(err)
	}
	ns, err := netns.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer ns.Close()
	for b.Loop() {
		if err := netns.Do(ns, func() error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
