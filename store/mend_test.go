package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

var quiet = slog.New(slog.DiscardHandler)

func openQuietly(t *testing.T, dir string, change ...func(*Options)) *Store {
	t.Helper()
	opts := Options{Log: quiet}
	for _, f := range change {
		f(&opts)
	}
	s, err := OpenWith(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func things(t *testing.T, s *Store) *Bucket[record] {
	t.Helper()
	b, err := NewBucket[record](s, "things")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func put(t *testing.T, b *Bucket[record], from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := b.Put(fmt.Sprintf("%03d", i), record{fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
}

func count(t *testing.T, s *Store) int {
	t.Helper()
	all, err := things(t, s).All()
	if err != nil {
		t.Error(err)
	}
	return len(all)
}

// filled makes a store of 300 values and says what its ID is.
func filled(t *testing.T) (dir, id string) {
	t.Helper()
	dir = t.TempDir()
	s := openQuietly(t, dir)
	b := things(t, s)
	put(t, b, 0, 3)
	err := b.s.update(func(tx *bbolt.Tx) error {
		for i := 3; i < 300; i++ {
			if err := tx.Bucket(b.name).Put(fmt.Appendf(nil, "%03d", i), fmt.Appendf(nil, `{"Name":"%d %s"}`, i, strings.Repeat("x", 100))); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	return dir, s.ID()
}

func damage(t *testing.T, path string, how func(raw []byte) []byte) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, how(raw), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestDamagedFileIsMadeAnew: whatever became of the file, what the copy has is there
// again, with the store's ID, and the damaged file is kept.
func TestDamagedFileIsMadeAnew(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]func(raw []byte) []byte{
		"empty":     func([]byte) []byte { return nil },
		"short":     func(raw []byte) []byte { return raw[:5000] },
		"text":      func([]byte) []byte { return []byte("this is no database\n") },
		"zeroes":    func(raw []byte) []byte { clear(raw); return raw },
		"no roots":  func(raw []byte) []byte { clear(raw[:8192]); return raw },
		"version":   func(raw []byte) []byte { raw[20], raw[4096+20] = 9, 9; return raw },
		"garbage":   func(raw []byte) []byte { copy(raw[8192:], bytes.Repeat([]byte{0xA5, 0xC3}, len(raw))); return raw },
		"one page":  func(raw []byte) []byte { clear(raw[bytes.LastIndex(raw, []byte(`"150 x`))&^4095:][:4096]); return raw },
		"free list": freeAll,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, id := filled(t)
			damage(t, file(dir), how)
			was, err := os.ReadFile(file(dir))
			if err != nil {
				t.Fatal(err)
			}
			s := openQuietly(t, dir)
			if n := count(t, s); n != 300 || s.ID() != id {
				t.Errorf("%d of 300 values, ID %s, was %s", n, s.ID(), id)
			}
			r := s.Repaired()
			if r == nil || len(r.Problems) == 0 || r.CopiedAt.IsZero() {
				t.Fatalf("repair %+v", r)
			}
			if kept, err := os.ReadFile(r.Aside); err != nil || !bytes.Equal(kept, was) {
				t.Errorf("the damaged file was not kept as %s: %v", r.Aside, err)
			}
			put(t, things(t, s), 300, 310)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = openQuietly(t, dir)
			defer s.Close()
			if n := count(t, s); n != 310 || s.Repaired() != nil {
				t.Errorf("the second time: %d values, repair %v", n, s.Repaired())
			}
		})
	}
}

// freeAll lists the first page of values as free: bbolt would write over it.
func freeAll(raw []byte) []byte {
	for at := 4096 * 2; at < len(raw); at += 4096 {
		if raw[at+8] == 0x10 { // every list of free pages, the present one among them
			raw[at+10], raw[at+11] = 1, 0
			copy(raw[at+16:], []byte{byte(bytes.LastIndex(raw, []byte(`"150 x`)) / 4096), 0, 0, 0, 0, 0, 0, 0})
		}
	}
	return raw
}

// TestMissingFile is made of the copy; where that is missing too, the ID is asked for.
func TestMissingFile(t *testing.T) {
	t.Parallel()
	dir, id := filled(t)
	if err := os.Remove(file(dir)); err != nil {
		t.Fatal(err)
	}
	s := openQuietly(t, dir)
	if n := count(t, s); n != 300 || s.ID() != id || s.Repaired() == nil || s.Repaired().Aside != "" {
		t.Errorf("%d values, ID %s, was %s; %+v", n, s.ID(), id, s.Repaired())
	}
	if err := errors.Join(s.Close(), os.Remove(file(dir)), os.Remove(copyFile(dir))); err != nil {
		t.Fatal(err)
	}
	s = openQuietly(t, dir, func(o *Options) { o.Identity = func() string { return id } })
	defer s.Close()
	if n := count(t, s); n != 0 || s.ID() != id || s.Repaired() == nil {
		t.Errorf("%d values, ID %s, was %s; %+v", n, s.ID(), id, s.Repaired())
	}
	fresh := openQuietly(t, t.TempDir(), func(o *Options) { o.Identity = func() string { return "" } })
	defer fresh.Close()
	if fresh.Repaired() != nil || len(fresh.ID()) != 12 {
		t.Errorf("a new store: ID %q, %v", fresh.ID(), fresh.Repaired())
	}
}

// TestNewerThanTheCopy: what can be read of a damaged file is newer than the copy, and
// a transaction that is torn costs itself alone.
func TestNewerThanTheCopy(t *testing.T) {
	t.Parallel()
	dir, _ := filled(t)
	s := openQuietly(t, dir, func(o *Options) { o.CopyAfter = time.Hour })
	b := things(t, s)
	put(t, b, 299, 301)
	if err := b.Delete("000"); err != nil {
		t.Fatal(err)
	}
	crashed := t.TempDir() // as a SIGKILL leaves it: there is no copy of the change
	for _, path := range []string{file(dir), copyFile(dir)} {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(crashed, filepath.Base(path)), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	damage(t, file(crashed), func(raw []byte) []byte {
		clear(raw[bytes.LastIndex(raw, []byte(`"150 x`))&^4095:][:4096]) // in both roots' trees
		return raw
	})
	s = openQuietly(t, crashed)
	defer s.Close()
	b = things(t, s)
	if v, err := b.Get("299"); err != nil || v.Name != "299" {
		t.Errorf("a value that could be read is %q, %v: the copy's", v.Name, err)
	}
	if v, err := b.Get("150"); err != nil || !strings.HasPrefix(v.Name, "150 ") {
		t.Errorf("a value that could not be read is %q, %v", v.Name, err)
	}
	if _, err := b.Get("300"); err != nil {
		t.Error(err)
	}
}

// TestUnreadableValue of a sound file: the copy's takes its place; where there is
// none, the value is kept aside and the others are there.
func TestUnreadableValue(t *testing.T) {
	t.Parallel()
	for _, copied := range []bool{true, false} {
		dir, _ := filled(t)
		db, err := bbolt.Open(file(dir), 0o600, nil)
		if err == nil {
			err = errors.Join(db.Update(func(tx *bbolt.Tx) error {
				return tx.Bucket([]byte("things")).Put([]byte("150"), []byte(`{"Name":"15`))
			}), db.Close())
		}
		if !copied {
			err = errors.Join(err, os.Remove(copyFile(dir)))
		}
		if err != nil {
			t.Fatal(err)
		}
		s := openQuietly(t, dir)
		want := map[bool]int{true: 300, false: 299}[copied]
		if n := count(t, s); n != want || s.Repaired() == nil {
			t.Errorf("%d values, want %d; %v", n, want, s.Repaired())
		}
		var aside []byte
		_ = s.db.View(func(tx *bbolt.Tx) error {
			aside = bytes.Clone(tx.Bucket([]byte(damagedBucket)).Get([]byte("things/150")))
			return nil
		})
		if string(aside) != `{"Name":"15` {
			t.Errorf("the damaged value was kept as %q", aside)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openQuietly(t, dir)
		if s.Repaired() != nil || count(t, s) != want {
			t.Errorf("the second time: %v", s.Repaired())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDamagedCopy is not used, and made anew.
func TestDamagedCopy(t *testing.T) {
	t.Parallel()
	dir, id := filled(t)
	damage(t, copyFile(dir), func(raw []byte) []byte { return bytes.Replace(raw, []byte(`"150 x`), []byte(`"151 x`), 1) })
	if _, err := readCopy(dir); err == nil {
		t.Error("a copy whose sum is wrong was read")
	}
	damage(t, file(dir), func(raw []byte) []byte { clear(raw[:8192]); return raw })
	s := openQuietly(t, dir, func(o *Options) { o.Identity = func() string { return id } })
	if s.ID() != id || s.Repaired() == nil || !s.Repaired().CopiedAt.IsZero() {
		t.Errorf("ID %s, was %s; %+v", s.ID(), id, s.Repaired())
	}
	put(t, things(t, s), 0, 5)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if kept, err := readCopy(dir); err != nil || len(kept.values["things"]) != 5 {
		t.Errorf("the next copy has %d values, %v", len(kept.values["things"]), err)
	}
}

// TestCopyFollows a change by itself.
func TestCopyFollows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openQuietly(t, dir, func(o *Options) { o.CopyAfter = time.Millisecond })
	defer s.Close()
	b := things(t, s)
	for i := range 3 {
		put(t, b, i, i+1)
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			kept, err := readCopy(dir)
			if err == nil && len(kept.values["things"]) == i+1 {
				break
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) || time.Now().After(deadline) {
				t.Fatalf("%d values of %d are in the copy, %v", len(kept.values["things"]), i+1, err)
			}
		}
	}
}

// TestRepairCutShort: what a crash leaves of a repair is no hindrance to the next.
func TestRepairCutShort(t *testing.T) {
	t.Parallel()
	dir, id := filled(t)
	damage(t, file(dir), func([]byte) []byte { return []byte("torn") })
	aside := file(dir) + ".damaged-" + time.Now().UTC().Format("20060102T150405")
	if err := errors.Join(os.WriteFile(file(dir)+".new", []byte("half"), 0o600), os.Link(file(dir), aside)); err != nil {
		t.Fatal(err)
	}
	s := openQuietly(t, dir)
	defer s.Close()
	if n := count(t, s); n != 300 || s.ID() != id {
		t.Errorf("%d of 300 values, ID %s, was %s", n, s.ID(), id)
	}
	if kept, err := os.ReadFile(s.Repaired().Aside); err != nil || string(kept) != "torn" {
		t.Errorf("kept aside: %q, %v", kept, err)
	}
}

// TestNewerSchema is refused, and neither repaired nor changed.
func TestNewerSchema(t *testing.T) {
	t.Parallel()
	dir, _ := filled(t)
	db, err := bbolt.Open(file(dir), 0o600, nil)
	if err == nil {
		err = errors.Join(db.Update(func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("meta")).Put([]byte("meta"), []byte(`{"schema":99,"id":"0123456789ab"}`))
		}), db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenWith(dir, Options{Log: quiet}); err == nil || !strings.Contains(err.Error(), "run the newer fairlead") {
		t.Errorf("opened: %v", err)
	}
	if left, _ := filepath.Glob(file(dir) + ".*"); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

// TestLosses are told until their file is removed, each once.
func TestLosses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openQuietly(t, dir)
	for range 2 {
		if err := s.Lose("network back: its record", "two\nlines"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openQuietly(t, dir)
	defer s.Close()
	lines, path := s.Lost()
	if len(lines) != 2 || !strings.HasSuffix(lines[0], "Z network back: its record") || !strings.HasSuffix(lines[1], "two lines") {
		t.Errorf("lost: %q", lines)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if lines, _ := s.Lost(); lines != nil {
		t.Errorf("lost, with the file gone: %q", lines)
	}
}

// FuzzCopy: no copy makes its reader panic.
func FuzzCopy(f *testing.F) {
	f.Add([]byte("{\"fairlead_copy\":1}\n{\"b\":\"x\",\"k\":\"y\",\"v\":{}}\n{\"records\":1,\"sha256\":\"00\"}\n"))
	f.Add([]byte{})
	f.Fuzz(func(_ *testing.T, raw []byte) { _, _ = parseCopy(raw) })
}
