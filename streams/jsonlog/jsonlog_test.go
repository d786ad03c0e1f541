package jsonlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/quick"
	"time"

	"github.com/fairlead/fairlead/streams/lines"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var all = Options{Tail: -1, Stdout: true, Stderr: true}

// at is a time that differs by n seconds from a fixed one.
func at(n int) time.Time { return time.Date(2026, 1, 2, 3, 4, n, 5, time.UTC) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWriter(t *testing.T) (*Writer, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	w, err := OpenWriter(path, WriterOptions{})
	must(t, err)
	t.Cleanup(func() { _ = w.Close() })
	return w, path
}

// read returns the entries as "stream:line".
func read(t *testing.T, path string, o Options) []string {
	t.Helper()
	var out []string
	must(t, Read(t.Context(), path, o, func(s string, _ time.Time, line []byte) error {
		out = append(out, s+":"+string(line))
		return nil
	}))
	return out
}

func TestFormat(t *testing.T) {
	t.Parallel()
	w, path := newWriter(t)
	must(t, w.Write(Stdout, at(0), []byte("say \"hi\"\t\\ \x1b[0m\r\n<é>\xff\n")))
	must(t, w.Write(Stderr, at(1), []byte("no newline")))
	must(t, w.End(Stderr, at(2)))
	must(t, w.End(Stderr, at(3))) // nothing waits any more
	b, err := os.ReadFile(path)
	must(t, err)
	want := `{"log":"say \"hi\"\t\\ \u001b[0m\r\n","stream":"stdout","time":"2026-01-02T03:04:00.000000005Z"}
{"log":"<é>\ufffd\n","stream":"stdout","time":"2026-01-02T03:04:00.000000005Z"}
{"log":"no newline","stream":"stderr","time":"2026-01-02T03:04:02.000000005Z"}
`
	if d := cmp.Diff(want, string(b)); d != "" {
		t.Error(d)
	}
}

// Whatever is written comes back as encoding/json would have it.
func TestEscapeAgreesWithJSON(t *testing.T) {
	t.Parallel()
	check := func(b []byte) bool {
		var got entry
		if err := json.Unmarshal(appendEntry(nil, Stdout, at(0), nil, b), &got); err != nil {
			return false
		}
		var want string
		ref, err := json.Marshal(string(b))
		return err == nil && json.Unmarshal(ref, &want) == nil && got.Log == want
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 5000}); err != nil {
		t.Error(err)
	}
	text := func(s string) bool { return check([]byte(s)) }
	if err := quick.Check(text, nil); err != nil {
		t.Error(err)
	}
}

// Output may arrive cut anywhere; lines come out whole, long ones in pieces of
// 16 KiB that never cut a character.
func TestLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 20_000) // 40,000 bytes
	text := "a\n\nb" + long + "\nc\n" + strings.Repeat("x", lines.Max) + "\n" + strings.Repeat("y", lines.Max-1) + "\nend"
	var want []string
	for _, step := range []int{len(text), 1, 3, 1000, lines.Max} {
		w, path := newWriter(t)
		for i := 0; i < len(text); i += step {
			must(t, w.Write(Stdout, at(0), []byte(text[i:min(i+step, len(text))])))
		}
		must(t, w.End(Stdout, at(0)))
		got := read(t, path, all)
		var back strings.Builder
		for _, e := range got {
			line := strings.TrimPrefix(e, "stdout:")
			back.WriteString(line)
			if len(line) > lines.Max || strings.Contains(line, "\ufffd") {
				t.Fatalf("by %d: a piece of %d bytes: %.20q", step, len(line), line)
			}
		}
		if back.String() != text {
			t.Fatalf("by %d: the text changed", step)
		}
		if want == nil {
			want = got
		} else if d := cmp.Diff(want, got); d != "" {
			t.Errorf("by %d: %s", step, d)
		}
	}
}

func TestPendingGoesOn(t *testing.T) {
	t.Parallel()
	w, path := newWriter(t)
	must(t, w.Write(Stdout, at(0), []byte("one\nha")))
	next, err := OpenWriter(path, WriterOptions{})
	must(t, err)
	defer next.Close()
	next.Restore(w.Pending())
	must(t, next.Write(Stdout, at(0), []byte("lf\n")))
	if d := cmp.Diff([]string{"stdout:one\n", "stdout:half\n"}, read(t, path, all)); d != "" {
		t.Error(d)
	}
}

