package volume

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"

	"github.com/fairlead/fairlead/internal/crashpoint"
)

// A volume NAME is the directory NAME with its files in _data, as Docker's, and what
// else is known of it in volume.json. Directories that begin with a dot are volumes
// that were being made or taken away.
const (
	dataDir  = "_data"
	metaFile = "volume.json"
	making   = ".making-"
	removing = ".removing-"
)

// Store keeps the volumes of one directory.
type Store struct {
	root    string
	damaged []Damage

	mu      sync.Mutex
	volumes map[string]*entry
}

type entry struct {
	Volume
	// users are the IDs of the containers that are on record with it.
	users map[string]bool

	// mounting serialises what is mounted at its path; active are the containers
	// it is mounted for.
	mounting sync.Mutex
	active   map[string]bool
}

// Open reads the volumes under root, which is made if it is not there, and removes
// what a crash left half made or half removed. A description that cannot be read is
// kept aside, and its copy taken; Damaged says so.
func Open(root string) (*Store, error) {
	if err := os.MkdirAll(root, 0o711); err != nil {
		return nil, fmt.Errorf("volumes: %w", err)
	}
	list, err := os.ReadDir(root)
	if err != nil {
		return nil, fmt.Errorf("volumes: %w", err)
	}
	s := &Store{root: root, volumes: make(map[string]*entry)}
	for _, d := range list {
		name := d.Name()
		switch {
		case strings.HasPrefix(name, making), strings.HasPrefix(name, removing):
			if err := os.RemoveAll(filepath.Join(root, name)); err != nil {
				return nil, fmt.Errorf("volumes: remove what is left of %s: %w", name, err)
			}
		case d.IsDir() && CheckName(name) == nil:
			e := s.entry(name)
			s.describe(e)
			s.volumes[name] = e
		}
	}
	return s, nil
}

func (s *Store) entry(name string) *entry {
	return &entry{
		Volume: Volume{Name: name, Path: filepath.Join(s.root, name, dataDir)},
		users:  make(map[string]bool), active: make(map[string]bool),
	}
}

// Create makes the volume, or finds the one of that name; made says which. One that
// was made with other options is errdefs.ErrConflict.
func (s *Store) Create(r Request) (v Volume, made bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, made, err := s.create(r, true)
	if err != nil {
		return Volume{}, false, err
	}
	return e.Volume, made, nil
}

// Claim is Create for a container, whose ID keeps the volume from being removed until
// Release.
func (s *Store) Claim(r Request, container string) (v Volume, made bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, made, err := s.create(r, false)
	if err != nil {
		return Volume{}, false, err
	}
	e.users[container] = true
	return e.Volume, made, nil
}

// create is called with the lock held.
func (s *Store) create(r Request, spared bool) (*entry, bool, error) {
	if err := r.Check(); err != nil {
		return nil, false, fmt.Errorf("create %s: %w", r.Name, err)
	}
	if e := s.volumes[r.Name]; e != nil {
		if len(r.Options) > 0 && !maps.Equal(r.Options, e.Options) {
			return nil, false, fmt.Errorf("create %s: the volume is there with other options (%v); "+
				"remove it first, or leave the options out: %w", r.Name, e.Options, errdefs.ErrConflict)
		}
		return e, false, nil
	}
	labels := maps.Clone(r.Labels)
	if r.Name == "" {
		r.Name = newName()
		if labels == nil {
			labels = make(map[string]string)
		}
		labels[LabelAnonymous] = ""
	}
	e := s.entry(r.Name)
	e.Spared = spared
	e.CreatedAt, e.Labels, e.Options = time.Now().UTC(), labels, maps.Clone(r.Options)
	if err := s.write(e.Volume, !r.Quick); err != nil {
		return nil, false, fmt.Errorf("create %s: %w", r.Name, err)
	}
	s.volumes[r.Name] = e
	return e, true, nil
}

// write makes the directory aside and gives it its name last, so that it is there as a
// whole or not at all.
func (s *Store) write(v Volume, durable bool) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	aside := filepath.Join(s.root, making+newName()[:16])
	meta := filepath.Join(aside, metaFile)
	// Containers' users pass through it to their files; none lists it.
	if err = os.Mkdir(aside, 0o711); err == nil {
		err = os.Mkdir(filepath.Join(aside, dataDir), 0o755)
	}
	if err == nil {
		err = os.Chmod(filepath.Join(aside, dataDir), 0o755) // whatever the umask
	}
	if err == nil {
		err = errors.Join(os.WriteFile(meta, raw, 0o600), os.WriteFile(filepath.Join(aside, copyOf), raw, 0o600))
	}
	if err == nil && durable {
		err = errors.Join(syncPath(meta), syncPath(aside))
	}
	if err == nil {
		crashpoint.Here("volume-made")
		err = os.Rename(aside, filepath.Join(s.root, v.Name))
	}
	if err == nil {
		crashpoint.Here("volume-named")
		aside = filepath.Join(s.root, v.Name)
		if durable {
			err = syncPath(s.root)
		}
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(aside))
	}
	return nil
}

