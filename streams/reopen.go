package streams

import (
	"fmt"
	"os"
	"reflect"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/streams/jsonlog"
)

// readsWhatIsThere says whether the FIFOs that are read are those at their paths: they
// may have been removed, and others been made for another run.
func (s *stream) readsWhatIsThere() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	paths := map[string]string{jsonlog.Stdout: s.spec.Stdout, jsonlog.Stderr: s.spec.Stderr}
	return !slices.ContainsFunc(s.outputs, func(o *output) bool {
		read, err := o.file.Stat()
		there, err2 := os.Stat(paths[o.name])
		return err == nil && (err2 != nil || !os.SameFile(read, there)) // else it is ending
	})
}

// reopen checks a second Open of what is open: nothing to do, or a conflict.
func (s *stream) reopen(spec Spec) error {
	// What is logged how was settled when it was opened; a name, which may be part
	// of it, may have changed since.
	spec.Logging, spec.Spool, spec.Started = s.spec.Logging, s.spec.Spool, s.spec.Started
	if !reflect.DeepEqual(s.spec, spec) {
		return fmt.Errorf("streams of %s are open with other paths, close them first: %w", s.id, errdefs.ErrConflict)
	}
	return nil
}
