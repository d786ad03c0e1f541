package volume

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// TestDamagedDescription is kept aside; labels and options are those of its copy, and
// where that is damaged as well, it is said that they are lost. The files stay.
func TestDamagedDescription(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]func(path string) error{
		"torn":    func(p string) error { return os.Truncate(p, 9) },
		"empty":   func(p string) error { return os.Truncate(p, 0) },
		"nothing": func(p string) error { return os.WriteFile(p, []byte("{}"), 0o600) },
		"null":    func(p string) error { return os.WriteFile(p, []byte("null"), 0o600) },
		"missing": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			labels, options := map[string]string{"a": "b"}, map[string]string{"type": "tmpfs", "device": "tmpfs"}
			s := open(t, root)
			v, _, err := s.Create(Request{Name: "data", Labels: labels, Options: options})
			if err != nil {
				t.Fatal(err)
			}
			meta := filepath.Join(root, "data", metaFile)
			spoil := func(paths ...string) {
				t.Helper()
				for _, path := range paths {
					if err := how(path); err != nil {
						t.Fatal(err)
					}
				}
			}
			keep := filepath.Join(v.Path, "file")
			if err := os.WriteFile(keep, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			spoil(meta)
			for i := range 2 {
				s = open(t, root)
				got, err := s.Get("data")
				if err != nil || !maps.Equal(got.Labels, labels) || !maps.Equal(got.Options, options) || !got.CreatedAt.Equal(v.CreatedAt) {
					t.Fatalf("volume %+v, %v", got, err)
				}
				if d := s.Damaged(); len(d) != 1-i || i == 0 && !d[0].Restored {
					t.Errorf("opened %d times: damaged %+v", i+1, d)
				}
			}
			spoil(meta+".copy", meta)
			s = open(t, root)
			got, err := s.Get("data")
			if err != nil || len(got.Labels)+len(got.Options) > 0 || got.CreatedAt.IsZero() {
				t.Errorf("without a copy: volume %+v, %v", got, err)
			}
			if d := s.Damaged(); name != "missing" && (len(d) != 1 || d[0].Restored || !exists(d[0].Aside)) {
				t.Errorf("without a copy: damaged %+v", d)
			}
			if !exists(keep) {
				t.Error("its files are gone")
			}
		})
	}
}

// TestCopyFollowsADescription: of one that an older version made, and of one that is
// spared.
func TestCopyFollowsADescription(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root)
	v, _, err := s.Claim(Request{}, "c")
	if err != nil {
		t.Fatal(err)
	}
	meta := filepath.Join(root, v.Name, metaFile)
	if err := s.Spare(v.Name); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := os.Remove(meta); err != nil {
			t.Fatal(err)
		}
		s = open(t, root)
		if got, err := s.Get(v.Name); err != nil || !got.Spared || !got.Anonymous() {
			t.Errorf("volume %+v, %v", got, err)
		}
		if err := os.Remove(meta + ".copy"); err != nil {
			t.Fatal(err)
		}
		open(t, root) // which copies it
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