// Spare keeps an anonymous volume though its container goes: Sweep leaves it. Others
// stay anyway.
func (s *Store) Spare(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.volumes[name]
	if e == nil || !e.Anonymous() || e.Spared {
		return nil
	}
	v := e.Volume
	v.Spared = true
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := replace(filepath.Join(s.root, name, metaFile), raw, true); err != nil {
		return fmt.Errorf("keep volume %s: %w", name, err)
	}
	e.Spared = true
	_ = replace(filepath.Join(s.root, name, copyOf), raw, false) // the next Open does else
	return nil
}

// Sweep removes the anonymous volumes that no container has and nobody spared: a crash
// cut short the container's creation, or its removal with them.
func (s *Store) Sweep() error {
	var errs []error
	for _, use := range s.List() {
		if use.Anonymous() && !use.Spared && len(use.Containers) == 0 {
			if err := s.Remove(use.Name); err != nil && !errdefs.IsNotFound(err) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Get finds a volume by its name; errdefs.ErrNotFound is in Docker's words.
func (s *Store) Get(name string) (Volume, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.find(name)
	if err != nil {
		return Volume{}, err
	}
	return e.Volume, nil
}

func (s *Store) find(name string) (*entry, error) {
	if e := s.volumes[name]; e != nil {
		return e, nil
	}
	return nil, fmt.Errorf("get %s: no such volume: %w", name, errdefs.ErrNotFound)
}

// Use is a volume with the containers that have it.
type Use struct {
	Volume
	Containers []string
}

// List returns every volume, by name.
func (s *Store) List() []Use {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Use, 0, len(s.volumes))
	for _, name := range slices.Sorted(maps.Keys(s.volumes)) {
		e := s.volumes[name]
		out = append(out, Use{e.Volume, slices.Sorted(maps.Keys(e.users))})
	}
	return out
}

// Keep notes that a container on record has the volume. One that is gone is made
// again, empty: the record was written, and the volume lost with the machine's power.
func (s *Store) Keep(name, container string) error {
	_, _, err := s.Claim(Request{Name: name}, container)
	return err
}

// Release undoes Claim; a volume that is gone is no error.
func (s *Store) Release(name, container string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.volumes[name]; e != nil {
		delete(e.users, container)
	}
}

// Remove takes the volume away with its files. One that containers have is
// errdefs.ErrConflict.
func (s *Store) Remove(name string) error {
	finish, err := s.Discard(name)
	if err != nil {
		return err
	}
	return finish()
}

// Discard makes the volume be no more for anybody; finish removes its files, which may
// take long. After a crash the next Open does.
func (s *Store) Discard(name string) (finish func() error, err error) {
	s.mu.Lock()
	e, err := s.find(name)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	aside := filepath.Join(s.root, removing+newName()[:16])
	if err := s.setAside(e, aside); err != nil {
		return nil, fmt.Errorf("remove %s: %w", name, err)
	}
	crashpoint.Here("volume-discarded")
	return func() error {
		if err := os.RemoveAll(aside); err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
		return nil
	}, nil
}

// setAside makes the volume be no more, by one rename.
func (s *Store) setAside(e *entry, aside string) error {
	e.mounting.Lock()
	defer e.mounting.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.volumes[e.Name] != e:
		return fmt.Errorf("no such volume: %w", errdefs.ErrNotFound) // removed meanwhile
	case len(e.users) > 0:
		return fmt.Errorf("volume is in use - [%s]: %w", strings.Join(slices.Sorted(maps.Keys(e.users)), ", "), errdefs.ErrConflict)
	}
	if err := e.unmountUnused(); err != nil {
		return err
	}
	dir := filepath.Join(s.root, e.Name)
	// What is mounted in there is not the volume's, and would be emptied with it.
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	switch {
	case err != nil:
		return err
	case len(mounts) > 0:
		return fmt.Errorf("something is mounted at %s; unmount it first: %w", mounts[0].Mountpoint, errdefs.ErrConflict)
	}
	if err := os.Rename(dir, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	delete(s.volumes, e.Name)
	return nil
}
