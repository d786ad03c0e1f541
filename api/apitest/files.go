package apitest

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/engine"
)

// Containers' files are a map from path to content. The directories are those of the
// files, and / and /tmp.

// Put gives a container a file.
func (e *Engine) Put(ref, name, content string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c, err := e.find(ref); err == nil {
		c.put(name, content)
	}
}

// File returns the content of a container's file, and whether there is one.
func (e *Engine) File(ref, name string) (content string, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.find(ref)
	if err != nil {
		return "", false
	}
	content, ok = c.files[name]
	return content, ok
}

func (c *fakeContainer) put(name, content string) {
	if c.files == nil {
		c.files = make(map[string]string)
	}
	c.files[path.Join("/", name)] = content
}

func (c *fakeContainer) isDir(name string) bool {
	if name == "/" || name == "/tmp" {
		return true
	}
	for f := range c.files {
		if strings.HasPrefix(f, name+"/") {
			return true
		}
	}
	return false
}

func (c *fakeContainer) stat(ref, name string) (container.PathStat, error) {
	name = path.Join("/", name)
	out := container.PathStat{Name: path.Base(name), Mode: 0o644, Mtime: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	content, ok := c.files[name]
	switch {
	case ok:
		out.Size = int64(len(content))
	case c.isDir(name):
		out.Mode = fs.ModeDir | 0o755
	default:
		return out, fmt.Errorf("Could not find the file %s in container %s: %w", name, ref, errdefs.ErrNotFound) //nolint:staticcheck // Docker's words
	}
	return out, nil
}

// PathStat tells of a file or directory.
func (e *Engine) PathStat(_ context.Context, ref, name string) (container.PathStat, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.find(ref)
	if err != nil {
		return container.PathStat{}, err
	}
	return c.stat(ref, name)
}

// CopyFrom packs a file, or all files of a directory.
func (e *Engine) CopyFrom(_ context.Context, ref, name string, begin func(container.PathStat) io.Writer) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	stat, err := c.stat(ref, name)
	if err != nil {
		return err
	}
	name = path.Join("/", name)
	w := tar.NewWriter(begin(stat))
	if stat.Mode.IsDir() {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: stat.Name + "/", Mode: 0o755}); err != nil {
			return err
		}
	}
	var all []string
	for f := range c.files {
		if f == name || strings.HasPrefix(f, strings.TrimSuffix(name, "/")+"/") {
			all = append(all, f)
		}
	}
	slices.Sort(all)
	if e.CutShort {
		return errors.Join(w.Flush(), errors.New("cut short, as asked"))
	}
	for _, f := range all {
		h := &tar.Header{Name: stat.Name + strings.TrimPrefix(f, name), Mode: 0o644, Size: int64(len(c.files[f]))}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.WriteString(w, c.files[f]); err != nil {
			return err
		}
	}
	return w.Close()
}

// CopyTo keeps the regular files of an archive.
func (e *Engine) CopyTo(_ context.Context, ref, dir string, in io.Reader, _ engine.CopyOptions) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	if stat, err := c.stat(ref, dir); err != nil {
		return err
	} else if !stat.Mode.IsDir() {
		return fmt.Errorf("extraction point is not a directory: %w", errdefs.ErrInvalidArgument)
	}
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		c.put(path.Join(dir, h.Name), string(content))
	}
}
