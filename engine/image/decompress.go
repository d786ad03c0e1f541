package image

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/errdefs"
	"github.com/ulikunitz/xz"
)

// Beginnings of the formats that containerd's library does not read.
var (
	magicXZ    = []byte("\xfd7zXZ\x00")
	magicBzip2 = []byte("BZh")
)

// decompress reads an archive that is compressed by gzip, zstd, xz, bzip2, or not.
func decompress(r io.Reader) (io.ReadCloser, error) {
	in := bufio.NewReader(r)
	head, err := in.Peek(len(magicXZ))
	if err != nil && len(head) == 0 {
		return io.NopCloser(in), nil // empty: the reader of it says so
	}
	switch {
	case bytes.HasPrefix(head, magicXZ):
		plain, err := xz.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("read the archive: %w: %w", err, errdefs.ErrInvalidArgument)
		}
		return io.NopCloser(plain), nil
	case bytes.HasPrefix(head, magicBzip2):
		return io.NopCloser(bzip2.NewReader(in)), nil
	}
	plain, err := compression.DecompressStream(in)
	if err != nil {
		return nil, fmt.Errorf("read the archive: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return plain, nil
}
