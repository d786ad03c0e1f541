package inotify

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Each way in which a file becomes another is told.
func TestEveryWayToChangeAFileIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name string) { must(os.WriteFile(at(name), []byte(name), 0o600)) }
	must(os.Mkdir(at("etc"), 0o700))
	must(os.Mkdir(at("run"), 0o700))
	w, err := Watch(at("etc/resolv.conf"), at("later/deep/file"))
	must(err)
	told := func(what string) {
		t.Helper()
		select {
		case <-w.Changed():
		case <-time.After(5 * time.Second):
			t.Errorf("not told: %s", what)
		}
		for quiet := false; !quiet; {
			select {
			case <-w.Changed():
			case <-time.After(50 * time.Millisecond):
				quiet = true
			}
		}
	}
	write("etc/resolv.conf")
	told("it comes")
	write("etc/resolv.conf")
	told("written in place")
	write("etc/new")
	must(os.Rename(at("etc/new"), at("etc/resolv.conf")))
	told("replaced by a rename")
	write("run/a")
	must(os.Symlink("../run/a", at("etc/link")))
	must(os.Rename(at("etc/link"), at("etc/resolv.conf")))
	told("replaced by a link")
	write("run/a")
	told("what the link leads to is written")
	write("run/b")
	must(os.Rename(at("run/b"), at("run/a")))
	told("what the link leads to is replaced")
	must(os.Remove(at("run/a")))
	told("what the link leads to goes")
	must(os.Mkdir(at("later"), 0o700))
	told("a directory on the way comes")
	must(os.Mkdir(at("later/deep"), 0o700))
	told("the next directory comes")
	write("later/deep/file")
	told("the file in it comes")
	must(w.Close())
}
