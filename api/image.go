package api

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"

	"github.com/fairlead/fairlead/engine"
)

func (s *server) imageList(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	chosen, err := filters(q)
	if err != nil {
		return err
	}
	list, err := s.engine.ImageList(r.Context(), engine.ImageListOptions{
		Filters: chosen, SharedSize: boolean(q, "shared-size"), Manifests: boolean(q, "manifests"),
	})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, imagesFor(versionOf(r), list))
	return nil
}

func (s *server) imageInspect(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	platform, err := platformJSON(q.Get("platform"))
	if err != nil {
		return err
	}
	if platform != "" && boolean(q, "manifests") {
		return invalid("conflicting options: manifests and platform options cannot both be set")
	}
	got, err := s.engine.ImageInspect(r.Context(), r.PathValue("name"), engine.ImageInspectOptions{Platform: platform, Manifests: boolean(q, "manifests")})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, imageFor(versionOf(r), got))
	return nil
}

func (s *server) imageTag(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	target := reference(q.Get("repo"), q.Get("tag"))
	if target == "" {
		return invalid("invalid reference format: the new name is empty")
	}
	if err := s.engine.ImageTag(r.Context(), r.PathValue("name"), target); err != nil {
		return err
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

// reference joins a repository and a tag; either may hold both.
func reference(repo, tag string) string {
	if repo == "" || tag == "" {
		return repo
	}
	return repo + ":" + tag
}

func (s *server) imageRemove(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	if strings.TrimSpace(name) == "" {
		return invalid("image name cannot be blank")
	}
	if len(r.URL.Query()["platforms"]) > 0 {
		return fmt.Errorf("removing an image for single platforms (platforms) is not supported: remove it by its name: %w", errdefs.ErrNotImplemented)
	}
	removed, err := s.engine.ImageRemove(r.Context(), name, boolean(r.URL.Query(), "force"))
	if err != nil {
		return err
	}
	if removed == nil {
		removed = []image.DeleteResponse{}
	}
	writeJSON(w, http.StatusOK, removed)
	return nil
}

// imageCreate pulls an image, or imports a root file system from the request's body.
func (s *server) imageCreate(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	if from := q.Get("fromImage"); from != "" {
		named(r, "image", reference(from, q.Get("tag")))
		if err := ignoreBody(w, r); err != nil {
			return err
		}
		return s.imagePull(w, r)
	}
	m := &messages{s: s, w: w, r: r}
	archive := r.Body
	switch source := q.Get("fromSrc"); source {
	case "-":
	case "":
		return invalid("fromSrc is missing: want a URL, or fromSrc=- and the archive as the request's body")
	default:
		var err error
		if archive, err = s.engine.ImageDownload(r.Context(), source, m.send); err != nil {
			return m.end(err)
		}
		defer archive.Close()
	}
	id, err := s.engine.ImageImport(r.Context(), archive, reference(q.Get("repo"), q.Get("tag")), q["changes"], cmp.Or(q.Get("message"), "Imported from "+q.Get("fromSrc")), q.Get("platform"))
	if err != nil {
		return m.end(err)
	}
	m.send(jsonstream.Message{Status: id})
	return nil
}
