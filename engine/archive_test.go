package engine

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/volume"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// copyOut returns the files at a path of the container, by name.
func (f *fixture) copyOut(id, name string) (map[string]string, error) {
	f.t.Helper()
	var b bytes.Buffer
	err := f.CopyFrom(f.t.Context(), id, name, func(container.PathStat) io.Writer { return &b })
	out := make(map[string]string)
	if err != nil {
		return out, err
	}
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		f.ok(err)
		raw, err := io.ReadAll(r)
		f.ok(err)
		out[h.Name] = string(raw)
	}
}

func oneFile(name, content string) io.Reader {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Uid: 3, Gid: 4})
	_, _ = w.Write([]byte(content))
	_ = w.Close()
	return &b
}

// TestCopy: files go in and out of a container that was never started, runs, and has
// ended, and of what is mounted in it.
func TestCopy(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	shared := filepath.Join(f.cfg.DataRoot, "shared")
	f.ok(os.MkdirAll(filepath.Join(shared, "dir"), 0o755))
	id := f.create(func(r *CreateRequest) {
		r.HostConfig.Binds = []string{shared + ":/data"}
		r.HostConfig.Tmpfs = map[string]string{"/scratch": ""}
	}, "sh", "-c", "echo there > /scratch/there; ln -s /data /link; while [ ! -e /data/end ]; do sleep 0.02; done; cat /root/running /scratch/in")
	ctx := t.Context()
	check := func(when, name, want string) {
		t.Helper()
		if got, err := f.copyOut(id, name); err != nil || got[filepath.Base(name)] != want {
			t.Errorf("%s, %s: %q %v, want %q", when, name, got, err, want)
		}
	}
	f.ok(f.CopyTo(ctx, id, "/root", oneFile("created", "c"), CopyOptions{}))
	check("created", "/root/created", "c")
	f.ok(f.CopyTo(ctx, id, "/data/dir", oneFile("mounted", "m"), CopyOptions{}))
	if raw, err := os.ReadFile(filepath.Join(shared, "dir/mounted")); err != nil || string(raw) != "m" {
		t.Errorf("on the host: %q %v", raw, err)
	}

	f.ok(f.Start(ctx, id))
	eventually(t, "it is ready", func() bool { _, err := f.PathStat(ctx, id, "/link"); return err == nil })
	f.ok(f.CopyTo(ctx, id, "/root", oneFile("running", "r"), CopyOptions{}))
	f.ok(f.CopyTo(ctx, id, "/scratch", oneFile("in", "s"), CopyOptions{}))
	check("running", "/root/created", "c")
	check("running", "/scratch/there", "there\n")
	check("running", "/link/dir/mounted", "m")
	if got, err := f.copyOut(id, "/proc"); err != nil || len(got) != 1 {
		t.Errorf("/proc: %v %v", got, err)
	}
	stat, err := f.PathStat(ctx, id, "/link")
	if err != nil || stat.LinkTarget != "/data" || stat.Mode&os.ModeSymlink == 0 {
		t.Errorf("stat: %+v %v", stat, err)
	}
	f.ok(f.CopyTo(ctx, id, "/link", oneFile("end", ""), CopyOptions{}))
	eventually(t, "it ends", func() bool { return !f.state(id).Running })
	if got := f.output(id); got != "rs" {
		t.Errorf("it read %q", got)
	}
	f.ok(f.CopyTo(ctx, id, "/link/dir", oneFile("after", "a"), CopyOptions{}))
	check("ended", "/data/dir/after", "a")
	check("ended", "/root/running", "r")
	for _, err := range []error{
		func() error { _, err := f.copyOut(id, "/none"); return err }(),
		f.CopyTo(ctx, id, "/none", oneFile("x", ""), CopyOptions{}),
	} {
		if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "Could not find the file /none in container "+id) {
			t.Errorf("what is not there: %v", err)
		}
	}
	f.clean()
}

