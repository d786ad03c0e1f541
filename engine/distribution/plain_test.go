package distribution

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestOrPlain: a server that answers a TLS hello with anything at all is asked by HTTP,
// one that has spoken HTTPS never is.
func TestOrPlain(t *testing.T) {
	t.Parallel()
	for hello, says := range map[string]string{"": "closes", "<html>bad request</html>\r\n": "says what it likes", "HTTP/1.0 400 Bad Request\r\n\r\n": "is Go's"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				first, _ := bufio.NewReader(conn).ReadString('\n')
				if strings.HasPrefix(first, "GET /v2/ ") {
					hello = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nplain"
				}
				_, _ = io.WriteString(conn, hello)
				_ = conn.Close()
			}
		}()
		transport, own, err := Registries{}.transport(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer own.CloseIdleConnections()
		r, err := (&http.Client{Transport: transport}).Get("https://" + l.Addr().String() + "/v2/")
		if err != nil {
			t.Errorf("a server that %s: %v", says, err)
			continue
		}
		if body, _ := io.ReadAll(r.Body); string(body) != "plain" {
			t.Errorf("a server that %s: %q", says, body)
		}
		_ = r.Body.Close()
	}
	secure := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer secure.Close()
	host := strings.TrimPrefix(secure.URL, "https://")
	transport, own, err := Registries{}.transport(host)
	if err != nil {
		t.Fatal(err)
	}
	defer own.CloseIdleConnections()
	r, err := (&http.Client{Transport: transport}).Get(secure.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close()
	if got := transport.(*orPlain).scheme(host); got != "https" {
		t.Errorf("it is known to speak %q", got)
	}
}
