package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestContainerLife(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	l.image()
	if text := l.want(404, "POST", "/containers/create", `{"Image":"nope"}`, nil); !strings.Contains(text, "No such image: nope:latest\"") {
		t.Error(text)
	}
	if text := l.want(201, "POST", "/containers/create?name=web", `{"Image":"demo","Cmd":["sleep"]}`, nil); !strings.Contains(text, `"Warnings":[]`) {
		t.Errorf("clients take no null for Warnings: %s", text)
	}
	l.want(409, "POST", "/containers/create?name=web", `{"Image":"demo","Cmd":["sleep"]}`, nil)
	l.want(204, "POST", "/containers/web/start", "", nil)
	l.want(304, "POST", "/containers/web/start", "", nil)
	l.want(400, "POST", "/containers/web/start", `{"Binds":[]}`, nil)
	var list []struct{ Names []string }
	l.want(200, "GET", "/containers/json", "", &list)
	if diff := cmp.Diff([]string{"/web"}, list[0].Names); diff != "" {
		t.Error(diff)
	}
	l.want(409, "DELETE", "/containers/web", "", nil)
	l.want(400, "POST", "/containers/web/stop?t=soon", "", nil)
	l.want(204, "POST", "/containers/web/stop?t=1", "", nil)
	l.want(304, "POST", "/containers/web/stop", "", nil)
	l.want(409, "POST", "/containers/web/kill", "", nil)
	l.want(204, "POST", "/containers/web/restart", "", nil)
	l.want(204, "POST", "/containers/web/rename?name=old", "", nil)
	l.want(404, "GET", "/containers/web/json", "", nil)
	l.want(404, "DELETE", "/containers/old/alias?link=1", "", nil)
	l.want(204, "DELETE", "/containers/old?force=1", "", nil)
	if text := l.want(200, "GET", "/containers/json?all=1", "", nil); strings.TrimSpace(text) != "[]" {
		t.Errorf("an empty list is [], not %s", text)
	}
	l.want(400, "GET", "/containers/json?filters=nope", "", nil)
}

