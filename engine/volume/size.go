package volume

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
)

// Size is that of the volume's files together, in bytes, as Docker counts: no
// directories, and a file with several names once.
func (v Volume) Size(ctx context.Context) (int64, error) {
	var total int64
	seen := make(map[[2]uint64]bool)
	err := filepath.WalkDir(v.Path, func(_ string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			return nil // gone since it was listed
		case err != nil:
			return err
		case d.IsDir():
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil //nolint:nilerr // gone since it was listed
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
			inode := [2]uint64{st.Dev, st.Ino}
			if seen[inode] {
				return nil
			}
			seen[inode] = true
		}
		total += info.Size()
		return nil
	})
	return total, err
}
