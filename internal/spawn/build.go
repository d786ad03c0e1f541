package spawn

import (
	"debug/elf"
	"fmt"
	"os"
	"sync"
)

// BuildID identifies this executable: the build ID the Go linker writes, which
// changes with every byte of code or data.
var BuildID = sync.OnceValue(func() string {
	if id, err := noteBuildID("/proc/self/exe"); err == nil {
		return id
	}
	// Without the note (a packer removed it), the file's size and time do.
	fi, err := os.Stat("/proc/self/exe")
	if err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%d-%d", fi.Size(), fi.ModTime().UnixNano())
})

// noteBuildID reads the section .note.go.buildid: three 32-bit words (sizes of
// name and description, type), the name "Go\0\0", the description.
func noteBuildID(path string) (string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	s := f.Section(".note.go.buildid")
	if s == nil {
		return "", fmt.Errorf("%s has no Go build ID", path)
	}
	b, err := s.Data()
	if err != nil {
		return "", err
	}
	const header = 16
	if len(b) < header {
		return "", fmt.Errorf("%s has a Go build ID of %d bytes", path, len(b))
	}
	n := f.ByteOrder.Uint32(b[4:])
	if uint64(header)+uint64(n) > uint64(len(b)) {
		return "", fmt.Errorf("%s has a Go build ID longer than its section", path)
	}
	return string(b[header : header+n]), nil
}