func TestDefaultNetwork(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"left out":  `{"Image":"demo","MacAddress":"02:42:ac:11:00:09"}`,
		"default":   `{"Image":"demo","HostConfig":{"NetworkMode":"default"},"NetworkingConfig":{"EndpointsConfig":{"default":{"MacAddress":"02:42:ac:11:00:09"}}}}`,
		"by name":   `{"Image":"demo","HostConfig":{"NetworkMode":"bridge"},"NetworkingConfig":{"EndpointsConfig":{"bridge":{"MacAddress":"02:42:ac:11:00:09"}}}}`,
		"two ways":  `{"Image":"demo","HostConfig":{"NetworkMode":"default"},"MacAddress":"02:42:ac:11:00:01","NetworkingConfig":{"EndpointsConfig":{"default":{"MacAddress":"02:42:ac:11:00:09"}}}}`,
		"null maps": `{"Image":"demo","HostConfig":null,"NetworkingConfig":null,"MacAddress":"02:42:ac:11:00:09"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := unixLab(t)
			l.image()
			l.want(201, "POST", "/v1.43/containers/create", body, nil)
			got := l.engine.Created[0]
			if got.HostConfig.NetworkMode != "bridge" || len(got.NetworkingConfig.EndpointsConfig) != 1 {
				t.Fatalf("mode %q, endpoints %v", got.HostConfig.NetworkMode, got.NetworkingConfig.EndpointsConfig)
			}
			if mac := got.NetworkingConfig.EndpointsConfig["bridge"].MacAddress.String(); mac != "02:42:ac:11:00:09" {
				t.Error(mac)
			}
		})
	}
}

func TestLegacyInspect(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	l.image()
	l.create(`{"Image":"demo","Cmd":["sleep"]}`)
	l.want(204, "POST", "/containers/c/start", "", nil)
	type settings struct {
		IPAddress, Gateway, MacAddress, EndpointID *string
		IPPrefixLen                                *int
		Networks                                   map[string]json.RawMessage
	}
	var old, current struct{ NetworkSettings settings }
	l.want(200, "GET", "/v1.51/containers/c/json", "", &old)
	l.want(200, "GET", "/v1.52/containers/c/json", "", &current)
	s := old.NetworkSettings
	if s.IPAddress == nil || *s.IPAddress != "172.17.0.2" || *s.Gateway != "172.17.0.1" ||
		*s.MacAddress != "02:42:ac:11:00:02" || *s.IPPrefixLen != 16 || *s.EndpointID != "e0" || s.Networks["bridge"] == nil {
		t.Errorf("1.51: %+v", s)
	}
	if s := current.NetworkSettings; s.IPAddress != nil || s.Networks["bridge"] == nil {
		t.Errorf("1.52: %+v", s)
	}
}

// TestWaitHeaders: docker run starts the container when the wait's headers have
// come, so they must not wait for the exit.
func TestWaitHeaders(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	l.image()
	l.create(`{"Image":"demo","Cmd":["exit","7"]}`)
	req, _ := http.NewRequestWithContext(t.Context(), "POST", "http://localhost/containers/c/wait?condition=next-exit", http.NoBody)
	resp, err := l.client.Do(req) // returns with the headers
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	l.want(204, "POST", "/containers/c/start", "", nil)
	var exit struct{ StatusCode int }
	if err := json.NewDecoder(resp.Body).Decode(&exit); err != nil || exit.StatusCode != 7 {
		t.Errorf("%v %+v", err, exit)
	}
	l.want(400, "POST", "/containers/c/wait?condition=later", "", nil)
	l.want(404, "POST", "/containers/nope/wait", "", nil)
}

func TestLogs(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	l.image()
	l.create(`{"Image":"demo","Cmd":["echo","one\ntwo"]}`)
	l.want(204, "POST", "/containers/c/start", "", nil)
	l.want(200, "POST", "/containers/c/wait", "", nil)
	if got := l.want(200, "GET", "/containers/c/logs?stdout=1&stderr=1", "", nil); got != "\x01\x00\x00\x00\x00\x00\x00\x04one\n\x01\x00\x00\x00\x00\x00\x00\x04two\n" {
		t.Errorf("%q", got)
	}
	if got := l.want(200, "GET", "/containers/c/logs?stdout=1&tail=1&follow=1", "", nil); got != "\x01\x00\x00\x00\x00\x00\x00\x04two\n" {
		t.Errorf("%q", got)
	}
	stamped := l.want(200, "GET", "/containers/c/logs?stdout=1&tail=1&timestamps=1", "", nil)
	if _, err := time.Parse("2006-01-02T15:04:05.000000000Z", stamped[8:38]); err != nil || stamped[38:] != " two\n" {
		t.Errorf("%q: %v", stamped, err)
	}
	if got := l.want(200, "GET", "/containers/c/logs?stderr=1", "", nil); got != "" {
		t.Errorf("%q", got)
	}
	l.want(400, "GET", "/containers/c/logs", "", nil)
	l.want(400, "GET", "/containers/c/logs?stdout=1&since=yesterday", "", nil)
	l.want(404, "GET", "/containers/nope/logs?stdout=1", "", nil)
	for version, want := range map[string]string{
		"1.41": "application/vnd.docker.raw-stream", "1.42": "application/vnd.docker.multiplexed-stream",
	} {
		if resp, _ := l.do("GET", "/v"+version+"/containers/c/logs?stdout=1", ""); resp.Header.Get("Content-Type") != want {
			t.Errorf("%s: %s", version, resp.Header.Get("Content-Type"))
		}
	}
}

func TestImages(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	l.want(200, "POST", "/images/create?fromSrc=-&repo=a.example/x/demo&tag=1&changes=CMD+echo+hi&changes=EXPOSE+80&message=why", "tar", nil)
	if diff := cmp.Diff([]string{"CMD echo hi", "EXPOSE 80", "why"}, l.engine.Imported); diff != "" {
		t.Error(diff)
	}
	l.want(200, "GET", "/images/a.example/x/demo:1/json", "", nil)
	l.want(201, "POST", "/images/a.example/x/demo:1/tag?repo=demo&tag=2", "", nil)
	l.want(400, "POST", "/images/a.example/x/demo:1/tag", "", nil)
	l.want(200, "DELETE", "/images/a.example/x/demo:1", "", nil)
	if text := l.want(200, "GET", "/v1.43/images/json", "", nil); !strings.Contains(text, `"VirtualSize":3`) {
		t.Error(text)
	}
	if text := l.want(200, "GET", "/v1.44/images/json", "", nil); strings.Contains(text, "VirtualSize") {
		t.Error(text)
	}
	if text := l.want(200, "POST", "/images/create?fromSrc=http://x/y.tar&repo=away", "", nil); !strings.Contains(text, `{"status":"Downloading from http://x/y.tar"}`) || !strings.Contains(text, `{"status":"sha256:`) {
		t.Error(text)
	}
	if text := l.want(200, "POST", "/images/create?fromSrc=http://nosuch/", "", nil); !strings.Contains(text, `"error":"download http://nosuch/: no such host"`) {
		t.Error(text)
	}
	l.want(501, "DELETE", "/images/demo:2?platforms=x", "", nil)
	l.want(400, "POST", "/images/create", "", nil)
	l.want(400, "POST", "/images/create?fromSrc=-", "", nil)
}

