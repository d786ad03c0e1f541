package api_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/api"
	"github.com/fairlead/fairlead/api/apitest"
)

// TestPages: what a web page can make a browser send is refused before anything is
// done, and what clients send is not.
func TestPages(t *testing.T) {
	t.Parallel()
	known := api.Options{KnownHost: func(name string) bool { return name == "known.example" }}
	unix, tcp := unixLab(t), newLab(t, "tcp", known)
	const page, form = "web pages are refused", "forms of web pages are refused"
	for _, tt := range []struct {
		name    string
		on      *lab
		status  int
		says    string
		headers []string
	}{
		{"a client on a socket", unix, 201, "", nil},
		{"a client on TCP", tcp, 201, "", nil},
		{"an address typed in a browser", unix, 201, "", []string{"Sec-Fetch-Site", "none"}},
		{"another's page", unix, 403, page, []string{"Origin", "http://evil.example"}},
		{"a page of nowhere", unix, 403, page, []string{"Origin", "null"}},
		{"a page on loopback", tcp, 403, page, []string{"Origin", "http://localhost:8080"}},
		{"a page's image", tcp, 403, page, []string{"Sec-Fetch-Site", "cross-site"}},
		{"a page of the same site", tcp, 403, page, []string{"Sec-Fetch-Site", "same-site"}},
		{"a form", unix, 403, form, []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{"a form with files", tcp, 403, form, []string{"Content-Type", "multipart/form-data; boundary=x"}},
		{"a form of text", unix, 400, "unsupported Content-Type", []string{"Content-Type", "text/plain"}},
		{"JSON of no type", unix, 400, "unsupported Content-Type", []string{"Content-Type", ""}},
	} {
		tt.on.image()
		before := len(tt.on.engine.Created)
		resp, text := tt.on.do("POST", "/containers/create", `{"Image":"demo"}`, tt.headers...)
		if resp.StatusCode != tt.status || !strings.Contains(text, tt.says) {
			t.Errorf("%s: %s %s", tt.name, resp.Status, text)
		}
		if made := len(tt.on.engine.Created) - before; made != 0 && tt.status != 201 {
			t.Errorf("%s: it was created", tt.name)
		}
	}
	for on, hosts := range map[*lab]map[string]int{
		tcp: {
			"evil.example": 403, "evil.example:2375": 403, "docker": 403, "LOCALHOST.evil.example": 403, "known.example:2375": 200,
			"localhost:2375": 200, "127.0.0.1:2375": 200, "[::1]:2375": 200, "192.0.2.1": 200,
		},
		unix: {
			"evil.example": 403, "evil.example:2375": 403, "EVIL.Example.": 403, "xn--e1awd7f.xn--p1ai": 403, "localhost.evil.example": 403,
			"docker": 200, "d": 200, "localhost:2375": 200, "api.moby.localhost": 200, "docker.example.com": 200, "v1.24": 200,
			"%2Fvar%2Frun%2Fdocker.sock": 200, "192.0.2.1": 200, "[::1]:2375": 200, "docker.sock": 200,
		},
	} {
		for host, status := range hosts {
			if resp, body := on.do("GET", "/containers/json", "", "Host", host); resp.StatusCode != status {
				t.Errorf("on %s as %s: %s %s, want %d", on.addr.Network(), host, resp.Status, body, status)
			}
		}
	}
}

// TestNeedlessBodies: a request that needs no body does nothing where it is sent a large
// one, or one that is no JSON.
func TestNeedlessBodies(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, kind, body string
		chunked          bool
		status           int
	}{
		{name: "none", status: 204},
		{name: "none, as Docker's clients say", kind: "text/plain", status: 204},
		{name: "empty chunks", chunked: true, status: 204},
		{name: "JSON", kind: "application/json", body: "{}", status: 204},
		{name: "text", kind: "text/plain", body: "x", status: 400},
		{name: "chunked text", kind: "text/plain", body: "x", chunked: true, status: 400},
		{name: "no type", body: "x", status: 400},
		{name: "large", kind: "application/json", body: strings.Repeat(" ", 65<<10), status: 413},
		{name: "large and chunked", kind: "application/json", body: strings.Repeat(" ", 65<<10), chunked: true, status: 413},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := unixLab(t)
			l.image()
			l.create(`{"Image":"demo","Cmd":["sleep","9"]}`)
			var body io.Reader = strings.NewReader(tt.body)
			if tt.chunked {
				body = io.MultiReader(body) // of no known length
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/containers/c/rename?name=d", body)
			if err != nil {
				t.Fatal(err)
			}
			if tt.kind != "" {
				req.Header.Set("Content-Type", tt.kind)
			}
			resp, err := l.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != tt.status {
				t.Errorf("%s %s, want %d", resp.Status, text, tt.status)
			}
			want := map[bool]int{true: 200, false: 404}[tt.status == 204]
			if resp, _ := l.do("GET", "/containers/d/json", ""); resp.StatusCode != want {
				t.Errorf("asked for its new name: %s, want %d", resp.Status, want)
			}
		})
	}
}

// TestBodiesOfEveryRoute: no route that changes anything does so for a body that is
// empty, endless or no JSON where it wants one.
func TestBodiesOfEveryRoute(t *testing.T) {
	t.Parallel()
	large := `{"Name":"` + strings.Repeat("x", 9<<20) + `"}`
	for _, path := range []string{
		"/containers/create", "/containers/c/exec", "/containers/c/update", "/commit?container=c", "/volumes/create", "/auth",
		"/networks/create", "/networks/bridge/connect", "/networks/bridge/disconnect", "/exec/x/start",
	} {
		for name, send := range map[string]struct {
			body    string
			chunked bool
			status  int
		}{
			"large":             {large, false, 413},
			"large and chunked": {large, true, 413},
			"cut off":           {`{"Name":`, false, 400},
			"two values":        {`{}{}`, true, 400},
			"a brace too many":  {`{}}`, false, 400},
			"a list":            {`[]`, false, 400},
			"binary":            {"\x00\xff", true, 400},
		} {
			e := apitest.New()
			h := api.New(e, api.Options{})
			var body io.Reader = strings.NewReader(send.body)
			if send.chunked {
				body = io.MultiReader(body)
			}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, body)
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != send.status || !strings.Contains(w.Body.String(), `"message"`) {
				t.Errorf("%s, %s: %d %.200s, want %d", path, name, w.Code, w.Body, send.status)
			}
			e.Close()
		}
	}
}
