package volume

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
)

// copyOf is where the second copy of a volume's description is, beside the first.
const copyOf = metaFile + ".copy"

// Damage is a volume whose description could not be read.
type Damage struct {
	Volume string
	// Cause says what is wrong with the description.
	Cause error
	// Aside is where it is kept; "" where it is missing.
	Aside string
	// Restored says that labels and options are those of its copy; they are lost
	// otherwise.
	Restored bool
}

// Damaged returns what Open has found damaged.
func (s *Store) Damaged() []Damage { return s.damaged }

// describe reads what is known of the volume: of its description, or of the copy of it.
// One that has neither is somebody's directory, without labels and options.
func (s *Store) describe(e *entry) {
	dir := filepath.Join(s.root, e.Name)
	v, raw, err := readDescription(filepath.Join(dir, metaFile))
	if err == nil {
		e.take(v)
		if _, copied, err := readDescription(filepath.Join(dir, copyOf)); err != nil || string(copied) != string(raw) {
			_ = replace(filepath.Join(dir, copyOf), raw, false) // on a full disk the volume is as good without
		}
		return
	}
	missing := errors.Is(err, fs.ErrNotExist)
	kept, raw, copyErr := readDescription(filepath.Join(dir, copyOf))
	if missing && copyErr != nil {
		e.born()
		return
	}
	d := Damage{Volume: e.Name, Cause: err, Restored: copyErr == nil}
	if !missing {
		d.Aside = filepath.Join(dir, metaFile+".damaged-"+time.Now().UTC().Format("20060102T150405"))
		if err := os.Rename(filepath.Join(dir, metaFile), d.Aside); err != nil {
			d.Cause, d.Aside = errors.Join(d.Cause, err), ""
		}
	}
	s.damaged = append(s.damaged, d)
	if copyErr != nil {
		e.born()
		return
	}
	e.take(kept)
	_ = replace(filepath.Join(dir, metaFile), raw, true) // the next Open does else
}

func (e *entry) take(v Volume) {
	e.CreatedAt, e.Labels, e.Options, e.Spared = v.CreatedAt, v.Labels, v.Options, v.Spared
}

// born has the volume be as old as its directory.
func (e *entry) born() {
	if info, err := os.Stat(e.Path); err == nil {
		e.CreatedAt = info.ModTime()
	}
}

func readDescription(path string) (v Volume, raw []byte, err error) {
	raw, err = os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, &v)
	}
	if err == nil && v.CreatedAt.IsZero() {
		err = fmt.Errorf("%s describes no volume: %w", path, errdefs.ErrInvalidArgument)
	}
	return v, raw, err
}

// replace puts a file into the place of another, whole.
func replace(path string, raw []byte, durable bool) error {
	err := os.WriteFile(path+".new", raw, 0o600)
	if err == nil && durable {
		err = syncPath(path + ".new")
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		_ = os.Remove(path + ".new") // what a full disk took of it
	}
	return err
}
