package api

import (
	"net/http"

	"github.com/moby/moby/api/types/volume"
)

func (s *server) volumeList(w http.ResponseWriter, r *http.Request) error {
	chosen, err := filters(r.URL.Query())
	if err != nil {
		return err
	}
	list, err := s.engine.VolumeList(r.Context(), chosen)
	if err != nil {
		return err
	}
	if list == nil {
		list = []volume.Volume{}
	}
	writeJSON(w, http.StatusOK, volume.ListResponse{Volumes: list})
	return nil
}

func (s *server) volumeCreate(w http.ResponseWriter, r *http.Request) error {
	var body volume.CreateRequest
	if _, err := readJSON(w, r, &body); err != nil {
		return err
	}
	named(r, "volume", body.Name)
	made, err := s.engine.VolumeCreate(r.Context(), body)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, made)
	return nil
}

func (s *server) volumeInspect(w http.ResponseWriter, r *http.Request) error {
	got, err := s.engine.VolumeInspect(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, got)
	return nil
}

func (s *server) volumeRemove(w http.ResponseWriter, r *http.Request) error {
	if err := s.engine.VolumeRemove(r.Context(), r.PathValue("name"), boolean(r.URL.Query(), "force")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// anonymousOnly is the version since which a prune spares the volumes that have names,
// unless it is told not to.
const anonymousOnly minor = 42

func (s *server) volumePrune(w http.ResponseWriter, r *http.Request) error {
	chosen, err := filters(r.URL.Query())
	if err != nil {
		return err
	}
	if versionOf(r) < anonymousOnly {
		if len(chosen["all"]) > 0 {
			return invalid("invalid filter 'all': it is of API 1.42 and later, before that all unused volumes are removed")
		}
		if chosen == nil {
			chosen = map[string][]string{}
		}
		chosen["all"] = []string{"true"}
	}
	report, err := s.engine.VolumePrune(r.Context(), chosen)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, report)
	return nil
}
