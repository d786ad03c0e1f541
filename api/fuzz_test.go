package api_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/api"
	"github.com/fairlead/fairlead/api/apitest"
)

// alarm fails the test when a handler panics, which the server would survive.
type alarm struct {
	slog.Handler
	t *testing.T
}

func (a alarm) Enabled(context.Context, slog.Level) bool { return true }

func (a alarm) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "panicked") {
		r.Attrs(func(attr slog.Attr) bool { a.t.Log(attr); return true })
		a.t.Error(r.Message)
	}
	return nil
}

// FuzzRequest: whatever is sent, the answer is a status, errors are a sentence in
// JSON, and nothing panics. The engine has a container c of an image demo.
func FuzzRequest(f *testing.F) {
	for _, seed := range []struct{ method, path, query, body string }{
		{"GET", "/_ping", "", ""},
		{"GET", "/v1.40/containers/json", `all=1&limit=-1&size=1&filters={"status":["running"],"name":{"c":true}}`, ""},
		{"GET", "/v1.41/containers/c/json", "size=1", ""},
		{"GET", "/events", `since=1.5&until=2&filters={"type":["container"]}`, ""},
		{"GET", "/v1.48/networks", `filters={"dangling":["1"]}`, ""},
		{"GET", "/v1.51/info", "", ""},
		{"GET", "/containers/c/logs", "stdout=1&tail=1&since=1&until=2&timestamps=1", ""},
		{"POST", "/containers/create", "name=x&platform=linux/amd64", `{"Image":"demo","Cmd":"echo x","ExposedPorts":{"80/tcp":{}},"HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"::","HostPort":"1-2"}]},"Memory":1},"NetworkingConfig":{"EndpointsConfig":{"default":{"IPAMConfig":{"IPv4Address":"10.0.0.1"}}}},"MacAddress":"02:42:0a:00:00:01"}`},
		{"POST", "/containers/c/start", "", "{}"},
		{"POST", "/containers/c/wait", "condition=removed", ""},
		{"POST", "/containers/c/stop", "t=-1&signal=9", ""},
		{"POST", "/containers/c/resize", "h=1&w=99999", ""},
		{"POST", "/containers/c/exec", "", `{"Cmd":["echo","x"],"Tty":true,"ConsoleSize":[1,2],"DetachKeys":"ctrl-p,q","Env":["A=b"]}`},
		{"POST", "/containers/c/update", "", `{"Memory":1,"RestartPolicy":{"Name":"always"}}`},
		{"POST", "/containers/c/attach", "stream=1&stdin=1&detachKeys=x", ""},
		{"POST", "/networks/create", "", `{"Name":"n","IPAM":{"Config":[{"Subnet":"10.1.0.0/24","AuxiliaryAddresses":{"a":"10.1.0.9"}}]},"Options":{"a":"b"},"EnableIPv6":true}`},
		{"POST", "/networks/bridge/connect", "", `{"Container":"c","EndpointConfig":{"Aliases":["x"],"GwPriority":1,"LinkLocalIPs":[]}}`},
		{"POST", "/networks/prune", `filters={"until":["24h"],"label!":["x"]}`, ""},
		{"POST", "/images/create", "fromSrc=-&repo=x&changes=CMD+x", "tar"},
		{"POST", "/images/create", `fromImage=demo&tag=1&platform=linux/amd64`, ""},
		{"DELETE", "/images/demo", "force=1", ""},
		{"POST", "/volumes/create", "", `{"Name":"v","DriverOpts":{"type":"tmpfs"}}`},
		{"GET", "/volumes", `filters={"dangling":["true"]}`, ""},
		{"POST", "/exec/x/start", "", `{"Detach":true,"Tty":true,"ConsoleSize":[1]}`},
		{"POST", "/auth", "", `{"username":"a","password":"b","serveraddress":"x"}`},
		{"HEAD", "/containers/c/archive", "path=/etc", ""},
		{"PUT", "/containers/c/archive", "path=/&noOverwriteDirNonDir=x", "tar"},
		{"GET", "/distribution/a/b/json", "", ""},
		{"POST", "/swarm/init", "", "{"},
		{"DELETE", "/plugins/x", "", ""},
		{"PATCH", "//x", "", "\x00"},
	} {
		f.Add(seed.method, seed.path, seed.query, seed.body)
	}
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		u := &url.URL{Scheme: "http", Host: "docker", Path: path, RawQuery: query}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, method, u.String(), strings.NewReader(body))
		if err != nil || !strings.HasPrefix(path, "/") {
			return // no client can send it
		}
		r.Header.Set("Content-Type", "application/json")
		e := apitest.New()
		defer e.Close()
		h := api.New(e, api.Options{Log: slog.New(alarm{slog.DiscardHandler, t})})
		for _, make := range []struct{ path, body string }{{"/images/create?fromSrc=-&repo=demo", "tar"}, {"/containers/create?name=c", `{"Image":"demo","Cmd":["echo","x"]}`}} {
			m := httptest.NewRequest(http.MethodPost, make.path, strings.NewReader(make.body))
			m.Header.Set("Content-Type", "application/json")
			h.ServeHTTP(httptest.NewRecorder(), m)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code < 200 || w.Code > 599 {
			t.Errorf("%s %s: status %d", method, u, w.Code)
		}
		if w.Code >= 400 && method != http.MethodHead && !strings.HasSuffix(path, "/attach/ws") {
			var said struct{ Message string }
			if text, _ := io.ReadAll(w.Body); json.Unmarshal(text, &said) != nil || said.Message == "" {
				t.Errorf("%s %s: %d %q", method, u, w.Code, text)
			}
		}
	})
}