// What a full disk takes of an entry is taken back, and the log goes on once
// there is room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var w *Writer
	// A small tmpfs in a mount namespace of one thread, which ends with it; the
	// open file keeps the filesystem.
	errc := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with us
		err := errors.Join(
			unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS),
			unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16k"),
		)
		if err == nil {
			w, err = OpenWriter(filepath.Join(dir, "log"), WriterOptions{})
		}
		errc <- err
	}()
	must(t, <-errc)
	defer w.Close()
	line := []byte(strings.Repeat("x", 5000) + "\n")
	var err error
	written := 0
	for ; err == nil && written < 10; written++ {
		err = w.Write(Stdout, at(0), line)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("after %d lines: %v", written, err)
	}
	fi, statErr := w.file.Stat()
	must(t, statErr)
	entry := int64(len(appendEntry(nil, Stdout, at(0), nil, line)))
	if fi.Size() == 0 || fi.Size()%entry != 0 {
		t.Errorf("the log has %d bytes, not a multiple of %d: it ends within an entry", fi.Size(), entry)
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	w, path := newWriter(t)
	for i := range 5 {
		must(t, w.Write(Stdout, at(2*i), fmt.Appendf(nil, "out %d\n", i)))
		must(t, w.Write(Stderr, at(2*i+1), fmt.Appendf(nil, "err %d\n", i)))
	}
	for name, tc := range map[string]struct {
		o    Options
		want []string
	}{
		"nothing":                {Options{Tail: -1}, nil},
		"tail 0":                 {Options{Stdout: true, Stderr: true}, nil},
		"tail 3":                 {Options{Stdout: true, Stderr: true, Tail: 3}, []string{"stderr:err 3\n", "stdout:out 4\n", "stderr:err 4\n"}},
		"tail of both, then one": {Options{Stdout: true, Tail: 3}, []string{"stdout:out 4\n"}},
		"tail of more than there is": {Options{Stdout: true, Tail: 99}, []string{
			"stdout:out 0\n", "stdout:out 1\n", "stdout:out 2\n", "stdout:out 3\n", "stdout:out 4\n",
		}},
		"since and until": {Options{Stdout: true, Stderr: true, Tail: -1, Since: at(3), Until: at(5)}, []string{"stderr:err 1\n", "stdout:out 2\n", "stderr:err 2\n"}},
		"timestamps":      {Options{Stdout: true, Tail: 2, Timestamps: true}, []string{"stdout:2026-01-02T03:04:08.000000005Z out 4\n"}},
	} {
		if d := cmp.Diff(tc.want, read(t, path, tc.o)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	stop := errors.New("enough")
	if err := Read(t.Context(), path, all, func(string, time.Time, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("emit's error came back as %v", err)
	}
	if got := read(t, path+"-absent", all); got != nil {
		t.Errorf("an absent log has %v", got)
	}
}

// A long tail crosses the blocks it is searched in.
func TestTailOfMany(t *testing.T) {
	t.Parallel()
	w, path := newWriter(t)
	for i := range 5000 {
		must(t, w.Write(Stdout, at(0), fmt.Appendf(nil, "line %d %s\n", i, strings.Repeat("x", i%300))))
	}
	for _, n := range []int{1, 100, 4999, 5000, 5001} {
		got := read(t, path, Options{Stdout: true, Tail: n})
		first := fmt.Sprintf("stdout:line %d ", max(0, 5000-n))
		if len(got) != min(n, 5000) || !strings.HasPrefix(got[0], first) {
			t.Errorf("tail %d: %d entries from %.20q, want %q", n, len(got), got[0], first)
		}
	}
}

// Timestamps stand before lines, not before the pieces of a long one; rubbish in
// the file is passed over.
func TestTimestampsOfPieces(t *testing.T) {
	t.Parallel()
	w, path := newWriter(t)
	must(t, w.Write(Stdout, at(0), []byte(strings.Repeat("x", lines.Max+5)+"\nshort\n")))
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	fmt.Fprint(f, "{\"log\":\"cut o\n")
	must(t, w.Write(Stdout, at(1), []byte("more\n")))
	var times, entries int
	for _, e := range read(t, path, Options{Stdout: true, Tail: -1, Timestamps: true}) {
		entries++
		times += strings.Count(e, "2026-01-02T")
	}
	if entries != 4 || times != 3 {
		t.Errorf("%d entries with %d times", entries, times)
	}
}

func BenchmarkWrite(b *testing.B) {
	w, err := OpenWriter(filepath.Join(b.TempDir(), "log"), WriterOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	text := []byte(strings.Repeat(strings.Repeat("x", 99)+"\n", 300))
	b.SetBytes(int64(len(text)))
	now := time.Now()
	for b.Loop() {
		if err := w.Write(Stdout, now, text); err != nil {
			b.Fatal(err)
		}
	}
}

// The fast way of reading an entry agrees with the slow one, and takes the slow way
// for what it does not know.
func TestParseOwn(t *testing.T) {
	t.Parallel()
	var buf []byte
	check := func(b []byte) bool {
		line := appendEntry(nil, Stderr, at(1), nil, b)
		line = line[:len(line)-1]
		var want entry
		if err := json.Unmarshal(line, &want); err != nil {
			return false
		}
		got, err := parse(line, &buf)
		return err == nil && string(got.text) == want.Log && got.Stream == want.Stream && got.Time.Equal(want.Time)
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 5000}); err != nil {
		t.Error(err)
	}
	if err := quick.Check(func(s string) bool { return check([]byte(s)) }, nil); err != nil {
		t.Error(err)
	}
	for _, line := range []string{
		`{"log":"aA\n" ,"stream":"stdout","time":"2026-01-02T03:04:05Z"}`,
		`{"stream":"stdout","log":"aA\n","time":"2026-01-02T03:04:05Z"}`,
		`{"log":"aA\n","stream":"stdout","attrs":{"x":"y"},"time":"2026-01-02T03:04:05Z"}`,
		`{"log":"aA\n","stream":"stdout","time":"2026-01-02T03:04:05Z","more":1}`,
	} {
		if _, ok := parseOwn([]byte(line), &buf); ok {
			t.Errorf("%s was read the fast way", line)
		}
		if e, err := parse([]byte(line), &buf); err != nil || string(e.text) != "aA\n" || e.Stream != Stdout {
			t.Errorf("%s: %+v, %v", line, e, err)
		}
	}
	if e, err := parse([]byte(`{"log":"\ud83d\ude00\u001b","stream":"stdout","time":"2026-01-02T03:04:05Z"}`), &buf); err != nil || string(e.text) != "\U0001f600\x1b" {
		t.Errorf("%+v, %v", e, err)
	}
	for _, line := range []string{`{"log":"`, `{"log":"\`, `{"log":"x","stream":"stdout","time":"x"}`, ``, `{"log":"x","stream":"stdout","time":"2026-01-02T03:04:05Z"`} {
		if e, err := parse([]byte(line), &buf); err == nil {
			t.Errorf("%s: %+v", line, e)
		}
	}
}
