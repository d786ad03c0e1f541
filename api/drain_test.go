package api_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/jsonstream"

	"github.com/fairlead/fairlead/api"
	"github.com/fairlead/fairlead/api/apitest"
	"github.com/fairlead/fairlead/engine"
)

// brief reads no more of an archive than what is in it.
type brief struct{ *apitest.Engine }

func (brief) take(in io.Reader) error {
	for archive := tar.NewReader(in); ; {
		h, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case h.Name == "bad":
			return errors.New("refused")
		}
	}
}

func (b brief) CopyTo(_ context.Context, _, _ string, in io.Reader, _ engine.CopyOptions) error {
	return b.take(in)
}

func (b brief) ImageLoad(_ context.Context, req engine.LoadRequest) error {
	err := b.take(req.Archive)
	if err == nil {
		req.Progress(jsonstream.Message{Stream: "Loaded image: demo\n"})
	}
	return err
}

// TestPaddedArchives: who sends an archive with much after its end can send all of it,
// and has the answer, on a connection that is to be closed, too.
func TestPaddedArchives(t *testing.T) {
	t.Parallel()
	e := apitest.New()
	defer e.Close()
	server := httptest.NewServer(api.New(brief{e}, api.Options{Log: slog.New(slog.DiscardHandler)}))
	defer server.Close()
	const padding = 4 << 20
	for request, status := range map[string]int{
		"PUT /containers/c/archive?path=/": http.StatusOK, "POST /images/load": http.StatusOK,
		"PUT /containers/c/archive?path=/bad": http.StatusInternalServerError, "POST /images/load?bad": http.StatusInternalServerError,
	} {
		name := "good"
		if strings.Contains(request, "bad") {
			name = "bad"
		}
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name})
		_ = w.Close()
		archive.Write(make([]byte, padding))
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", request, archive.Len()); err != nil {
			t.Error(err)
		}
		if n, err := archive.WriteTo(conn); err != nil {
			t.Errorf("%s: sending ended after %d bytes: %v", request, n, err)
		}
		answer, err := io.ReadAll(conn)
		if want := fmt.Sprintf("HTTP/1.1 %d ", status); err != nil || !strings.HasPrefix(string(answer), want) {
			t.Errorf("%s: %q %v", request, answer, err)
		}
		_ = conn.Close()
	}
}
