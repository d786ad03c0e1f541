package engine

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// TestImportFromURL: an archive is fetched from a server, and what is no archive, or
// no server, is refused.
func TestImportFromURL(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/root.tar":
			_, _ = w.Write(host.image)
		case "/gone":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	for _, source := range []string{s.URL + "/root.tar", strings.TrimPrefix(s.URL, "http://") + "/root.tar"} {
		told := &steps{}
		body, err := f.ImageDownload(t.Context(), source, told.take)
		f.ok(err)
		f.must(f.ImageImport(t.Context(), body, "away", nil, "", ""))
		f.ok(body.Close())
		if got := told.of(""); len(got) != 2 || !strings.HasPrefix(got[0], "Downloading from "+s.URL) || got[1] != "Importing" {
			t.Errorf("%q", got)
		}
	}
	if out, _ := f.run(func(q *CreateRequest) { q.Config.Image = "away" }, "echo", "away"); out != "away\n" {
		t.Error(out)
	}
	for source, says := range map[string]string{s.URL + "/nosuch": "404", s.URL + "/gone": "unsupported protocol scheme"} {
		if _, err := f.ImageDownload(t.Context(), source, nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", source, err)
		}
	}
	for _, bad := range []string{"file:///etc/passwd", "ftp://a/b", "http://", "http://%zz"} {
		if _, err := f.ImageDownload(t.Context(), bad, nil); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
