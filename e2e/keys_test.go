package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// recorded is one line of a recorded list of an answer's keys, as testdata/keys has
// them: what Docker 20.10 answered, and the documents of the API's versions.
type recorded struct {
	path        string
	first, last int // minor versions
	optional    bool
}

func readKeys(t *testing.T, kind string) []recorded {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "keys", kind+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	var out []recorded
	for lines := bufio.NewScanner(strings.NewReader(string(text))); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "#") || line == "" {
			continue
		}
		r := recorded{optional: line[0] == '?'}
		if _, err := fmt.Sscanf(line[1:], " 1.%d-1.%d %s", &r.first, &r.last, &r.path); err != nil {
			t.Fatalf("%s: %q: %v", kind, line, err)
		}
		out = append(out, r)
	}
	return out
}

// named are the objects whose keys are names, which are no keys of the API.
var named = regexp.MustCompile(`(^|\.)(Networks|Ports|Labels|ExposedPorts|PortBindings|Containers|Options|Details|IndexConfigs|Runtimes|DriverOpts|Subnets|Sysctls|Tmpfs|status|annotations|Annotations)$`)

// keysOf adds the path of every key below v to the set.
func keysOf(v any, path string, set map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for key, member := range v {
			if named.MatchString(path) {
				key = "*"
			}
			below := strings.TrimPrefix(path+"."+key, ".")
			set[below] = true
			keysOf(member, below, set)
		}
	case []any:
		for _, member := range v {
			if path == "" {
				keysOf(member, "", set)
			} else {
				keysOf(member, path+"[]", set)
			}
		}
	}
}

// overHTTP speaks HTTP to the daemon.
func (s *site) overHTTP() *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", s.Socket)
	}}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

// get fails the test unless the daemon answers a path with 200, and returns the body.
func (s *site) get(client *http.Client, path string) []byte {
	s.t.Helper()
	resp, err := client.Get("http://docker" + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("GET %s: %s %v %s", path, resp.Status, err, body)
	}
	return body
}

// TestKeys: every answer has, in each version of the API, the keys that Docker's has,
// and no others.
func TestKeys(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Must("network", "create", "--label", "a=b", "back")
	s.mustDocker("volume", "create", "--label", "a=b", "data")
	s.mustDocker("run", "-d", "--name", "web", "--label", "a=b", "-p", "8080:80", "--expose", "81", "-v", "data:/data",
		"--health-cmd", "true", "--health-interval", "100ms", "demo", "sleep", "3600")
	s.Must("network", "connect", "back", "web")
	client := s.overHTTP()
	eventually(t, "the health is checked", func() bool {
		return strings.Contains(string(s.get(client, "/containers/web/json")), `"ExitCode":0,"Output"`)
	})
	for kind, path := range map[string]string{
		"inspect": "/containers/web/json?size=1", "list": "/containers/json?size=1", "info": "/info", "version": "/version",
		"network": "/networks/back", "networks": "/networks", "image": "/images/demo/json", "images": "/images/json",
		"volume": "/volumes/data", "volumes": "/volumes",
	} {
		list := readKeys(t, kind)
		for version := 40; version <= 55; version++ {
			var answer any
			if err := json.Unmarshal(s.get(client, fmt.Sprintf("/v1.%d%s", version, path)), &answer); err != nil {
				t.Fatal(err)
			}
			got := make(map[string]bool)
			keysOf(answer, "", got)
			for _, r := range list {
				if r.first > version || version > r.last {
					continue
				}
				if !got[r.path] && !r.optional {
					t.Errorf("%s, 1.%d: %s is missing", kind, version, r.path)
				}
				delete(got, r.path)
			}
			for path := range got {
				t.Errorf("%s, 1.%d: %s is not Docker's", kind, version, path)
			}
		}
	}
}

// kindOf is what a value is, and whether there is something in it: clients tell null
// from an empty list.
func kindOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "bool"
	case float64:
		return "number"
	case string:
		return "text"
	case []any:
		if len(v) == 0 {
			return "empty list"
		}
		return "list"
	case map[string]any:
		if len(v) == 0 {
			return "empty object"
		}
	}
	return "object"
}

// TestDefaults: what holds where nothing was asked for is shown in the form that
// Docker 20.10 gives it.
func TestDefaults(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.mustDocker("create", "--name", "idle", "demo", "sleep", "1000")
	var answer map[string]any
	if err := json.Unmarshal(s.get(s.overHTTP(), "/v1.41/containers/idle/json"), &answer); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("testdata", "keys", "created.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		path, want, found := strings.Cut(strings.TrimSpace(line), ": ")
		if !found || line[0] == '#' {
			continue
		}
		var value any = answer
		for name := range strings.SplitSeq(path, ".") {
			value = value.(map[string]any)[name]
		}
		if got := kindOf(value); got != want {
			t.Errorf("%s is of the kind %s, want %s", path, got, want)
		}
	}
}
