package engine

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// uuid is how an identity looks: RFC 9562, in lower case.
var uuid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// IdentityFile is the file's name, in a data root that an engine has used.
const IdentityFile = "engine-id"

// identity is what tells this data root from all others, for as long as it lasts: a
// random UUID in the file engine-id, made when there is none, or none that can be
// read.
func identity(dataRoot string) (string, error) {
	path := filepath.Join(dataRoot, IdentityFile)
	text, err := os.ReadFile(path)
	if id := strings.TrimSpace(string(text)); err == nil && uuid.MatchString(id) {
		return id, nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the engine's identity: %w", err)
	}
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	id := fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	// The file is whole or not there: the daemon may be killed at any time.
	draft := path + ".new"
	if err := os.WriteFile(draft, []byte(id+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep the engine's identity: %w", err)
	}
	if err := os.Rename(draft, path); err != nil {
		return "", fmt.Errorf("keep the engine's identity: %w", err)
	}
	return id, nil
}