func TestImageLoad(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	if got := l.want(200, "POST", "/images/load", "demo\n…", nil); got != `{"status":"read 8 bytes"}`+"\n"+`{"stream":"Loaded image: demo:latest\n"}`+"\n" {
		t.Error(got)
	}
	if got := l.want(200, "POST", "/images/load?quiet=1", "demo\n…", nil); got != `{"stream":"Loaded image: demo:latest\n"}`+"\n" {
		t.Error(got)
	}
	// Once the answer has begun, an error is a message of it.
	if got := l.want(200, "POST", "/images/load", "x", nil); !strings.Contains(got, `{"errorDetail":{"code":500,"message":"the archive has no manifest"},"error":"the archive has no manifest"}`) {
		t.Error(got)
	}
	l.want(500, "POST", "/images/load?quiet=1", "x", nil)
}

func TestNetworks(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	var created struct{ ID string }
	l.want(201, "POST", "/networks/create", `{"Name":"mynet","Driver":"bridge","IPAM":{"Config":[{"Subnet":"10.1.0.0/24"}]}}`, &created)
	l.want(409, "POST", "/networks/create", `{"Name":"mynet"}`, nil)
	l.want(400, "POST", "/networks/create", ``, nil)
	if text := l.want(400, "POST", "/networks/create", `{"Name":"x","IPAM":{"Config":[{"Subnet":"10.1.0.0/99"}]}}`, nil); !strings.Contains(text, `invalid subnet \"10.1.0.0/99\"`) {
		t.Error(text)
	}
	if text := l.want(200, "GET", "/networks/"+created.ID, "", nil); !strings.Contains(text, `"Containers":{}`) || !strings.Contains(text, `"Subnet":"10.1.0.0/24"`) {
		t.Error(text)
	}
	var list []struct{ Name string }
	l.want(200, "GET", "/networks", "", &list)
	if len(list) != 4 {
		t.Errorf("%v", list)
	}
	l.want(404, "GET", "/networks/mynet?scope=swarm", "", nil)
	l.want(400, "GET", "/networks/mynet?verbose=maybe", "", nil)
	l.want(200, "GET", "/networks/mynet?verbose=true&scope=local", "", nil)
	l.image()
	l.want(201, "POST", "/containers/create?name=web", `{"Image":"demo","Cmd":["sleep"]}`, nil)
	settings := `{"Container":"web","EndpointConfig":{"Aliases":["w"],"MacAddress":"02:42:ac:11:00:09","GwPriority":3,` +
		`"IPAMConfig":{"IPv4Address":"10.1.0.9","LinkLocalIPs":["169.254.1.1"]}}}`
	l.want(200, "POST", "/networks/mynet/connect", settings, nil)
	if got := l.engine.Connected[0].EndpointConfig; got.GwPriority != 3 || got.IPAMConfig.IPv4Address.String() != "10.1.0.9" || got.Aliases[0] != "w" {
		t.Errorf("connect asked for %+v", got)
	}
	if text := l.want(403, "POST", "/networks/mynet/connect", settings, nil); !strings.Contains(text, "endpoint with name web already exists in network mynet") {
		t.Error(text)
	}
	l.want(400, "POST", "/networks/mynet/connect", `{}`, nil)
	l.want(400, "POST", "/networks/mynet/connect", `{"Container":"web","EndpointConfig":{"IPAMConfig":{"IPv4Address":"10.1.0.900"}}}`, nil)
	l.want(404, "POST", "/networks/nosuch/connect", `{"Container":"web"}`, nil)
	if text := strings.TrimSpace(l.want(200, "POST", "/networks/prune", "", nil)); text != `{"NetworksDeleted":null}` {
		t.Errorf("a network that is used was pruned: %s", text)
	}
	l.want(200, "POST", "/networks/mynet/disconnect", `{"Container":"web","Force":true}`, nil)
	l.want(403, "POST", "/networks/mynet/disconnect", `{"Container":"web"}`, nil)
	l.want(400, "POST", "/networks/mynet/disconnect", ``, nil)
	l.want(201, "POST", "/networks/create", `{"Name":"other"}`, nil)
	l.want(400, "POST", "/networks/prune?filters=nope", "", nil)
	l.want(204, "DELETE", "/networks/mynet", "", nil)
	l.want(404, "DELETE", "/networks/mynet", "", nil)
	if text := l.want(403, "DELETE", "/networks/bridge", "", nil); !strings.Contains(text, "is a pre-defined network and cannot be removed") {
		t.Error(text)
	}
}
