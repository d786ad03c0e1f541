package api_test

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/registry"
)

func TestImagePull(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	got := l.want(200, "POST", "/images/create?fromImage=demo&tag=latest&platform=linux/arm64", "", nil)
	for _, want := range []string{
		`{"status":"Pulling fs layer","progressDetail":{},"id":"0123456789ab"}` + "\n",
		`{"status":"Downloading","progressDetail":{"current":10,"total":20},"id":"0123456789ab"}` + "\n",
		`{"status":"Status: Downloaded newer image for demo:latest"}` + "\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if r := l.engine.Pulled[0]; r.Ref != "demo:latest" || r.Platform != "linux/arm64" {
		t.Errorf("%+v", r)
	}
	// What fails before anything was told has a status of its own, what fails later is
	// the last message.
	if text := l.want(404, "POST", "/images/create?fromImage=missing&tag=latest", "", nil); !strings.Contains(text, "manifest for missing:latest not found") {
		t.Error(text)
	}
	if text := l.want(200, "POST", "/images/create?fromImage=broken&tag=latest", "", nil); !strings.HasSuffix(text,
		`"errorDetail":{"code":409,"message":"filesystem layer verification failed"},"error":"filesystem layer verification failed"}`+"\n") {
		t.Error(text)
	}
	digest := "sha256:" + strings.Repeat("0", 64)
	l.want(200, "POST", "/images/create?fromImage=a.example:5000/x/y&tag="+digest, "", nil)
	l.want(200, "POST", "/images/create?fromImage=a.example:5000/x/y", "", nil)
	for i, want := range []string{"a.example:5000/x/y@" + digest, "a.example:5000/x/y"} {
		if got := l.engine.Pulled[3+i].Ref; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestRegistryAuthHeader(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	creds := `{"username":"me","password":"s?>cret","serveraddress":"a.example"}`
	joined := `{"auth":"` + base64.StdEncoding.EncodeToString([]byte("me:s?>cret")) + `"}`
	for _, header := range []string{
		base64.URLEncoding.EncodeToString([]byte(creds)), base64.StdEncoding.EncodeToString([]byte(creds)),
		base64.RawURLEncoding.EncodeToString([]byte(creds)), base64.URLEncoding.EncodeToString([]byte(joined)),
	} {
		l.engine.Pulled = nil
		resp, text := l.do("POST", "/images/create?fromImage=demo&tag=1", "", registry.AuthHeader, header)
		if resp.StatusCode != http.StatusOK || l.engine.Pulled[0].Auth.Username != "me" || l.engine.Pulled[0].Auth.Password != "s?>cret" {
			t.Errorf("%s: %s %s", header, resp.Status, text)
		}
	}
	for _, header := range []string{"", "e30=", base64.URLEncoding.EncodeToString([]byte("null"))} {
		if resp, text := l.do("POST", "/images/create?fromImage=demo&tag=1", "", registry.AuthHeader, header); resp.StatusCode != http.StatusOK {
			t.Errorf("%q: %s %s", header, resp.Status, text)
		}
	}
	for _, path := range []string{"/images/create?fromImage=demo&tag=1", "/images/demo/push", "/distribution/demo/json"} {
		method := "POST"
		if strings.HasPrefix(path, "/distribution") {
			method = "GET"
		}
		for _, bad := range []string{"!", base64.URLEncoding.EncodeToString([]byte("[")), base64.URLEncoding.EncodeToString([]byte(`{"auth":"x"}`))} {
			if resp, text := l.do(method, path, "", registry.AuthHeader, bad); resp.StatusCode != http.StatusBadRequest {
				t.Errorf("%s with %q: %s %s", path, bad, resp.Status, text)
			}
		}
	}
}

func TestImagePushAndLogin(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	l.image()
	if got := l.want(200, "POST", "/images/demo/push?tag=latest", "", nil); !strings.Contains(got, `{"status":"Pushed","progressDetail":{},"id":"0123456789ab"}`) {
		t.Error(got)
	}
	l.want(200, "POST", "/images/demo/push?tag=latest&platform="+escaped(`{"os":"linux","architecture":"arm64","variant":"v8"}`), "", nil)
	if r := l.engine.Pushed; r[0].Ref != "demo:latest" || r[1].Platform != "linux/arm64/v8" {
		t.Errorf("%+v", r)
	}
	l.want(400, "POST", "/images/demo/push?platform=linux", "", nil)
	if text := l.want(404, "POST", "/images/a/b/push?tag=c", "", nil); !strings.Contains(text, "An image does not exist locally with the tag: a/b:c") {
		t.Error(text)
	}
	var answer registry.AuthResponse
	l.want(200, "POST", "/auth", `{"username":"me","password":"secret","serveraddress":"a.example"}`, &answer)
	if answer.Status != "Login Succeeded" {
		t.Errorf("%+v", answer)
	}
	l.want(401, "POST", "/auth", `{"username":"me","password":"wrong"}`, nil)
	l.want(400, "POST", "/auth", "", nil)
	l.want(400, "POST", "/auth", "[]", nil)
	var found registry.DistributionInspect
	l.want(200, "GET", "/distribution/a.example/x/y:1/json", "", &found)
	if len(found.Platforms) != 1 || found.Descriptor.Digest == "" {
		t.Errorf("%+v", found)
	}
	l.want(404, "GET", "/distribution/missing/json", "", nil)
}

func TestImageArchives(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	l.image()
	resp, text := l.do("GET", "/images/demo/get", "")
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/x-tar" || text != "demo\n" {
		t.Errorf("%s %s %q", resp.Status, resp.Header.Get("Content-Type"), text)
	}
	if text := l.want(200, "GET", "/images/get?names=demo&names=demo:latest", "", nil); text != "demo\ndemo:latest\n" {
		t.Errorf("%q", text)
	}
	l.want(404, "GET", "/images/get?names=demo&names=nosuch", "", nil)
	l.want(404, "GET", "/images/a/b/get", "", nil)
	l.want(400, "GET", "/images/demo/get?platform=x", "", nil)
	l.want(400, "GET", "/images/demo/get?platform="+escaped(`{"os":"linux","architecture":"a"}`)+"&platform="+escaped(`{"os":"linux","architecture":"b"}`), "", nil)
	var steps []struct{ ID, CreatedBy string }
	l.want(200, "GET", "/images/demo/history", "", &steps)
	if len(steps) != 2 || !strings.HasPrefix(steps[0].ID, "sha256:") || steps[1].ID != "<missing>" {
		t.Errorf("%+v", steps)
	}
	l.want(404, "GET", "/images/nosuch/history", "", nil)
	var report struct{ ImagesDeleted []struct{ Deleted string } }
	l.want(200, "POST", "/images/prune?filters="+escaped(`{"dangling":{"false":true},"until":{"24h":true}}`), "", &report)
	if f := l.engine.Pruned[0]; !slices.Equal(f["dangling"], []string{"false"}) || !slices.Equal(f["until"], []string{"24h"}) {
		t.Errorf("%v", f)
	}
	l.want(400, "POST", "/images/prune?filters=x", "", nil)
	l.want(400, "GET", "/images/demo/json?manifests=1&platform="+escaped(`{"os":"linux","architecture":"a"}`), "", nil)
}

// escaped is the text in a query.
func escaped(text string) string {
	return strings.NewReplacer("{", "%7B", "}", "%7D", `"`, "%22", ":", "%3A", ",", "%2C").Replace(text)
}
