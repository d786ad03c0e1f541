package api

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
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
	writeJSON(w, http.StatusOK, reshape(versionOf(r), list, networksFields))
	return nil
}

// readNetworkCreate reads a request to create a network.
func readNetworkCreate(w http.ResponseWriter, r *http.Request) (body network.CreateRequest, err error) {
	empty, err := readJSON(w, r, &body)
	switch {
	case err != nil:
		return body, badSubnet(err)
	case empty:
		return body, invalid("invalid JSON: got EOF while reading request body")
	}
	return body, nil
}

func (s *server) networkCreate(w http.ResponseWriter, r *http.Request) error {
	body, err := readNetworkCreate(w, r)
	if err != nil {
		return err
	}
	named(r, "network", body.Name)
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
	q := r.URL.Query()
	if text := q.Get("verbose"); text != "" {
		// What it adds is of services, of which there are none.
		if _, err := strconv.ParseBool(text); err != nil {
			return invalid("invalid value for verbose: %s", text)
		}
	}
	got, err := s.engine.NetworkInspect(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	if scope := q.Get("scope"); scope != "" && scope != got.Scope {
		return fmt.Errorf("network %s not found in scope %s: %w", r.PathValue("name"), scope, errdefs.ErrNotFound)
	}
	if got.Containers == nil {
		got.Containers = map[string]network.EndpointResource{}
	}
	writeJSON(w, http.StatusOK, reshape(versionOf(r), got, networkFields))
	return nil
}

func (s *server) networkRemove(w http.ResponseWriter, r *http.Request) error {
	if err := s.engine.NetworkRemove(r.Context(), r.PathValue("name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// readConnect reads a request to connect a container.
func readConnect(w http.ResponseWriter, r *http.Request) (body network.ConnectRequest, err error) {
	empty, err := readJSON(w, r, &body)
	if err == nil && (empty || body.Container == "") {
		err = invalid("the container to connect is missing")
	}
	return body, err
}

func (s *server) networkConnect(w http.ResponseWriter, r *http.Request) error {
	body, err := readConnect(w, r)
	if err != nil {
		return err
	}
	named(r, "container", body.Container)
	if err := s.engine.NetworkConnect(r.Context(), r.PathValue("name"), body); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *server) networkDisconnect(w http.ResponseWriter, r *http.Request) error {
	var body network.DisconnectRequest
	empty, err := readJSON(w, r, &body)
	switch {
	case err != nil:
		return err
	case empty || body.Container == "":
		return invalid("the container to disconnect is missing")
	}
	named(r, "container", body.Container)
	if err := s.engine.NetworkDisconnect(r.Context(), r.PathValue("name"), body.Container, body.Force); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *server) networkPrune(w http.ResponseWriter, r *http.Request) error {
	chosen, err := filters(r.URL.Query())
	if err != nil {
		return err
	}
	report, err := s.engine.NetworkPrune(r.Context(), chosen)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, report)
	return nil
}
