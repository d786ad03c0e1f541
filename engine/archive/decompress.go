package archive

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// compressions are known by their first bytes.
var compressions = []struct {
	magic string
	open  func(io.Reader) (io.ReadCloser, error)
}{
	{"\x1f\x8b", func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }},
	{"BZh", func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(bzip2.NewReader(r)), nil }},
	{"\xfd7zXZ\x00", func(r io.Reader) (io.ReadCloser, error) {
		x, err := xz.NewReader(r)
		return io.NopCloser(x), err
	}},
	{"\x28\xb5\x2f\xfd", func(r io.Reader) (io.ReadCloser, error) {
		// One decoder goroutine, and no window beyond what archives have.
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}},
}

// maxWindow bounds the memory that a zstd archive may ask for, in bytes; it is the
// most that the zstd command uses without --ultra.
const maxWindow = 128 << 20

// decompress returns the archive as it was before it was compressed.
func decompress(in io.Reader) (io.ReadCloser, error) {
	r := bufio.NewReaderSize(in, bufferSize)
	head, err := r.Peek(6)
	if len(head) == 0 && err != nil && err != io.EOF {
		return nil, err
	}
	for _, c := range compressions {
		if bytes.HasPrefix(head, []byte(c.magic)) {
			out, err := c.open(r)
			if err != nil {
				return nil, fmt.Errorf("decompress the archive: %w", badArchive(err))
			}
			return out, nil
		}
	}
	return io.NopCloser(r), nil
}
