package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestJSONErrors: what is wrong with a body is said in the words of JSON, with the
// place.
func TestJSONErrors(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	l.image()
	deep := strings.Repeat(`{"Labels":`, 20_000)
	for body, want := range map[string]string{
		`{"Image":7}`:                         "invalid JSON: Image: want a string, got number",
		`{"HostConfig":{"Memory":"1g"}}`:      "invalid JSON: HostConfig.Memory: want a whole number of 64 bits, got string",
		`{"HostConfig":{"Memory":1e99}}`:      "invalid JSON: HostConfig.Memory: want a whole number of 64 bits, got number 1e99",
		`{"HostConfig":{"Binds":"/a:/b"}}`:    "invalid JSON: HostConfig.Binds: want a list, got string",
		`{"HostConfig":{"Privileged":"yes"}}`: "invalid JSON: HostConfig.Privileged: want true or false, got string",
		`{"Labels":[]}`:                       "invalid JSON: Labels: want an object, got array",
		`[]`:                                  "invalid JSON: the request's body: want an object, got array",
		`"x"`:                                 "invalid JSON: the request's body: want an object, got string",
		`{"Image":"demo",}`:                   "invalid JSON: at byte 17: invalid character '}'",
		"\x00":                                "invalid JSON: at byte 1: invalid character",
		`{"Image":"demo"`:                     "invalid JSON: got EOF",
		deep:                                  "exceeded max depth",
		`{"Image":"demo"} x`:                  "unexpected content after JSON",
		`{"HostConfig":{"Dns":["x"]}}`:        "invalid JSON: ",
		`{"ExposedPorts":{"http":{}}}`:        "invalid JSON: ",
		`{"HostConfig":{"PortBindings":{"80":[{"HostIp":"nowhere"}]}}}`: "invalid JSON: ",
	} {
		text := l.want(400, "POST", "/containers/create", body, nil)
		if !strings.Contains(text, want) || strings.Contains(text, "Go ") {
			t.Errorf("%.40s: %s want %s", body, text, want)
		}
	}
	// As Docker, and as later versions need it: what is unknown is for later versions.
	l.want(201, "POST", "/containers/create", `{"Image":"demo","NotYet":{"a":[1]},"HostConfig":{"NorThis":1}}`, nil)
	text := l.want(201, "POST", "/v1.41/containers/create?name=c", `{"Image":"demo","HostConfig":{"Memory":7,"KernelMemory":1}}`, nil)
	if h := l.engine.Created[len(l.engine.Created)-1].HostConfig; h.Memory != 7 || !strings.Contains(text, "--kernel-memory") {
		t.Errorf("memory %d, %s", h.Memory, text)
	}
	l.want(501, "POST", "/containers/c/start?checkpoint=x", "", nil)
	l.want(400, "GET", "/containers/json?filters=%zz", "", nil)
	l.want(400, "GET", "/containers/json?all=1;limit=2", "", nil)
}

// raw sends a text and returns the answers to it, one after the other.
func (l *lab) raw(text string, halfClose bool) (net.Conn, *bufio.Reader) {
	l.Helper()
	conn, err := net.Dial(l.addr.Network(), l.addr.String())
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, text); err != nil {
		l.Fatal(err)
	}
	if halfClose {
		if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
			l.Fatal(err)
		}
	}
	return conn, bufio.NewReader(conn)
}

func (l *lab) answers(r *bufio.Reader, statuses ...int) {
	l.Helper()
	for i, want := range statuses {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			l.Fatalf("answer %d: %v", i, err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != want || err != nil {
			l.Errorf("answer %d: %s %s %v, want %d", i, resp.Status, body, err, want)
		}
	}
}

// TestConnections: pipelined requests are answered in order, chunked bodies are read,
// a client that closes its end hears the answer, and nonsense ends the connection
// alone.
func TestConnections(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	l.image()
	get := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n" }
	post := func(path, headers, body string) string {
		return "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + headers + "\r\n" + body
	}
	chunk := func(body string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body) }
	const chunked = "Transfer-Encoding: chunked\r\n"
	body := `{"Image":"demo"}`
	for name, tt := range map[string]struct {
		text      string
		halfClose bool
		want      []int
	}{
		"pipelined":        {get("/_ping") + get("/nope") + post("/containers/create", chunked, chunk(body)) + get("/info"), false, []int{200, 404, 201, 200}},
		"a byte in chunks": {post("/containers/create", chunked, "1\r\n{\r\n"+chunk(body[1:])), false, []int{201}},
		"empty chunks":     {post("/containers/create", chunked, "0\r\n\r\n"), false, []int{400}},
		"bad chunk":        {post("/containers/create", chunked, "zz\r\n"), false, []int{400}},
		"half-closed":      {get("/version"), true, []int{200}},
		"half a body":      {post("/containers/create", "Content-Length: 100\r\n", body[:5]), true, []int{400}},
		"two lengths":      {post("/containers/create", "Content-Length: 5\r\nContent-Length: 6\r\n", body), false, []int{400}},
		"negative length":  {post("/containers/create", "Content-Length: -1\r\n", body), false, []int{400}},
		"no HTTP":          {"hello\r\n\r\n", false, []int{400}},
		"no host":          {"GET /_ping HTTP/1.1\r\n\r\n", false, []int{400}},
		"HTTP/1.0":         {"GET /_ping HTTP/1.0\r\n\r\n", false, []int{200}},
		"a huge header":    {"GET /_ping HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 1<<20+8<<10) + "\r\n\r\n", false, []int{431}},
		"a NUL in a path":  {get("/containers/%00/json"), false, []int{400}},
		"an endless path":  {get("/containers/" + strings.Repeat("x", 100_000) + "/json"), false, []int{404}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &lab{T: t, engine: l.engine, addr: l.addr, client: l.client}
			_, r := l.raw(tt.text, tt.halfClose)
			l.answers(r, tt.want...)
		})
	}
}

// TestNothingIsLeft: after many requests of the bad kind no goroutine and no
// descriptor is left.
func TestNothingIsLeft(t *testing.T) {
	l := unixLab(t)
	l.image()
	open := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	flood := func(n int) {
		for i := range n {
			switch i % 5 {
			case 0:
				conn, r := l.raw("POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{", true)
				l.answers(r, 400)
				_ = conn.Close()
			case 1:
				conn, _ := l.raw("GET /events HTTP/1.1\r\nHost: x\r\n\r\n", false)
				_ = conn.Close()
			case 2:
				conn, _ := l.raw("POST /build HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\n\r\nx", false)
				_ = conn.Close()
			case 3:
				conn, _ := l.raw("GET /_p", false)
				_ = conn.Close()
			default:
				l.want(400, "POST", "/containers/create", "{", nil)
			}
		}
	}
	flood(20)
	goroutines, files := 0, 0
	settled := func(most, mostFiles int) bool {
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			l.client.CloseIdleConnections()
			if goroutines, files = runtime.NumGoroutine(), open(); goroutines <= most && files <= mostFiles {
				return true
			}
		}
		return false
	}
	time.Sleep(time.Second) // net/http lingers half of one on what it refused to read
	settled(1<<20, 1<<20)
	before, filesBefore := goroutines, files
	flood(400)
	if !settled(before+3, filesBefore+3) {
		t.Errorf("%d goroutines and %d descriptors, before %d and %d", goroutines, files, before, filesBefore)
	}
}
