package rootfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestInitialize: what the image has stays, what it lacks is made, and a directory looks
// as it did.
func TestInitialize(t *testing.T) {
	t.Parallel()
	l := tree(t, map[string]string{}, map[string]string{"etc/hosts": "own", "dev": "->/elsewhere", "bin/sh": "x"})
	old := time.Unix(1000, 5)
	for _, err := range []error{os.Chmod(filepath.Join(l[1], "etc"), 0o711), os.Chown(filepath.Join(l[1], "etc"), 5, 6), os.Chtimes(filepath.Join(l[1], "etc"), old, old)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := l.Initialize(); err != nil {
			t.Fatal(err)
		}
	}
	var found []string
	err := filepath.WalkDir(l[0], func(path string, _ os.DirEntry, err error) error {
		found = append(found, strings.TrimPrefix(path, l[0]))
		return err
	})
	if got, want := strings.Join(found, " "), " /.dockerenv /etc /etc/hostname /etc/mtab /etc/resolv.conf /proc /sys"; got != want || err != nil {
		t.Errorf("%s %v, want %s", got, err, want)
	}
	if link, err := os.Readlink(filepath.Join(l[0], "etc/mtab")); link != "/proc/mounts" {
		t.Error(link, err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(l[0], "etc"), &st); err != nil || st.Mode&0o7777 != 0o711 || st.Uid != 5 || st.Gid != 6 || st.Mtim.Nano() != old.UnixNano() {
		t.Errorf("/etc: %+v %v", st, err)
	}
}
