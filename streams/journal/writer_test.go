package journal

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fake is a journal's socket.
type fake struct {
	t    *testing.T
	conn *net.UnixConn
}

func newFake(t *testing.T) (*fake, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socket")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	return &fake{t, conn}, path
}

// next is the next entry, taken apart.
func (f *fake) next() map[string]string {
	f.t.Helper()
	buf, oob := make([]byte, 1<<20), make([]byte, 1<<10)
	n, oobn, _, _, err := f.conn.ReadMsgUnix(buf, oob)
	must(f.t, err)
	raw := buf[:n]
	if oobn > 0 { // an entry in a file
		messages, err := unix.ParseSocketControlMessage(oob[:oobn])
		must(f.t, err)
		fds, err := unix.ParseUnixRights(&messages[0])
		must(f.t, err)
		file := os.NewFile(uintptr(fds[0]), "entry")
		defer file.Close()
		if seals, err := unix.FcntlInt(file.Fd(), unix.F_GET_SEALS, 0); err != nil || seals&unix.F_SEAL_WRITE == 0 {
			f.t.Errorf("seals %x, %v", seals, err)
		}
		raw, err = io.ReadAll(io.NewSectionReader(file, 0, 1<<30))
		must(f.t, err)
	}
	e, err := newDecoder(bytes.NewReader(append(raw, '\n'))).next()
	must(f.t, err)
	return e
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var at = time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)

func TestEntries(t *testing.T) {
	t.Parallel()
	f, path := newFake(t)
	w, err := NewWriter(path, map[string]string{"CONTAINER_NAME": "web", "NOTE": "two\nlines"})
	must(t, err)
	defer w.Close()
	must(t, w.Write("stdout", at, []byte("one\n\ntwo\nthr")))
	must(t, w.Write("stderr", at, []byte("bad\n")))
	must(t, w.End("stdout", at))
	for _, want := range []struct{ message, priority string }{{"one", "6"}, {"two", "6"}, {"bad", "3"}, {"thr", "6"}} {
		e := f.next()
		if e["MESSAGE"] != want.message || e["PRIORITY"] != want.priority || e["CONTAINER_NAME"] != "web" || e["NOTE"] != "two\nlines" ||
			e["SYSLOG_TIMESTAMP"] != "2026-01-02T03:04:05.0000006Z" || e["CONTAINER_PARTIAL_ID"] != "" {
			t.Errorf("%q, want %q", e, want)
		}
	}
}

// A line longer than an entry is in parts that can be put together again.
func TestParts(t *testing.T) {
	t.Parallel()
	f, path := newFake(t)
	w, err := NewWriter(path, nil)
	must(t, err)
	defer w.Close()
	line := strings.Repeat("0123456789", 4000)
	must(t, w.Write("stdout", at, []byte(line+"\nnext\n")))
	var whole, id string
	for i, last := range []string{"false", "false", "true"} {
		e := f.next()
		whole += e["MESSAGE"]
		if id == "" {
			id = e["CONTAINER_PARTIAL_ID"]
		}
		if id == "" || e["CONTAINER_PARTIAL_ID"] != id || e["CONTAINER_PARTIAL_ORDINAL"] != string(rune('1'+i)) ||
			e["CONTAINER_PARTIAL_LAST"] != last || (e["CONTAINER_PARTIAL_MESSAGE"] == "true") == (last == "true") {
			e["MESSAGE"] = ""
			t.Errorf("part %d: %q", i, e)
		}
	}
	if whole != line {
		t.Error("the parts are not the line")
	}
	if e := f.next(); e["MESSAGE"] != "next" || e["CONTAINER_PARTIAL_ID"] != "" {
		t.Errorf("%q", e)
	}
}

func TestEntryTooLongForADatagram(t *testing.T) {
	t.Parallel()
	f, path := newFake(t)
	long := strings.Repeat("x", 1<<20)
	w, err := NewWriter(path, map[string]string{"LONG": long})
	must(t, err)
	defer w.Close()
	must(t, w.Write("stdout", at, []byte("hello\n")))
	if e := f.next(); e["MESSAGE"] != "hello" || e["LONG"] != long {
		t.Error("it did not arrive")
	}
}

// The journal may be away for a time; what is written then is lost, not the log.
func TestJournalAway(t *testing.T) {
	t.Parallel()
	f, path := newFake(t)
	w, err := NewWriter(path, nil)
	must(t, err)
	defer w.Close()
	must(t, f.conn.Close())
	must(t, os.Remove(path))
	if err := w.Write("stdout", at, []byte("unheard\n")); err == nil {
		t.Error("written to nobody")
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	must(t, err)
	defer conn.Close()
	must(t, w.Write("stdout", at, []byte("back\n")))
	if e := (&fake{t, conn}).next(); e["MESSAGE"] != "back" {
		t.Errorf("%q", e)
	}
}

// A journal that takes nothing holds the container up for a bounded time.
func TestJournalStuck(t *testing.T) {
	t.Parallel()
	_, path := newFake(t)
	w, err := NewWriter(path, nil)
	must(t, err)
	defer w.Close()
	w.patient = 50 * time.Millisecond
	for range 10_000 {
		if err = w.Write("stdout", at, []byte("line\n")); err != nil {
			break
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestFieldName(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"com.example.Role": "COM_EXAMPLE_ROLE", "__x1": "X1", "ä": "", "A B": "A_B", "": "",
	} {
		if got := FieldName(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
