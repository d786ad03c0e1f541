package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// paxAttribute comes before an extended attribute's name in the records of an
// archive, as star began and GNU tar and bsdtar do.
const paxAttribute = "SCHILY.xattr."

const capability = "security.capability"

// attributes adds the file's extended attributes to the header. A file system that
// has none is no error.
func (p *Packer) attributes(fd int, h *tar.Header) {
	names := []string{capability}
	if p.Whole {
		names = listAttributes(fd)
	}
	for _, name := range names {
		if name != capability && !strings.HasPrefix(name, "user.") {
			continue
		}
		if value, ok := attribute(fd, name); ok {
			if h.PAXRecords == nil {
				h.PAXRecords = make(map[string]string)
			}
			h.PAXRecords[paxAttribute+name] = value
		}
	}
}

func listAttributes(fd int) []string {
	buf := make([]byte, 64<<10) // XATTR_LIST_MAX of linux/limits.h
	n, err := unix.Listxattr(procPath(fd), buf)
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
}

func attribute(fd int, name string) (string, bool) {
	buf := make([]byte, 128)
	n, err := unix.Getxattr(procPath(fd), name, buf)
	if errors.Is(err, unix.ERANGE) {
		buf = make([]byte, 64<<10) // XATTR_SIZE_MAX of linux/limits.h
		n, err = unix.Getxattr(procPath(fd), name, buf)
	}
	if err != nil {
		return "", false
	}
	return string(buf[:n]), true
}

// setAttributes gives the file those of the header that may come from outside.
// Those that the file system keeps to itself are refused; others that Linux does
// not know, as those of other systems, are left out.
func setAttributes(fd int, h *tar.Header) error {
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, paxAttribute)
		switch {
		case !ok:
		case name == capability, strings.HasPrefix(name, "user."):
			err := unix.Setxattr(procPath(fd), name, []byte(value), 0)
			if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
				return fmt.Errorf("set %s of %s: %w", name, h.Name, err)
			}
		case strings.HasPrefix(name, "trusted."):
			return fmt.Errorf("%s has the attribute %s, which is not for archives: %w", h.Name, name, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}
