package api

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestSlowBody: a client that sends no more of its body is not waited for, and one
// that is only slow between requests is.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	said := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var v any
		_, err := readJSONWithin(w, r, &v, 100*time.Millisecond)
		said <- err
	}))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	head := "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
	for i, body := range []string{"{}", "{}", "{"} {
		if _, err := io.WriteString(conn, head+body); err != nil {
			t.Fatal(err)
		}
		select {
		case err = <-said:
		case <-time.After(5 * time.Second):
			t.Fatal("it is waited for")
		}
		if want := map[int]string{2: "the request's body did not come in time: invalid argument"}[i]; want != "" || err != nil {
			if diff := cmp.Diff(want, fmt.Sprint(err)); diff != "" {
				t.Errorf("body %d: %s", i, diff)
			}
		}
		time.Sleep(150 * time.Millisecond)
	}
}

// TestStalledBody: an archive may take as long as it likes while something comes of it.
func TestStalledBody(t *testing.T) {
	t.Parallel()
	said := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, done := stalled(w, r, 1500*time.Millisecond)
		defer done()
		read, err := io.ReadAll(body)
		said <- fmt.Sprintf("%s %v", read, err)
	}))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, part := range []string{"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", "a", "b", "c", "d"} {
		if _, err := io.WriteString(conn, part); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
	}
	select {
	case got := <-said:
		if want := "abcd the client sent nothing for 1.5s: invalid argument"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("it is waited for")
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]map[string][]string{
		``:                              nil,
		`{}`:                            {},
		`{"a":{"y":true,"x":true}}`:     {"a": {"x", "y"}},
		`{"a":{"x":false}}`:             {},
		`{"a":["x","y"],"b":[]}`:        {"a": {"x", "y"}, "b": {}},
		`{"label":{"a=b":true},"b":{}}`: {"label": {"a=b"}},
	} {
		got, err := filters(map[string][]string{"filters": {text}})
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", text, err, diff)
		}
	}
	for _, bad := range []string{`x`, `[]`, `"x"`, `{"a":"x"}`, `{"a":{"x":1}}`, `{"a":[1]}`, `{}{}`, `1`} {
		if got, err := filters(map[string][]string{"filters": {bad}}); err == nil {
			t.Errorf("%s: %v", bad, got)
		}
	}
}
