package api_test

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
)

// TestArchive: a path is told of in a header, packed, and unpacked to.
func TestArchive(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	l.image()
	id := l.create(`{"Image":"demo"}`)
	l.engine.Put(id, "/etc/motd", "hello")
	stat := func(resp *http.Response) container.PathStat {
		t.Helper()
		raw, err := base64.StdEncoding.DecodeString(resp.Header.Get("X-Docker-Container-Path-Stat"))
		if err != nil {
			t.Fatal(err)
		}
		var out container.PathStat
		if err := json.Unmarshal(raw, &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	resp, _ := l.do("HEAD", "/v1.45/containers/c/archive?path=/etc/motd", "")
	if s := stat(resp); resp.StatusCode != 200 || s.Name != "motd" || s.Size != 5 || s.Mode != 0o644 {
		t.Errorf("HEAD: %s %+v", resp.Status, s)
	}
	resp, text := l.do("GET", "/v1.45/containers/c/archive?path=/etc", "")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/x-tar" || !stat(resp).Mode.IsDir() || !strings.Contains(text, "hello") {
		t.Errorf("GET: %s %v", resp.Status, resp.Header)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "put", Size: 2})
	_, _ = io.WriteString(w, "in")
	_ = w.Close()
	resp, text = l.do("PUT", "/v1.45/containers/c/archive?path=/etc&noOverwriteDirNonDir=true", b.String(), "Content-Type", "application/x-tar")
	if content, ok := l.engine.File(id, "/etc/put"); resp.StatusCode != 200 || text != "" || !ok || content != "in" {
		t.Errorf("PUT: %s %s, the file has %q", resp.Status, text, content)
	}
	for _, method := range []string{"GET", "PUT"} {
		l.want(400, method, "/v1.45/containers/c/archive", "", nil)
		l.want(404, method, "/v1.45/containers/nope/archive?path=/etc", "", nil)
		if text := l.want(404, method, "/v1.45/containers/c/archive?path=/none", "", nil); !strings.Contains(text, "Could not find the file /none in container c") {
			t.Errorf("%s: %s", method, text)
		}
	}
	if text := l.want(400, "PUT", "/v1.45/containers/c/archive?path=/etc/motd", "", nil); !strings.Contains(text, "extraction point is not a directory") {
		t.Error(text)
	}
	if resp, _ := l.do("HEAD", "/v1.45/containers/c/archive?path=/none", ""); resp.StatusCode != 404 {
		t.Errorf("HEAD of nothing: %s", resp.Status)
	}
}

// TestArchiveCutShort: what fails in the middle ends the connection, so that nobody
// takes it for the whole.
func TestArchiveCutShort(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	l.image()
	l.create(`{"Image":"demo"}`)
	l.engine.CutShort = true
	_, r := l.raw("GET /v1.45/containers/c/archive?path=/tmp HTTP/1.1\r\nHost: x\r\n\r\n", false)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return // the little there was has not even been sent
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("half an archive ends like a whole one")
	}
}

// TestStats: once, or as it goes on; the fields are those of the version.
func TestStats(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	l.image()
	l.create(`{"Image":"demo","Cmd":["sleep"]}`)
	l.want(204, "POST", "/containers/c/start", "", nil)
	for query, want := range map[string]int{"": 3, "?stream=1": 3, "?stream=0": 1, "?stream=false&one-shot=true": 1} {
		text := l.want(200, "GET", "/v1.45/containers/c/stats"+query, "", nil)
		samples := strings.Split(strings.TrimSpace(text), "\n")
		if len(samples) != want || strings.Contains(text, "os_type") {
			t.Errorf("%s: %d samples, want %d: %s", query, len(samples), want, text)
		}
		compared := !strings.Contains(samples[len(samples)-1], `"preread":"0001-01-01T00:00:00Z"`)
		if compared == strings.Contains(query, "one-shot") {
			t.Errorf("%s: %s", query, samples[len(samples)-1])
		}
	}
	if text := l.want(200, "GET", "/v1.52/containers/c/stats?stream=0", "", nil); !strings.Contains(text, `"os_type":"linux"`) {
		t.Error(text)
	}
	l.want(400, "GET", "/v1.45/containers/c/stats?one-shot=1", "", nil)
	l.want(404, "GET", "/v1.45/containers/nope/stats", "", nil)
}

func TestTop(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	l.image()
	l.create(`{"Image":"demo","Cmd":["sleep"]}`)
	l.want(409, "GET", "/v1.45/containers/c/top", "", nil)
	l.want(204, "POST", "/containers/c/start", "", nil)
	var top container.TopResponse
	l.want(200, "GET", "/v1.45/containers/c/top?ps_args=aux", "", &top)
	if len(top.Titles) != 2 || len(top.Processes) != 1 || top.Processes[0][1] != "aux" {
		t.Errorf("%+v", top)
	}
}

