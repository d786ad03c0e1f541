package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/volume"
)

func TestVolumes(t *testing.T) {
	l := unixLab(t)
	var list volume.ListResponse
	if text := l.want(http.StatusOK, "GET", "/v1.45/volumes", "", &list); !strings.Contains(text, `"Volumes":[]`) {
		t.Errorf("without any: %s", text)
	}
	var made volume.Volume
	l.want(http.StatusCreated, "POST", "/v1.45/volumes/create", `{"Name":"data","Labels":{"a":"1"},"DriverOpts":{"type":"tmpfs","device":"tmpfs"}}`, &made)
	if made.Name != "data" || made.Driver != "local" || made.Scope != "local" || made.Labels["a"] != "1" || made.Options["type"] != "tmpfs" {
		t.Errorf("%+v", made)
	}
	// A request without a body asks for an anonymous one.
	l.want(http.StatusCreated, "POST", "/v1.45/volumes/create", "", &made)
	if len(made.Name) != 64 {
		t.Errorf("%+v", made)
	}
	l.want(http.StatusOK, "GET", `/v1.45/volumes?filters={"name":{"dat":true}}`, "", &list)
	if len(list.Volumes) != 1 || list.Volumes[0].Name != "data" {
		t.Errorf("%+v", list)
	}
	l.want(http.StatusBadRequest, "GET", "/v1.45/volumes?filters=nonsense", "", nil)
	l.want(http.StatusBadRequest, "POST", "/v1.45/volumes/create", `{"Name":5}`, nil)
	l.want(http.StatusNotFound, "POST", "/v1.45/volumes/create", `{"Name":"x1","Driver":"rexray"}`, nil)
	l.want(http.StatusOK, "GET", "/v1.45/volumes/data", "", &made)
	l.want(http.StatusNotFound, "GET", "/v1.45/volumes/nosuch", "", nil)
	l.image()
	l.create(`{"Image":"demo","HostConfig":{"Binds":["data:/data"]}}`)
	l.want(http.StatusConflict, "DELETE", "/v1.45/volumes/data", "", nil)
	l.want(http.StatusNotFound, "DELETE", "/v1.45/volumes/nosuch", "", nil)
	l.want(http.StatusNoContent, "DELETE", "/v1.45/volumes/nosuch?force=1", "", nil)
	l.want(http.StatusServiceUnavailable, "PUT", "/v1.45/volumes/data", "{}", nil)
}

// TestVolumePrune: from API 1.42 on the volumes that have names stay, unless all are to
// go.
func TestVolumePrune(t *testing.T) {
	l := unixLab(t)
	left := func(path string) string {
		t.Helper()
		l.want(http.StatusCreated, "POST", "/v1.45/volumes/create", `{"Name":"data"}`, nil)
		l.want(http.StatusCreated, "POST", "/v1.45/volumes/create", `{}`, nil)
		var report volume.PruneReport
		l.want(http.StatusOK, "POST", path, "", &report)
		var list volume.ListResponse
		l.want(http.StatusOK, "GET", "/v1.45/volumes", "", &list)
		var names []string
		for _, v := range list.Volumes {
			names = append(names, v.Name)
		}
		if int(report.SpaceReclaimed) != 10*len(report.VolumesDeleted) {
			t.Errorf("%+v", report)
		}
		return strings.Join(names, " ")
	}
	for path, want := range map[string]string{
		"/v1.42/volumes/prune": "data", "/v1.41/volumes/prune": "", `/v1.45/volumes/prune?filters={"all":["true"]}`: "",
	} {
		if got := left(path); got != want {
			t.Errorf("%s left %q, want %q", path, got, want)
		}
	}
	l.want(http.StatusBadRequest, "POST", `/v1.41/volumes/prune?filters={"all":["true"]}`, "", nil)
}
