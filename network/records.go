package network

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/store"
)

// networkRecords are the networks in the store, and beside each, as long as the
// kernel has it, a copy under EXEC_ROOT: should the store be damaged, what stands is
// known all the same.
type networkRecords struct {
	store  *store.Store
	bucket *store.Bucket[spec.Network]
	dir    string
	log    *slog.Logger
}

func openNetworkRecords(s *store.Store, execRoot string, log *slog.Logger) (*networkRecords, error) {
	b, err := store.NewBucket[spec.Network](s, "networks")
	return &networkRecords{s, b, filepath.Join(execRoot, "state", "networks"), log}, err
}

// Put stores the network; it is on disk when Put returns. One that is stored like this
// already is let be.
func (r *networkRecords) Put(id string, n spec.Network) error {
	have, err := r.bucket.Get(id)
	if err != nil || !sameNetwork(have, n) {
		if err := r.bucket.Put(id, n); err != nil {
			return err
		}
	}
	if err := r.note(n); err != nil {
		r.log.Warn("a network has no copy of its record under the exec root", "operation", "restore", "network", n.Name, "err", err)
	}
	return nil
}

// Delete removes the network; one that is not there is no error.
func (r *networkRecords) Delete(id string) error {
	if err := r.bucket.Delete(id); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(r.dir, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Get returns the network, or an error wrapping errdefs.ErrNotFound.
func (r *networkRecords) Get(id string) (spec.Network, error) { return r.bucket.Get(id) }

// All returns every network. What the store has lost is taken from the copies, and
// what is lost there too is told to the store's losses.
func (r *networkRecords) All() ([]spec.Network, error) {
	var nets []spec.Network
	var bad []string
	err := r.bucket.ForEach(func(id string, n spec.Network, err error) error {
		if err == nil && n.ID == id && n.Bridge != "" {
			nets = append(nets, n)
		} else {
			bad = append(bad, id)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	noted, complete := r.noted()
	switch {
	case r.store.Repaired() != nil && complete:
		nets, err = r.restoreAll(nets, noted)
	case len(bad) > 0:
		nets, err = r.restoreSome(nets, bad, noted)
	}
	if err != nil {
		return nil, err
	}
	return nets, r.sync(nets, noted, complete)
}

// restoreAll makes the store have what the copies have, and nothing else.
func (r *networkRecords) restoreAll(have []spec.Network, noted map[string]spec.Network) ([]spec.Network, error) {
	for _, n := range have {
		if _, stands := noted[n.ID]; !stands {
			r.log.Warn("a network of the repaired store had been removed, and is dropped", "network", n.Name)
			if err := r.bucket.Delete(n.ID); err != nil {
				return nil, err
			}
		}
	}
	out := make([]spec.Network, 0, len(noted))
	for id, n := range noted {
		if was, err := r.bucket.Get(id); err != nil || !sameNetwork(was, n) {
			r.log.Warn("a network is taken from its copy under the exec root", "network", n.Name)
			if err := r.bucket.Put(id, n); err != nil {
				return nil, err
			}
		}
		out = append(out, n)
	}
	return out, nil
}

// restoreSome replaces records that are no network's.
func (r *networkRecords) restoreSome(nets []spec.Network, bad []string, noted map[string]spec.Network) ([]spec.Network, error) {
	for _, id := range bad {
		n, ok := noted[id]
		if !ok {
			if err := r.store.Lose(fmt.Sprintf("network %s: its record cannot be read", id)); err != nil {
				r.log.Error("a loss was not noted", "operation", "restore", "err", err)
			}
			if err := r.bucket.Delete(id); err != nil {
				return nil, err
			}
			continue
		}
		r.log.Warn("a network's record cannot be read and is taken from its copy under the exec root", "network", n.Name)
		if err := r.bucket.Put(id, n); err != nil {
			return nil, err
		}
		nets = append(nets, n)
	}
	return nets, nil
}

// sync has a copy of each network, and of no other.
func (r *networkRecords) sync(nets []spec.Network, noted map[string]spec.Network, complete bool) error {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	for _, n := range nets {
		if was, ok := noted[n.ID]; !ok || !sameNetwork(was, n) {
			if err := r.note(n); err != nil {
				return err
			}
		}
		delete(noted, n.ID)
	}
	for id := range noted {
		if err := os.Remove(filepath.Join(r.dir, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if complete {
		return nil
	}
	return os.WriteFile(filepath.Join(r.dir, completeMark), nil, 0o600)
}

// sameNetwork compares what is stored of them.
func sameNetwork(a, b spec.Network) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

// completeMark is in the directory once every network has a copy there.
const completeMark = ".complete"

// noted reads the copies; complete says that there is one of every network.
func (r *networkRecords) noted() (nets map[string]spec.Network, complete bool) {
	nets = make(map[string]spec.Network)
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nets, false
	}
	complete = true
	marked := false
	for _, e := range entries {
		name := e.Name()
		if name == completeMark {
			marked = true
		}
		if strings.HasPrefix(name, ".") {
			continue
		}
		var n spec.Network
		raw, err := os.ReadFile(filepath.Join(r.dir, name))
		if err == nil {
			err = json.Unmarshal(raw, &n)
		}
		if err != nil || n.ID != name || n.Bridge == "" {
			complete = false
			continue
		}
		nets[name] = n
	}
	return nets, complete && marked
}

func (r *networkRecords) note(n spec.Network) error {
	raw, err := json.Marshal(n)
	if err != nil {
		return err
	}
	path, draft := filepath.Join(r.dir, n.ID), filepath.Join(r.dir, ".draft-"+n.ID)
	if err := os.WriteFile(draft, raw, 0o600); err != nil {
		_ = os.Remove(draft) // what a full disk took of it
		return err
	}
	return os.Rename(draft, path)
}
