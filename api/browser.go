package api

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// guarded refuses, before anything is done, what a web page can make a browser send:
// whoever can use the API is root here, and a page is anybody's.
func (s *server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.fromPage(r); err != nil {
			s.writeError(w, r, fmt.Errorf("%w: %w", err, errdefs.ErrPermissionDenied))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// fromPage says by what a request is a page's, nil where it is none's. Browsers send
// the page's Origin with whatever may change something (Fetch Standard, 3.1), those of
// today also Sec-Fetch-Site (Fetch Metadata Request Headers), and those of yesterday
// forms without either. A page that had its own name lead to this host (DNS rebinding)
// is told by the Host.
func (s *server) fromPage(r *http.Request) error {
	if origin := r.Header.Get("Origin"); origin != "" {
		return fmt.Errorf("requests from web pages are refused (Origin %q)", origin)
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "none" {
		return fmt.Errorf("requests from web pages are refused (Sec-Fetch-Site %q)", site)
	}
	switch form, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); form {
	case "application/x-www-form-urlencoded", "multipart/form-data":
		return fmt.Errorf("forms of web pages are refused (Content-Type %q): send JSON as application/json, and an empty body without a type", form)
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	switch {
	case s.knownHost(r.Host), local == nil:
		return nil
	case local.Network() == "tcp":
		return fmt.Errorf("this host is not known as %q", r.Host)
	case registrable(hostName(r.Host)):
		// Browsers do not speak to sockets, but what passes TCP on to one does.
		return fmt.Errorf("a socket is not known as %q: call it localhost", r.Host)
	}
	return nil
}

// knownHost says whether a client on TCP may call this host so.
func (s *server) knownHost(host string) bool {
	name := hostName(host)
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return name != "" && (strings.EqualFold(name, "localhost") || strings.EqualFold(name, s.hostname) ||
		s.options.KnownHost != nil && s.options.KnownHost(name))
}

// hostName is a Host without its port, and without the brackets of an address.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
}

// registrable says whether a name may be one that somebody has in the DNS, as a page
// needs that has it lead here. Clients of sockets make names up: a path, a version
// ("v1.24"), and, by ssh, docker.example.com, which nobody can have (RFC 6761).
func registrable(name string) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	labels := strings.Split(name, ".")
	last := labels[len(labels)-1]
	switch {
	case len(labels) == 1, strings.Trim(last, "0123456789") == "", last == "localhost", last == "sock":
		return false
	case name == "docker.example.com":
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}

// maxIgnored bounds the body of a request that needs none, in bytes.
const maxIgnored = 64 << 10

// ignoreBody reads the body of a request that needs none, before anything is done: one
// that is too large, or is no JSON, was meant for something else.
func ignoreBody(w http.ResponseWriter, r *http.Request) error {
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	deadline := http.NewResponseController(w)
	if err := deadline.SetReadDeadline(time.Now().Add(bodyTime)); err == nil {
		defer func() { _ = deadline.SetReadDeadline(time.Time{}) }()
	}
	n, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxIgnored))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return invalid("the request's body did not come in time")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return invalid("got EOF while reading request body")
	case err != nil:
		return err // too large
	case n > 0:
		return checkJSONType(r.Header.Get("Content-Type"))
	}
	return nil
}
