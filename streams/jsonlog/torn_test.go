package jsonlog

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTornLog: a log that was cut short, or has garbage in it, costs the entries that
// were damaged, and neither those before and after nor what is written from then on.
func TestTornLog(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]func(raw []byte) []byte{
		"cut short":           func(raw []byte) []byte { return raw[:len(raw)-20] },
		"cut to its first":    func(raw []byte) []byte { return raw[:bytes.LastIndex(raw, []byte("{"))+1] },
		"zeroes at the end":   func(raw []byte) []byte { clear(raw[bytes.LastIndex(raw, []byte("{")):]); return raw },
		"garbage in the last": func(raw []byte) []byte { copy(raw[bytes.LastIndex(raw, []byte("{")):], "\xff\xfe}}{{"); return raw },
	} {
		w, path := newWriter(t)
		for i := range 4 {
			must(t, w.Write(Stdout, at(i), fmt.Appendf(nil, "line %d\n", i)))
		}
		raw, err := os.ReadFile(path)
		must(t, err)
		must(t, os.WriteFile(path, how(raw), 0o600))
		for _, o := range []WriterOptions{{}, {MaxSize: 500, MaxFiles: 3}} {
			again, err := OpenWriter(path, o)
			must(t, err)
			for i := range 2 {
				must(t, again.Write(Stderr, at(10+i), []byte("after\n")))
			}
			must(t, again.Close())
		}
		got := read(t, path, all)
		want := []string{"stdout:line 0\n", "stdout:line 1\n", "stdout:line 2\n", "stderr:after\n", "stderr:after\n", "stderr:after\n", "stderr:after\n"}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if tail := read(t, path, Options{Stdout: true, Stderr: true, Tail: 4}); strings.Join(tail, "") != strings.Repeat("stderr:after\n", 4) {
			t.Errorf("%s: the tail is %q", name, tail)
		}
	}
}
