package jsonlog

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func listed(t *testing.T, path string) []string {
	t.Helper()
	all, err := filepath.Glob(path + "*")
	must(t, err)
	for i := range all {
		all[i] = strings.TrimPrefix(all[i], filepath.Dir(path)+"/")
	}
	return all
}

func readAll(t *testing.T, path string, o Options) []string {
	t.Helper()
	o.Stdout, o.Stderr = true, true
	var out []string
	must(t, Read(t.Context(), path, o, func(_ string, _ time.Time, line []byte) error {
		out = append(out, strings.TrimSuffix(string(line), "\n"))
		return nil
	}))
	return out
}

// expected is the lines from, from+1, … to-1.
func expected(from, to int) []string {
	out := make([]string, 0, to-from)
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf("line %05d", i))
	}
	return out
}

func waitPacked(path string) {
	packings.Lock()
	p := packings.byPath[path]
	packings.Unlock()
	p.wait()
}

// A log of a limited size is in so many files of at most that size, and reads as
// one: from its beginning, from its end, and backwards into packed files.
func TestRotation(t *testing.T) {
	t.Parallel()
	for _, compress := range []bool{false, true} {
		t.Run(fmt.Sprint("compress=", compress), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "log")
			o := WriterOptions{MaxSize: 4000, MaxFiles: 4, Compress: compress}
			w, err := OpenWriter(path, o)
			must(t, err)
			const count = 1000
			for i := range count {
				must(t, w.Write(Stdout, at(i), fmt.Appendf(nil, "line %05d\n", i)))
			}
			must(t, w.Close())
			waitPacked(path)
			want := []string{"log", "log.1", "log.2", "log.3"}
			if compress {
				want = []string{"log", "log.1.gz", "log.2.gz", "log.3.gz"}
			}
			if got := listed(t, path); !slices.Equal(got, want) {
				t.Fatalf("%v", got)
			}
			for _, name := range want {
				b, err := os.ReadFile(filepath.Join(filepath.Dir(path), name))
				must(t, err)
				if compress && name != "log" {
					z, err := gzip.NewReader(bytes.NewReader(b))
					must(t, err)
					b, err = io.ReadAll(z)
					must(t, err)
				}
				if len(b) > 4000 || (name != "log" && len(b) < 3900) || b[len(b)-1] != '\n' {
					t.Errorf("%s has %d bytes", name, len(b))
				}
			}
			all := readAll(t, path, Options{Tail: -1})
			if len(all) < 150 || !slices.Equal(all, expected(count-len(all), count)) {
				t.Fatalf("%d lines, from %q to %q", len(all), all[0], all[len(all)-1])
			}
			for tail := 0; tail <= len(all)+3; tail++ {
				n := min(tail, len(all))
				if got := readAll(t, path, Options{Tail: tail}); !slices.Equal(got, expected(count-n, count)) {
					t.Fatalf("tail %d: %v", tail, got)
				}
			}
			if got := readAll(t, path, Options{Tail: -1, Since: at(900), Until: at(950)}); !slices.Equal(got, expected(900, 951)) {
				t.Errorf("between: %v", got)
			}
			// Written to again, it goes on where it was.
			w, err = OpenWriter(path, o)
			must(t, err)
			must(t, w.Write(Stdout, at(count), []byte("line 01000\n")))
			must(t, w.Close())
			if got := readAll(t, path, Options{Tail: 2}); !slices.Equal(got, expected(count-1, count+1)) {
				t.Errorf("%v", got)
			}
		})
	}
}

// One file alone begins anew when it is full.
func TestRotationOfOneFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	w, err := OpenWriter(path, WriterOptions{MaxSize: 1000})
	must(t, err)
	for i := range 100 {
		must(t, w.Write(Stdout, at(i), fmt.Appendf(nil, "line %05d\n", i)))
	}
	// An entry that is longer than a file has one for itself.
	must(t, w.Write(Stdout, at(100), []byte(strings.Repeat("x", 2000)+"\nline 00101\n")))
	must(t, w.Close())
	if got := listed(t, path); !slices.Equal(got, []string{"log"}) {
		t.Error(got)
	}
	if got := readAll(t, path, Options{Tail: -1}); !slices.Equal(got, expected(101, 102)) {
		t.Error(got)
	}
}

// A follower has every line, however often the log is rotated meanwhile, as long
// as it keeps up with what is kept.
func TestFollowRotation(t *testing.T) {
	t.Parallel()
	for _, o := range []WriterOptions{{MaxSize: 2000, MaxFiles: 500}, {MaxSize: 20_000, MaxFiles: 500, Compress: true}} {
		t.Run(fmt.Sprint("compress=", o.Compress), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "log")
			stop := make(chan struct{})
			f := follow(t.Context(), path, Options{Tail: -1, Stop: stop})
			w, err := OpenWriter(path, o)
			must(t, err)
			t.Cleanup(func() { <-stop })
			const count = 5000
			go func() {
				defer close(stop)
				for i := range count {
					if err := w.Write(Stdout, at(i), fmt.Appendf(nil, "line %05d\n", i)); err != nil {
						t.Error(err)
					}
					if i%100 == 0 {
						time.Sleep(time.Millisecond)
					}
				}
			}()
			for _, line := range expected(0, count) {
				f.next(t, line+"\n")
			}
			f.end(t, nil)
			must(t, w.Close())
			waitPacked(path)
		})
	}
}

