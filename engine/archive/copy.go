package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/panics"
)

// Copy copies what is in one directory into another, with owners, modes, times and
// attributes, and at last those of the directory itself. Nobody changes what is copied.
// Others may change what it is copied to meanwhile, as a container may that has it
// mounted: nothing outside of it is written, whatever links they make there.
func Copy(ctx context.Context, to, from *os.File) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := packInto(ctx, w, from)
		w.CloseWithError(err)
		packed <- err
	}()
	x := &extractor{root: &Root{dir: to}, dir: "/", buf: make([]byte, bufferSize)}
	defer x.leave()
	err := x.all(tar.NewReader(r))
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	r.CloseWithError(err)
	// Each of the two sees the other's error: the first is the one that says why.
	if packErr := <-packed; packErr != nil && !errors.Is(packErr, err) {
		return packErr
	}
	if err != nil {
		return err
	}
	return copyOwn(to, from)
}

func packInto(ctx context.Context, w io.Writer, from *os.File) (err error) {
	defer panics.Catch(&err)
	return Write(ctx, w, func(p *Packer) error {
		p.Whole = true
		return p.Root(&Root{dir: from})
	})
}

// copyOwn gives a directory what the other has of its own.
func copyOwn(to, from *os.File) error {
	p := &Packer{Whole: true, seen: make(map[inode]string)}
	h, err := p.header(int(from.Fd()), ".")
	if err != nil {
		return err
	}
	fd, err := unix.Openat(int(to.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", to.Name(), err)
	}
	defer unix.Close(fd)
	return (&extractor{}).finish(fd, h)
}
