package api

import (
	"net/http"
	"strings"

	"github.com/moby/moby/api/types/network"
)

func (s *server) networkList(w http.ResponseWriter, r *http.Request) error {
	chosen, err := filters(r.URL.Query())
	if err != nil {
		return err
	}
	list, err := s.engine.NetworkList(r.Context(), chosen)
	if err != nil {
		return err
	}
	if list == nil {
		list = []network.Inspect{}
	}
	for i := range list {
		if list[i].Containers == nil {
			list[i].Containers = map[string]network.EndpointResource{}
		}
	}
	writeJSON(w, http.StatusOK, list)
	return nil
}

func (s *server) networkCreate(w http.ResponseWriter, r *http.Request) error {
	var body network.CreateRequest
	empty, err := readJSON(w, r, &body)
	switch {
	case err != nil:
		return badSubnet(err)
	case empty:
		return invalid("invalid JSON: got EOF while reading request body")
	}
	created, err := s.engine.NetworkCreate(r.Context(), body)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, created)
	return nil
}

// badSubnet says of a body that cannot be decoded which subnet, or range of one, is
// none; Docker's client passes on what was typed.
func badSubnet(err error) error {
	_, rest, found := strings.Cut(err.Error(), "netip.ParsePrefix(")
	text, _, closed := strings.Cut(rest, "): ")
	if !found || !closed {
		return err
	}
	return invalid("invalid subnet %s: want ADDRESS/LENGTH, as 172.30.0.0/24", text)
}

func (s *server) networkInspect(w http.ResponseWriter, r *http.Request) error {
	got, err := s.engine.NetworkInspect(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	if got.Containers == nil {
		got.Containers = map[string]network.EndpointResource{}
	}
	if versionOf(r) < 52 {
		got.Status = nil
	}
	writeJSON(w, http.StatusOK, got)
	return nil
}

func (s *server) networkRemove(w http.ResponseWriter, r *http.Request) error {
	if err := s.engine.NetworkRemove(r.Context(), r.PathValue("name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