// What a crash in the middle of a rotation leaves is read once, and mended by the
// next writer.
func TestRotationCutShort(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	o := WriterOptions{MaxSize: 1000, MaxFiles: 3, Compress: true}
	w, err := OpenWriter(path, WriterOptions{})
	must(t, err)
	for i := range 5 {
		must(t, w.Write(Stdout, at(i), fmt.Appendf(nil, "line %05d\n", i)))
	}
	must(t, w.Close())
	must(t, shift(path, 3)) // and no new file
	must(t, os.WriteFile(path+".new", []byte("torn"), 0o600))
	must(t, os.WriteFile(path+".1.packing.1", []byte("torn"), 0o600))
	if got := readAll(t, path, Options{Tail: -1}); !slices.Equal(got, expected(0, 5)) {
		t.Errorf("%v", got)
	}
	w, err = OpenWriter(path, o)
	must(t, err)
	must(t, w.Write(Stdout, at(5), []byte("line 00005\n")))
	if got := readAll(t, path, Options{Tail: -1}); !slices.Equal(got, expected(0, 6)) {
		t.Errorf("%v", got)
	}
	// Packed, and its plain form not removed yet.
	for i := 6; i < 20; i++ {
		must(t, w.Write(Stdout, at(i), fmt.Appendf(nil, "line %05d\n", i)))
	}
	must(t, w.Close())
	waitPacked(path)
	first, err := os.Open(path + ".1.gz")
	must(t, err)
	defer first.Close()
	z, err := gzip.NewReader(first)
	must(t, err)
	plain, err := io.ReadAll(z)
	must(t, err)
	must(t, os.WriteFile(path+".1", plain, 0o600))
	if got := readAll(t, path, Options{Tail: -1}); !slices.Equal(got, expected(0, 20)) {
		t.Errorf("%v", got)
	}
}

// A log that nobody writes to any more keeps no goroutine, and its directory may
// go away while it is packed.
func TestPackingStops(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	must(t, os.WriteFile(path+".1", bytes.Repeat([]byte("some text that is not JSON\n"), 1<<20), 0o600))
	w, err := OpenWriter(path, WriterOptions{MaxSize: 1000, MaxFiles: 3, Compress: true})
	must(t, err)
	began := time.Now()
	if p := w.Pending(); len(p) > 0 {
		t.Error(p)
	}
	must(t, w.Close())
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if got := listed(t, path); !slices.Contains(got, "log.1") && !slices.Contains(got, "log.1.gz") || len(got) != 2 {
		t.Error(got)
	}
}

func TestAttributes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	w, err := OpenWriter(path, WriterOptions{Attrs: map[string]string{"tag": "a b", "role": `front,"end"`}})
	must(t, err)
	must(t, w.Write(Stderr, at(0), []byte("hello\n")))
	must(t, w.Close())
	raw, err := os.ReadFile(path)
	must(t, err)
	want := `{"log":"hello\n","stream":"stderr","attrs":{"role":"front,\"end\"","tag":"a b"},"time":"` + at(0).UTC().Format(time.RFC3339Nano) + `"}` + "\n"
	if string(raw) != want {
		t.Errorf("%s", raw)
	}
	if got := readAll(t, path, Options{Tail: -1, Details: true}); !slices.Equal(got, []string{"role=front%2C%22end%22,tag=a+b hello"}) {
		t.Errorf("%q", got)
	}
	stamp := at(0).UTC().Format(timestamp)
	if got := readAll(t, path, Options{Tail: -1, Details: true, Timestamps: true}); !slices.Equal(got, []string{stamp + " role=front%2C%22end%22,tag=a+b hello"}) {
		t.Errorf("%q", got)
	}
}

// What is no log at all does not fill the memory.
func TestEndlessLine(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(path)
	must(t, err)
	must(t, f.Truncate(200<<20)) // zeros, as some file systems leave after a crash
	_, err = f.Seek(0, io.SeekEnd)
	must(t, err)
	_, err = f.WriteString("\n" + `{"log":"after\n","stream":"stdout","time":"2026-01-02T03:04:05Z"}` + "\n")
	must(t, err)
	must(t, f.Close())
	r := &reader{options: Options{Tail: -1, Stdout: true}}
	lines := 0
	r.emit = func(string, time.Time, []byte) error { lines++; return nil }
	f, err = os.Open(path)
	must(t, err)
	defer f.Close()
	must(t, r.drain(context.Background(), f))
	if lines != 1 || cap(r.partial) > 4*maxEntry {
		t.Errorf("%d lines, %d bytes held", lines, cap(r.partial))
	}
}
