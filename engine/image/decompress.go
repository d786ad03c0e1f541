package image

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
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
// What goes wrong in reading it is errdefs.ErrInvalidArgument.
func decompress(r io.Reader) (io.ReadCloser, error) {
	in := bufio.NewReader(r)
	head, err := in.Peek(len(magicXZ))
	if err != nil && len(head) == 0 {
		return io.NopCloser(in), nil // empty: the reader of it says so
	}
	var plain io.Reader
	end := func() error { return nil }
	switch {
	case bytes.HasPrefix(head, magicXZ):
		plain, err = xz.NewReader(in)
	case bytes.HasPrefix(head, magicBzip2):
		plain, err = bzip2.NewReader(in), nil
	default:
		var stream compression.DecompressReadCloser
		if stream, err = compression.DecompressStream(in); err == nil {
			plain, end = stream, stream.Close
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the archive: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return &archiveReader{plain, end}, nil
}

// archiveReader says of what cannot be read that the archive is to blame.
type archiveReader struct {
	r   io.Reader
	end func() error
}

func (a *archiveReader) Read(p []byte) (int, error) {
	n, err := a.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("read the archive: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return n, err
}

func (a *archiveReader) Close() error { return a.end() }
