package store

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// losses are what could not be had back of a damaged store, in a file that people may
// read, and remove when they have.
type losses struct {
	path string
	mu   sync.Mutex
}

// Lose notes what is lost, a line each; one that is there already is not noted again.
// Lost has them from then on, in every daemon, until somebody removes the file.
func (s *Store) Lose(lines ...string) error {
	s.losses.mu.Lock()
	defer s.losses.mu.Unlock()
	have := s.losses.read()
	var text strings.Builder
	for _, line := range lines {
		line = strings.ReplaceAll(line, "\n", " ")
		if !slices.ContainsFunc(have, func(h string) bool { return strings.HasSuffix(h, " "+line) }) {
			s.log.Error("lost: " + line)
			fmt.Fprintf(&text, "%s %s\n", time.Now().UTC().Format(time.RFC3339), line)
		}
	}
	if text.Len() == 0 {
		return nil
	}
	f, err := os.OpenFile(s.losses.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text.String())
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// Lost returns what Lose has noted, with its time, and the file that says so.
func (s *Store) Lost() (lines []string, path string) {
	s.losses.mu.Lock()
	defer s.losses.mu.Unlock()
	return s.losses.read(), s.losses.path
}

func (l *losses) read() []string {
	raw, err := os.ReadFile(l.path)
	if err != nil {
		return nil
	}
	return strings.FieldsFunc(string(raw), func(r rune) bool { return r == '\n' })
}