// TestCopyVolumes: what is in volumes is copied too, of a part of one that part, and
// of one that has to be mounted first what it mounts, which is unmounted after.
func TestCopyVolumes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	device, made := filepath.Join(f.cfg.DataRoot, "device"), filepath.Join(f.cfg.DataRoot, "made")
	f.ok(os.MkdirAll(device, 0o755))
	for _, v := range []volume.CreateRequest{{Name: "plain"}, {Name: "mounted", DriverOpts: map[string]string{"type": "none", "o": "bind", "device": device}}} {
		_, err := f.VolumeCreate(ctx, v)
		f.ok(err)
	}
	first := f.create(func(r *CreateRequest) { r.HostConfig.Binds = []string{"plain:/all"} }, "true")
	f.ok(f.CopyTo(ctx, first, "/all", oneFile("part/file", "p"), CopyOptions{}))
	id := f.create(func(r *CreateRequest) {
		r.HostConfig.Binds = []string{"mounted:/mounted", made + ":/made"}
		r.HostConfig.Mounts = []mount.Mount{{Type: mount.TypeVolume, Source: "plain", Target: "/part", VolumeOptions: &mount.VolumeOptions{Subpath: "part"}}}
	}, "true")
	if got, err := f.copyOut(id, "/part"); err != nil || got["part/file"] != "p" {
		t.Errorf("a part of a volume: %v %v", got, err)
	}
	f.ok(f.CopyTo(ctx, id, "/part", oneFile("second", "s"), CopyOptions{}))
	f.ok(f.CopyTo(ctx, id, "/mounted", oneFile("third", "t"), CopyOptions{}))
	f.ok(f.CopyTo(ctx, id, "/made", oneFile("fourth", "f"), CopyOptions{}))
	if got, err := f.copyOut(first, "/all/part/second"); err != nil || got["second"] != "s" {
		t.Errorf("the volume has %v %v", got, err)
	}
	for name, want := range map[string]string{filepath.Join(device, "third"): "t", filepath.Join(made, "fourth"): "f"} {
		if raw, err := os.ReadFile(name); err != nil || string(raw) != want {
			t.Errorf("%s: %q %v", name, raw, err)
		}
	}
	if there, err := mountinfo.Mounted(f.inspect(id).Mounts[0].Source); err != nil || there {
		t.Errorf("a volume is still mounted: %v %v", there, err)
	}
	f.clean()
}

// TestCopyReadOnly: what the container may not write to is refused in Docker's words.
func TestCopyReadOnly(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	shared := filepath.Join(f.cfg.DataRoot, "shared")
	f.ok(os.MkdirAll(shared, 0o755))
	id := f.create(func(r *CreateRequest) {
		r.HostConfig.ReadonlyRootfs = true
		r.HostConfig.Mounts = []mount.Mount{
			{Type: mount.TypeBind, Source: shared, Target: "/ro", ReadOnly: true},
			{Type: mount.TypeBind, Source: shared, Target: "/rw"},
		}
		r.Config.User = "sailor"
	}, "sleep", "60")
	for _, when := range []string{"created", "running"} {
		err := f.CopyTo(t.Context(), id, "/root", oneFile("x", ""), CopyOptions{})
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "container rootfs is marked read-only") {
			t.Errorf("%s, the root: %v", when, err)
		}
		err = f.CopyTo(t.Context(), id, "/ro", oneFile("x", ""), CopyOptions{})
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "mounted volume is marked read-only") {
			t.Errorf("%s, the mount: %v", when, err)
		}
		f.ok(f.CopyTo(t.Context(), id, "/rw", oneFile(when, ""), CopyOptions{ToUser: when == "running"}))
		if when == "created" {
			f.ok(f.Start(t.Context(), id))
		}
	}
	if got := ownerOf(t, filepath.Join(shared, "created")); got != "3:4" {
		t.Errorf("the archive's owner: %s", got)
	}
	if got := ownerOf(t, filepath.Join(shared, "running")); got != "1000:1001" {
		t.Errorf("the container's user: %s", got)
	}
}

// TestCopyHoldsStart: nobody starts a container while a file is put into it, which
// ends when the sender goes.
func TestCopyHoldsStart(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.create(nil, "true")
	in, out := io.Pipe()
	copied := make(chan error, 1)
	go func() { copied <- f.CopyTo(t.Context(), id, "/", in, CopyOptions{}) }()
	_, err := io.CopyN(out, oneFile("x", strings.Repeat("x", 5000)), 2000)
	f.ok(err)
	started := make(chan error, 1)
	go func() { started <- f.Start(t.Context(), id) }()
	select {
	case err := <-started:
		t.Errorf("it was started meanwhile: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	out.CloseWithError(io.ErrUnexpectedEOF)
	if err := <-copied; !errdefs.IsInvalidArgument(err) {
		t.Errorf("half an archive: %v", err)
	}
	f.ok(<-started)
}

// ownerOf is a file's user and group, by number.
func ownerOf(t *testing.T, name string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d:%d", st.Uid, st.Gid)
}
