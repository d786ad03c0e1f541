package image

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
)

// chunks notes how many bytes are written at once.
type chunks struct {
	bytes.Buffer
	sizes []int
}

func (c *chunks) Write(b []byte) (int, error) {
	c.sizes = append(c.sizes, len(b))
	return c.Buffer.Write(b)
}

// TestPack: a layer is stored in few large writings, for each is a question to
// containerd, and its two digests are those of what is stored and of what was given.
func TestPack(t *testing.T) {
	plain := make([]byte, 3<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(plain) // never fails
	var stored chunks
	l, err := pack(&stored, bytes.NewReader(plain))
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range stored.sizes {
		if last := i == len(stored.sizes)-1; n < storeChunk && !last {
			t.Errorf("writing %d of %d has %d bytes; want %d at least", i, len(stored.sizes), n, storeChunk)
		}
	}
	if want := digest.FromBytes(stored.Bytes()); l.Digest != want || l.Size != int64(stored.Len()) {
		t.Errorf("%s of %d bytes; want %s of %d", l.Digest, l.Size, want, stored.Len())
	}
	if want := digest.FromBytes(plain); l.diff != want {
		t.Errorf("it unpacks to %s; want %s", l.diff, want)
	}
	z, err := gzip.NewReader(&stored)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%d bytes are unpacked, %v; want what was packed", len(got), err)
	}
	if _, err := pack(io.Discard, bytes.NewReader(nil)); err == nil {
		t.Error("an empty archive is taken")
	}
}
