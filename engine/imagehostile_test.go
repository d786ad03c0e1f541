package engine

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/moby/api/types/jsonstream"

	"github.com/fairlead/fairlead/internal/lab"
)

// spoil is a registry whose answers to GETs of paths with the word are the handler's.
func spoil(t *testing.T, word string, with http.HandlerFunc) *lab.Registry {
	t.Helper()
	return newRegistry(t, lab.RegistryOptions{Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, word) {
				with(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
	}})
}

// endless sends for as long as anybody reads, and counts.
func endless(sent *atomic.Int64) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for block := make([]byte, 64<<10); ; {
			n, err := w.Write(block)
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	}
}

func TestHostileRegistries(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.cfg.Settings.Registries.DownloadAttempts = 1
	f.Reload(f.cfg.Settings, nil)
	var sent atomic.Int64
	wrong := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) }
	for name, tc := range map[string]struct {
		word string
		with http.HandlerFunc
		says string
	}{
		"another layer":       {"/blobs/", wrong, "verification failed"},
		"an endless layer":    {"/blobs/", endless(&sent), "verification failed"},
		"another manifest":    {"/manifests/", wrong, "verification failed"},
		"an endless manifest": {"/manifests/", endless(&sent), "verification failed"},
		"a redirect to a file": {"/blobs/", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, "unsupported protocol scheme"},
		"a redirect to itself": {"/blobs/", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, "redirects"},
		"a server's error":     {"/blobs/", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusTeapot) }, "418"},
		"nothing":              {"/blobs/", func(http.ResponseWriter, *http.Request) {}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := spoil(t, tc.word, tc.with)
			f.ok(r.Write("app:1", app(t, lab.RandomLayer("x", 1<<20))))
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			err := f.ImagePull(ctx, PullRequest{Ref: r.Image("app:1")})
			if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v, want %q", err, tc.says)
			}
			if _, err := f.images.Get(t.Context(), r.Image("app:1")); !errdefs.IsNotFound(err) {
				t.Errorf("it has a name: %v", err)
			}
		})
	}
	if n := sent.Load(); n > 64<<20 {
		t.Errorf("%d bytes were taken from those who send without end", n)
	}
	if list := must(f.images.List(t.Context())); len(list) != 1 {
		t.Errorf("%d images", len(list))
	}
}

// TestHostileImages: what a registry has is not what it should be.
func TestHostileImages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := newRegistry(t, lab.RegistryOptions{})
	windows, err := lab.MakeImageFor(v1.Platform{OS: "windows", Architecture: "amd64"}, v1.Config{}, lab.RandomLayer("x", 1<<10))
	f.ok(err)
	torn, err := lab.MakeImage(v1.Config{}, []byte("this is no tar archive, however it was compressed"))
	f.ok(err)
	empty, err := lab.MakeIndex(nil)
	f.ok(err)
	f.ok(r.Write("windows:1", windows))
	f.ok(r.Write("torn:1", torn))
	f.ok(r.Write("empty:1", empty))
	for tag, says := range map[string]string{
		"windows:1": "operating system", "torn:1": "unpack layer", "empty:1": "no matching manifest",
	} {
		if err := f.ImagePull(t.Context(), PullRequest{Ref: r.Image(tag)}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", tag, err, says)
		}
	}
}

// TestPullFromWhereItEnded: what a broken connection brought is not fetched again,
// unless the registry cannot go on from there.
func TestPullFromWhereItEnded(t *testing.T) {
	t.Parallel()
	for _, refuses := range []bool{false, true} {
		t.Run(fmt.Sprintf("refuses=%v", refuses), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			var cuts atomic.Int32
			var ranges sync.Map
			r := newRegistry(t, lab.RegistryOptions{NoRanges: refuses, Wrap: func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					if strings.Contains(req.URL.Path, "/blobs/") && req.Method == http.MethodGet {
						if from := req.Header.Get("Range"); from != "" {
							ranges.Store(from, true)
						}
						w = &cut{ResponseWriter: w, left: 1 << 20, often: &cuts}
					}
					next.ServeHTTP(w, req)
				})
			}})
			f.ok(r.Write("app:1", app(t, lab.RandomLayer("x", 3<<20))))
			cuts.Store(2)
			f.pull(r.Image("app:1"))
			asked := 0
			ranges.Range(func(any, any) bool { asked++; return true })
			if cuts.Load() > 0 || asked == 0 {
				t.Errorf("%d cuts are left, %d ranges were asked for", cuts.Load(), asked)
			}
		})
	}
}

// cut is an answer whose connection ends after so many bytes, as often as it says.
type cut struct {
	http.ResponseWriter
	left  int
	often *atomic.Int32
}

func (c *cut) Write(b []byte) (int, error) {
	if len(b) > c.left && c.often.Add(-1) >= 0 {
		_, _ = c.ResponseWriter.Write(b[:c.left])
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= min(c.left, len(b))
	return c.ResponseWriter.Write(b)
}

// TestPullsShare: many who pull one image at once fetch it once, and who goes away
// does not take it from the others.
func TestPullsShare(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var fetched atomic.Int32
	begun := make(chan struct{})
	var once sync.Once
	r := newRegistry(t, lab.RegistryOptions{Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/") {
				fetched.Add(1)
				once.Do(func() { close(begun) })
				w = &dribble{w}
			}
			next.ServeHTTP(w, req)
		})
	}})
	img := app(t, lab.RandomLayer("x", 2<<20), lab.RandomLayer("y", 2<<20))
	f.ok(r.Write("app:1", img))
	first, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() { gone <- f.ImagePull(first, PullRequest{Ref: r.Image("app:1")}) }()
	<-begun
	var wg sync.WaitGroup
	errs, told := make([]error, 10), make([]steps, 10)
	for i := range errs {
		wg.Go(func() { errs[i] = f.ImagePull(t.Context(), PullRequest{Ref: r.Image("app:1"), Progress: told[i].take}) })
	}
	time.Sleep(100 * time.Millisecond)
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the pull that was called off: %v", err)
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	f.ok(err)
	last, err := layers[2].Digest()
	f.ok(err)
	for i := range told {
		if got := told[i].of(last.Hex[:12]); !slices.Contains(got, "Downloading") {
			t.Errorf("pull %d is not told of the common download: %q", i, got)
		}
	}
	// The configuration and three layers, and what the first had to leave.
	if n := fetched.Load(); n > 6 {
		t.Errorf("%d blobs were fetched", n)
	}
	if got := must(f.images.Get(t.Context(), r.Image("app:1"))); got.Size == 0 {
		t.Errorf("%+v", got)
	}
}

// dribble is an answer that takes its time.
type dribble struct{ http.ResponseWriter }

func (d *dribble) Write(b []byte) (done int, err error) {
	for len(b) > 0 && err == nil {
		var n int
		time.Sleep(30 * time.Millisecond)
		n, err = d.ResponseWriter.Write(b[:min(64<<10, len(b))])
		done, b = done+n, b[n:]
	}
	return done, err
}

// TestPullDoesNotWaitForWhoDoesNotRead: progress that nobody takes holds up nobody else.
func TestPullDoesNotWaitForWhoDoesNotRead(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := newRegistry(t, lab.RegistryOptions{})
	f.ok(r.Write("app:1", app(t, lab.RandomLayer("x", 1<<20))))
	stuck, release := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- f.ImagePull(t.Context(), PullRequest{Ref: r.Image("app:1"), Progress: func(jsonstream.Message) { <-stuck.Done() }})
	}()
	time.Sleep(50 * time.Millisecond)
	f.pull(r.Image("app:1"))
	release()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
