package streams

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// slowLog takes its time, and notes what it is given.
type slowLog struct {
	logWriter
	gate chan struct{}

	mu  sync.Mutex
	got []string
}

func (s *slowLog) Write(stream string, _ time.Time, output []byte) error {
	<-s.gate
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, stream+" "+string(output))
	return nil
}

func (s *slowLog) End(stream string, t time.Time) error { return s.Write(stream, t, []byte("END")) }

func (s *slowLog) Pending() map[string][]byte { return map[string][]byte{"stdout": []byte("rest")} }

func (s *slowLog) Close() error { return nil }

// A log with a buffer holds nobody up: what does not fit is lost, the rest is
// written in order, and before the end of the log.
func TestLogBuffer(t *testing.T) {
	t.Parallel()
	slow := &slowLog{gate: make(chan struct{})}
	b := newLogBuffer(slow, 10, func(err error) {
		if err != nil {
			t.Error(err)
		}
	})
	var lost int
	for i := range 20 {
		if err := b.Write("stdout", time.Now(), fmt.Appendf(nil, "%02d ", i)); errors.Is(err, errFull) {
			lost++
		} else {
			must(t, err)
		}
	}
	must(t, b.End("stdout", time.Now()))
	if lost != 17 {
		t.Errorf("%d were lost", lost)
	}
	time.AfterFunc(50*time.Millisecond, func() { close(slow.gate) })
	if p := b.Pending(); string(p["stdout"]) != "rest" {
		t.Errorf("%v", p)
	}
	want := []string{"stdout 00 ", "stdout 01 ", "stdout 02 ", "stdout END"}
	if !slices.Equal(slow.got, want) {
		t.Errorf("%q", slow.got)
	}
	must(t, b.Write("stdout", time.Now(), []byte(strings.Repeat("x", 100)))) // more than the buffer
	must(t, b.Close())
	if len(slow.got) != 5 {
		t.Errorf("%q", slow.got)
	}
}

// Output goes to a log of limited size, whose parts a killed process leaves to the
// next; and a second Open with other attributes is no conflict.
func TestLogRotates(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c := ensure(t, root, "command")
	box := newContainer(t, "a")
	box.spec.Logging = Logging{MaxSize: 1000, MaxFiles: 100, Compress: true, Attrs: map[string]string{"tag": "x"}}
	must(t, c.Open(t.Context(), box.spec))
	box.connect()
	var want strings.Builder
	for i := range 100 {
		fmt.Fprintf(&want, "line %d\n", i)
		fmt.Fprintf(box.stdout, "line %d\n", i)
		if i == 50 {
			for !strings.Contains(box.log("stdout"), "line 50\n") {
				time.Sleep(time.Millisecond)
			}
			next := box.spec
			next.Logging.Attrs = map[string]string{"tag": "renamed"}
			must(t, c.Open(t.Context(), next))
			must(t, killProcess(c))
			c = ensure(t, root, "command")
			must(t, c.Open(t.Context(), box.spec))
		}
	}
	box.exit()
	drained(t, c, "a")
	if got := box.log("stdout"); got != want.String() {
		t.Errorf("log has %q", got)
	}
	if files, _ := filepath.Glob(box.spec.Log + ".*"); len(files) < 5 {
		t.Errorf("%q", files)
	}
}

// Output goes to the journal; another build goes on with the line that has begun.
func TestLogToJournal(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(root, "journal"), Net: "unixgram"})
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	entry := func() string {
		t.Helper()
		buf := make([]byte, 64<<10)
		n, err := conn.Read(buf)
		must(t, err)
		return string(buf[:n])
	}
	c := ensure(t, root, "one")
	box := newContainer(t, "a")
	box.spec.Log = ""
	box.spec.Logging = Logging{Journal: map[string]string{"CONTAINER_NAME": "a"}, Buffer: 1 << 20}
	must(t, c.Open(t.Context(), box.spec))
	box.connect()
	fmt.Fprint(box.stdout, "hello\nhalf ")
	if e := entry(); !strings.Contains(e, "CONTAINER_NAME=a\nMESSAGE=hello\n") {
		t.Errorf("%q", e)
	}
	next := ensure(t, root, "two")
	fmt.Fprint(box.stdout, "a line\n")
	if e := entry(); !strings.Contains(e, "MESSAGE=half a line\n") {
		t.Errorf("%q", e)
	}
	box.exit()
	drained(t, next, "a")
	if _, err := os.Stat(box.spec.Log); err == nil {
		t.Error("there is a file too")
	}
}
