package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestImport: an image is made of a root file system, from a file or standard input,
// plain or compressed, with what --change says.
func TestImport(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	file := filepath.Join(s.lab.Dir("images"), "rootfs.tar.gz")
	if err := os.WriteFile(file, compressed(t, rootfs()), 0o600); err != nil {
		t.Fatal(err)
	}
	id := s.Must("import", "--change", `CMD ["echo","from a file"]`, "--change", "LABEL made=here", file, "other:1")
	if !strings.HasPrefix(id, "sha256:") || len(id) != 71 {
		t.Errorf("ID %q", id)
	}
	if got := s.Must("run", "--rm", "other:1"); got != "from a file" {
		t.Errorf("it says %q", got)
	}
	if got := s.Must("run", "--rm", id[7:19]); got != "from a file" {
		t.Errorf("by ID it says %q", got)
	}
	contains(t, "images", s.Must("images"), "demo", "latest", "other", id[7:19])
	if got := s.Must("images", "-q", "--no-trunc", "other:1"); got != id {
		t.Errorf("images -q: %q", got)
	}
	image := decode[[]struct {
		ID       string `json:"Id"`
		RepoTags []string
		Config   struct {
			Cmd    []string
			Labels map[string]string
		}
	}](t, s.Must("image", "inspect", "other:1"))[0]
	if image.ID != id || image.Config.Labels["made"] != "here" || strings.Join(image.Config.Cmd, " ") != "echo from a file" || image.RepoTags[0] != "other:1" {
		t.Errorf("inspect: %+v", image)
	}
	s.Must("tag", "other:1", "third")
	s.Must("rmi", "other:1")
	if got := s.Must("run", "--rm", "third"); got != "from a file" {
		t.Errorf("by its second name it says %q", got)
	}
	s.Must("rmi", "third")
	if _, stderr, code := s.CLI("run", "--rm", "--pull", "never", "third"); code != 125 || !strings.Contains(stderr, "No such image: third") {
		t.Errorf("run of what was removed: exit code %d, %s", code, stderr)
	}
	for what, in := range map[string][]byte{
		"no archive":     []byte("this is no archive at all, though it has some length"),
		"half a file":    compressed(t, rootfs())[:100000],
		"a bad --change": nil,
	} {
		args := []string{"import", "-", "bad"}
		if in == nil {
			in, args = rootfs(), []string{"import", "--change", "NONSENSE x", "-", "bad"}
		}
		if r := s.input(in, args...); r.Code == 0 || !strings.HasPrefix(r.Stderr, "fairlead: ") {
			t.Errorf("%s: exit code %d, %q", what, r.Code, r.Stderr)
		}
	}
	if got := s.Must("images", "-aq"); strings.Count(got, "\n") != 0 {
		t.Errorf("images left: %q", got)
	}
	s.consistent()
}

func compressed(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestLoad: an archive that docker save wrote is loaded, with its names; a second
// layer hides and removes what the first has.
func TestLoad(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	file := filepath.Join(s.lab.Dir("images"), "saved.tar")
	if err := os.WriteFile(file, dockerArchive(t, "saved:2"), 0o600); err != nil {
		t.Fatal(err)
	}
	contains(t, "load", s.Must("load", "-i", file), "saved:2")
	if got := s.Must("run", "--rm", "saved:2"); got != "second layer" {
		t.Errorf("it says %q", got)
	}
	if _, _, code := s.CLI("run", "--rm", "saved:2", "test", "-e", "/etc/noexec"); code != 1 {
		t.Errorf("a file that the second layer removes is there: exit code %d", code)
	}
	if r := s.input(dockerArchive(t, "saved:3"), "load"); r.Code != 0 || !strings.Contains(r.Stdout, "saved:3") {
		t.Errorf("load of standard input: exit code %d, %s%s", r.Code, r.Stdout, r.Stderr)
	}
	if r := s.input([]byte("nothing of the sort"), "load"); r.Code == 0 || !strings.HasPrefix(r.Stderr, "fairlead: ") {
		t.Errorf("load of no archive: exit code %d, %s", r.Code, r.Stderr)
	}
	s.consistent()
}

// dockerArchive is what `docker save` writes, with two layers.
func dockerArchive(t *testing.T, name string) []byte {
	t.Helper()
	pack := func(files map[string][]byte, order ...string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, path := range order {
			if err := errors.Join(w.WriteHeader(&tar.Header{Name: path, Mode: 0o644, Size: int64(len(files[path]))}), write(w, files[path])); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	marshal := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	digest := func(b []byte) string {
		sum := sha256.Sum256(b)
		return hex.EncodeToString(sum[:])
	}
	layers := [][]byte{
		rootfs(),
		pack(map[string][]byte{"etc/said": []byte("second layer\n"), "etc/.wh.noexec": nil}, "etc/said", "etc/.wh.noexec"),
	}
	config := marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z",
		"config": map[string]any{"Cmd": []string{"cat", "/etc/said"}, "Env": []string{"PATH=/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest(layers[0]), "sha256:" + digest(layers[1])}},
	})
	configName := digest(config) + ".json"
	manifest := marshal([]map[string]any{{"Config": configName, "RepoTags": []string{name}, "Layers": []string{"a/layer.tar", "b/layer.tar"}}})
	return pack(map[string][]byte{configName: config, "a/layer.tar": layers[0], "b/layer.tar": layers[1], "manifest.json": manifest},
		configName, "a/layer.tar", "b/layer.tar", "manifest.json")
}

func write(w *tar.Writer, b []byte) error {
	_, err := w.Write(b)
	return err
}
