package network

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/fairlead/fairlead/kernel/link"
)

// idFile keeps the daemon's ID as long as the kernel's objects have it.
func idFile(execRoot string) string { return filepath.Join(execRoot, "state", "daemon_id") }

// keepID writes down the ID, if it is not.
func keepID(execRoot, id string) error {
	if have, err := os.ReadFile(idFile(execRoot)); err == nil && string(have) == id+"\n" {
		return nil
	}
	return os.WriteFile(idFile(execRoot), []byte(id+"\n"), 0o600)
}

// FormerID returns the ID of the daemon that ran by this exec root before, or else of
// the one that made the bridge ("" for none to ask); "" where neither says. It is for a
// store that is damaged and does not know any more: what stands in the kernel is the
// daemon's by it.
func FormerID(execRoot, bridge string) string {
	if raw, err := os.ReadFile(idFile(execRoot)); err == nil {
		if id := strings.TrimSpace(string(raw)); wellFormedID(id) {
			return id
		}
	}
	if bridge == "" {
		return ""
	}
	h, err := link.Open(nil)
	if err != nil {
		return ""
	}
	defer func() { _ = h.Close() }()
	l, err := h.Link(bridge)
	if err != nil {
		return ""
	}
	id, _, _ := strings.Cut(strings.TrimPrefix(l.Alias, "fairlead:"), ":")
	if !strings.HasPrefix(l.Alias, "fairlead:") || !wellFormedID(id) {
		return ""
	}
	return id
}

// wellFormedID says whether it can be a store's: twelve hex digits.
func wellFormedID(id string) bool {
	return len(id) == 12 && strings.Trim(id, "0123456789abcdef") == ""
}
