package e2e

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

type damage struct {
	name string
	do   func(t *testing.T, db, copied string)
}

// storeDamage is what may become of the store's files while no daemon runs.
var storeDamage = []damage{
	{"cut short", func(t *testing.T, db, _ string) {
		rewrite(t, db, func(raw []byte) []byte { return raw[:len(raw)/3] })
	}},
	{"empty", func(t *testing.T, db, _ string) { rewrite(t, db, func([]byte) []byte { return nil }) }},
	{"garbage", func(t *testing.T, db, _ string) { rewrite(t, db, garbage) }},
	{"missing", func(t *testing.T, db, _ string) { remove(t, db) }},
	{"records that cannot be read", func(t *testing.T, db, _ string) { spoil(t, db, []byte(`{"id":"`)) }},
	{"records that are none", func(t *testing.T, db, _ string) { spoil(t, db, []byte(`["a"]`)) }},
	{"missing, and its copy", func(t *testing.T, db, copied string) { remove(t, db, copied) }},
	{"garbage, and so its copy", func(t *testing.T, db, copied string) {
		rewrite(t, db, garbage)
		rewrite(t, copied, func(raw []byte) []byte { return bytes.ReplaceAll(raw, []byte("a"), []byte("b")) })
	}},
}

// garbage is over all pages but the roots, which are what they were.
func garbage(raw []byte) []byte {
	return append(raw[:8192:8192], bytes.Repeat([]byte{0xA5, 0x5A, 0xC3}, (len(raw)-8192)/3)...)
}

func rewrite(t *testing.T, path string, how func(raw []byte) []byte) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, how(raw), 0o600)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

func remove(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// spoil puts something else in the place of every record.
func spoil(t *testing.T, path string, value []byte) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range []string{"containers", "networks"} {
			b := tx.Bucket([]byte(name))
			var keys [][]byte
			err := b.ForEach(func(k, _ []byte) error { keys = append(keys, bytes.Clone(k)); return nil })
			for _, k := range keys {
				err = errors.Join(err, b.Put(k, value))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestFaultStore: whatever became of the store's files while no daemon ran, the next
// one has everything back: what runs goes on with its connections, what does not is
// there, and the check finds nothing.
func TestFaultStore(t *testing.T) {
	t.Parallel()
	c := newCrashing(t, nftables)
	c.Must("network", "create", "--internal", "--label", "colour=blue", "vault")
	c.Must("network", "connect", "vault", "bystander")
	c.Must("create", "--name", "never", "--network", "vault", "-v", "/data", "--restart", "on-failure:7", "demo", "true")
	c.quiet = c.present()
	volume := c.Must("volume", "ls", "-q")
	db, copied := filepath.Join(c.DataRoot, "fairlead.db"), filepath.Join(c.DataRoot, "fairlead.copy")
	networks := c.Must("network", "inspect", "vault", "dual", "bridge")
	poll := startPoll(t, c.outside, "tcp", at(host4, bystanderPort))
	leases := damage{"leases are torn", func(t *testing.T, _, _ string) {
		paths, err := filepath.Glob(filepath.Join(c.ExecRoot, "state", "leases", "*"))
		if err != nil || len(paths) == 0 {
			t.Fatal(paths, err)
		}
		for _, path := range paths {
			rewrite(t, path, func(raw []byte) []byte { return raw[:len(raw)/2] })
		}
	}}
	for _, damage := range append(slices.Clone(storeDamage), leases) {
		c.Kill()
		damage.do(t, db, copied)
		c.recovered(damage.name)
		if got := c.Must("network", "inspect", "vault", "dual", "bridge"); got != networks {
			t.Errorf("%s: the networks are others:\n%s", damage.name, changes(networks, got))
		}
		if got := c.Must("inspect", "--format", "{{.HostConfig.RestartPolicy.MaximumRetryCount}} {{.State.Status}} {{(index .Mounts 0).Name}}", "never"); got != "7 created "+volume {
			t.Errorf("%s: never: %s; want its policy and volume %s", damage.name, got, volume)
		}
		if got := c.Must("volume", "ls", "-q"); got != volume {
			t.Errorf("%s: the volumes are %s, were %s", damage.name, got, volume)
		}
		if info := c.Must("info"); strings.Contains(info, "could not be had back") {
			t.Errorf("%s: something was lost:\n%s", damage.name, info)
		}
		if log := c.LogTail(200); !containsAny(log, "the store was damaged", "could not be read", "cannot be read", "is taken from its copy") {
			t.Errorf("%s: the log says nothing of it:\n%s", damage.name, log)
		}
		c.asQuiet(damage.name)
		c.up(damage.name)
		c.down(damage.name)
	}
	if kept, _ := filepath.Glob(db + ".damaged-*"); len(kept) < 4 {
		t.Errorf("of the damaged files %v were kept", kept)
	}
	poll.whole(t)
	c.Must("rm", "-v", "never")
}
