package boltfile

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

// sample is a file of three buckets: one of a few pages with branches, one whose leaf
// is inline, one with values over several pages.
func sample(tb testing.TB) []byte {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "sample.db")
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		tb.Fatal(err)
	}
	put := func(bucket, key, value string) {
		tb.Helper()
		err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte(bucket))
			if err != nil {
				return err
			}
			return b.Put([]byte(key), []byte(value))
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	for i := range 200 {
		put("many", fmt.Sprintf("%04d", i), fmt.Sprintf(`{"number":%d,"text":%q}`, i, strings.Repeat("x", 60)))
	}
	put("meta", "meta", `{"schema":1,"id":"0123456789ab"}`)
	for i := range 3 {
		put("large", fmt.Sprint(i), `"`+strings.Repeat("y", 9000)+`"`)
	}
	if err := db.Close(); err != nil {
		tb.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// opens says whether bbolt itself reads every value of the file without complaint.
func opens(t *testing.T, raw []byte) Contents {
	t.Helper()
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	c := Contents{Buckets: make(map[string]map[string][]byte)}
	err = db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Error(err)
		}
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			values := make(map[string][]byte)
			c.Buckets[string(name)] = values
			return b.ForEach(func(k, v []byte) error { values[string(k)] = bytes.Clone(v); return nil })
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func same(a, b Contents) bool {
	return maps.EqualFunc(a.Buckets, b.Buckets, func(x, y map[string][]byte) bool { return maps.EqualFunc(x, y, bytes.Equal) })
}

// TestReadsWhatBboltReads: of a sound file.
func TestReadsWhatBboltReads(t *testing.T) {
	t.Parallel()
	raw := sample(t)
	got, err := Read(raw)
	if err != nil || len(got.Problems) > 0 || got.Before != nil {
		t.Fatalf("%v, %v", got.Problems, err)
	}
	if want := opens(t, raw); !same(got, want) || len(got.Buckets["many"]) != 200 {
		t.Errorf("read %d buckets, not what bbolt reads", len(got.Buckets))
	}
}

// TestDamageIsSeen: whatever is done to a page that is in use.
func TestDamageIsSeen(t *testing.T) {
	t.Parallel()
	raw := sample(t)
	metas, _ := readMetas(raw)
	r := &reader{raw: raw, meta: metas[0], used: map[uint64]bool{}, out: Contents{Buckets: map[string]map[string][]byte{}}}
	var pages []uint64
	r.page(metas[0].root, 0, func(name, value []byte, _ bool) { r.bucket(string(name), value) })
	pages = slices.Sorted(maps.Keys(r.used))
	if len(pages) < 8 {
		t.Fatalf("the sample has %d pages in use", len(pages))
	}
	for _, id := range append(pages, metas[0].freelist) {
		at := id * metas[0].pageSize
		for name, damage := range map[string]func(page []byte){
			"zeroes":       func(p []byte) { clear(p) },
			"garbage":      func(p []byte) { copy(p, bytes.Repeat([]byte{0xA5, 0x5A, 0xFF}, len(p))) },
			"another page": func(p []byte) { copy(p, raw[metas[0].root*metas[0].pageSize:][:len(p)]) },
		} {
			if name == "another page" && id == metas[0].root {
				continue
			}
			broken := bytes.Clone(raw)
			damage(broken[at : at+metas[0].pageSize])
			got, err := Read(broken)
			if id != metas[0].freelist && r.overflows(id) {
				continue // the inside of a long value, which has no checksum
			}
			if err == nil && len(got.Problems) == 0 {
				t.Errorf("page %d with %s: no problem", id, name)
			}
		}
	}
	for _, n := range []int{0, 1, 100, 4096, 8192, int(metas[0].high*metas[0].pageSize) - 1} {
		if got, err := Read(raw[:n]); err == nil && len(got.Problems) == 0 {
			t.Errorf("cut to %d bytes: no problem", n)
		}
	}
}

// overflows says that the page is the second or a later one of a long value.
func (r *reader) overflows(id uint64) bool {
	return r.used[id] && (r.raw[id*r.meta.pageSize] != byte(id) || r.raw[id*r.meta.pageSize+8]&0x13 == 0)
}

// TestTornCommit: the last transaction's pages never reached the disk and its root
// did; what was before it is there, whole.
func TestTornCommit(t *testing.T) {
	t.Parallel()
	raw := sample(t)
	metas, _ := readMetas(raw)
	want := read(raw, metas[1])
	if len(want.Problems) > 0 {
		t.Fatal(want.Problems)
	}
	torn := bytes.Clone(raw)
	clear(torn[metas[0].root*metas[0].pageSize:][:metas[0].pageSize])
	got, err := Read(torn)
	if err != nil || len(got.Problems) == 0 || !same(Contents{Buckets: got.Before}, want) {
		t.Errorf("before %v, problems %v, %v", got.Before != nil, got.Problems, err)
	}
	// A torn root is what any crash may leave: nothing is wrong.
	half := bytes.Clone(raw)
	clear(half[int(metas[0].txid%2)*4096+16:][:40])
	if got, err := Read(half); err != nil || len(got.Problems) > 0 || !same(got, want) {
		t.Errorf("with one root: %v, %v", got.Problems, err)
	}
}

// TestSalvage: of a file with a broken leaf the other leaves are read.
func TestSalvage(t *testing.T) {
	t.Parallel()
	raw := sample(t)
	i := bytes.LastIndex(raw, []byte(`{"number":42,`))
	clear(raw[i&^4095:][:4096])
	got, err := Read(raw)
	if err != nil || len(got.Problems) == 0 {
		t.Fatal(got.Problems, err)
	}
	if n := len(got.Buckets["many"]); n < 100 || n == 200 || len(got.Buckets["large"]) != 3 {
		t.Errorf("%d of 200 values were read", n)
	}
}

// TestNoiseIsBounded: whatever the bytes are, Read ends and says nothing that is not
// there.
func TestNoiseIsBounded(t *testing.T) {
	t.Parallel()
	raw := sample(t)
	random := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		broken := bytes.Clone(raw)
		for range 1 + random.IntN(8) {
			broken[random.IntN(len(broken))] = byte(random.Uint32())
		}
		_, _ = Read(broken)
	}
}

// FuzzRead: no file makes Read panic or run on.
func FuzzRead(f *testing.F) {
	raw := sample(f)
	f.Add(raw)
	f.Add(raw[:8192])
	f.Add([]byte{})
	f.Fuzz(func(_ *testing.T, raw []byte) { _, _ = Read(raw) })
}