// TestCommit: the query's words reach the engine, several changes in one as well.
func TestCommit(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	l.image()
	l.create(`{"Image":"demo"}`)
	var made struct{ ID string }
	l.want(201, "POST", "/v1.45/commit?container=c&repo=mine&tag=2&author=Ann&comment=why&pause=0&changes=CMD+a&changes=ENV+A%3D1%0AUSER+b", `{"User":"x"}`, &made)
	l.want(201, "POST", "/v1.45/commit?container=c", "null", nil)
	l.want(200, "GET", "/v1.45/images/mine:2/json", "", nil)
	got := l.engine.Committed
	if made.ID == "" || len(got) != 2 || got[0].Name != "mine:2" || got[0].Author != "Ann" || got[0].Message != "why" || got[0].Pause || got[0].Config.User != "x" {
		t.Fatalf("%s %+v", made.ID, got)
	}
	if diff := cmp.Diff([]string{"CMD a", "ENV A=1", "USER b"}, got[0].Changes); diff != "" {
		t.Error(diff)
	}
	if got[1].Name != "" || !got[1].Pause || got[1].Config != nil {
		t.Errorf("the defaults: %+v", got[1])
	}
	l.want(404, "POST", "/v1.45/commit?container=nope", "", nil)
	l.want(400, "POST", "/v1.45/commit", "", nil)
	l.engine.Put("c", "/etc/motd", "hello")
	if text := l.want(200, "GET", "/v1.45/containers/c/changes", "", nil); text != `[{"Kind":1,"Path":"/etc/motd"}]`+"\n" {
		t.Errorf("changes: %s", text)
	}
	if text := l.want(200, "GET", "/v1.45/containers/c/export", "", nil); !strings.Contains(text, "etc/motd") {
		t.Errorf("export: %q", text)
	}
	l.want(404, "GET", "/v1.45/containers/nope/export", "", nil)
}

func TestContainerPrune(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	l.image()
	id := l.create(`{"Image":"demo"}`)
	var report container.PruneReport
	l.want(200, "POST", `/v1.45/containers/prune?filters={"label":["none"]}`, "", &report)
	if len(report.ContainersDeleted) != 0 {
		t.Errorf("%+v", report)
	}
	l.want(400, "POST", `/v1.45/containers/prune?filters={"status":["exited"]}`, "", nil)
	l.want(200, "POST", "/v1.45/containers/prune", "", &report)
	if len(report.ContainersDeleted) != 1 || report.ContainersDeleted[0] != id {
		t.Errorf("%+v", report)
	}
}

// TestDiskUsage: old versions have lists, new ones sums, 1.52 both; lists are told
// when asked for.
func TestDiskUsage(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	l.image()
	l.create(`{"Image":"demo"}`)
	l.want(201, "POST", "/v1.45/volumes/create", `{"Name":"v"}`, nil)
	for query, want := range map[string]string{
		"/v1.41/system/df":                        "BuildCache BuilderSize Containers Images LayersSize Volumes",
		"/v1.51/system/df":                        "BuildCache Containers Images LayersSize Volumes",
		"/v1.52/system/df":                        "BuildCache BuildCacheUsage ContainerUsage Containers ImageUsage Images LayersSize VolumeUsage Volumes",
		"/v1.52/system/df?verbose=1":              "BuildCacheUsage ContainerUsage ImageUsage VolumeUsage",
		"/v1.55/system/df":                        "BuildCacheUsage ContainerUsage ImageUsage VolumeUsage",
		"/v1.55/system/df?type=image&type=volume": "ImageUsage VolumeUsage",
	} {
		var got map[string]json.RawMessage
		text := l.want(200, "GET", query, "", &got)
		keys := make([]string, 0, len(got))
		for _, k := range []string{"BuildCache", "BuildCacheUsage", "BuilderSize", "ContainerUsage", "Containers", "ImageUsage", "Images", "LayersSize", "VolumeUsage", "Volumes"} {
			if _, ok := got[k]; ok {
				keys = append(keys, k)
			}
		}
		if strings.Join(keys, " ") != want || len(keys) != len(got) {
			t.Errorf("%s has %s, want %s", query, keys, want)
		}
		if listed := strings.Contains(string(got["ImageUsage"]), "Items"); listed != strings.Contains(query, "verbose") {
			t.Errorf("%s: %s", query, text)
		}
	}
	if text := l.want(200, "GET", "/v1.41/system/df?type=image", "", nil); !strings.Contains(text, `"VirtualSize":3`) || !strings.Contains(text, `"Containers":null`) {
		t.Errorf("images of old: %s", text)
	}
	l.want(400, "GET", "/v1.45/system/df?type=plugin", "", nil)
}
