package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/fairlead/fairlead/engine"
)

func (s *server) containerList(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	chosen, err := filters(q)
	if err != nil {
		return err
	}
	limit, _, err := integer(q, "limit")
	if err != nil {
		return err
	}
	list, err := s.engine.List(r.Context(), engine.ListOptions{All: boolean(q, "all"), Limit: max(limit, 0), Size: boolean(q, "size"), Filters: chosen})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, summariesFor(versionOf(r), list))
	return nil
}

// createBody is a create request with what clients before 1.44 put a hardware
// address in, and clients before 1.42 and 1.52 limits of the kernel's memory.
type createBody struct {
	container.CreateRequest
	HostConfig *struct {
		container.HostConfig
		KernelMemory, KernelMemoryTCP int64
	}
	MacAddress network.HardwareAddr
}

// request is what the engine is asked for, with warnings of what it cannot be asked.
func (b createBody) request() (request engine.CreateRequest, warnings []string) {
	request = engine.CreateRequest{Config: b.Config, NetworkingConfig: b.NetworkingConfig}
	if h := b.HostConfig; h != nil {
		request.HostConfig = &h.HostConfig
		if h.KernelMemory > 0 || h.KernelMemoryTCP > 0 {
			warnings = append(warnings, "Limits of the kernel's memory (--kernel-memory) were discarded: Linux has none any more; --memory counts the kernel's too")
		}
	}
	normalizeNetworks(&request, b.MacAddress)
	return request, warnings
}

// readCreate reads a request to create a container, with warnings of what of it is
// passed over.
func readCreate(w http.ResponseWriter, r *http.Request) (request engine.CreateRequest, warnings []string, err error) {
	var body createBody
	empty, err := readJSON(w, r, &body)
	switch {
	case err != nil:
		return request, nil, err
	case empty || body.Config == nil:
		return request, nil, invalid("config cannot be empty in order to create a container")
	}
	request, warnings = body.request()
	request.Name, request.Platform = r.URL.Query().Get("name"), r.URL.Query().Get("platform")
	return request, warnings, nil
}

func (s *server) containerCreate(w http.ResponseWriter, r *http.Request) error {
	named(r, "container", r.URL.Query().Get("name"))
	request, warnings, err := readCreate(w, r)
	if err != nil {
		return err
	}
	created, err := s.engine.Create(r.Context(), request)
	if err != nil {
		return createFailure(err)
	}
	created.Warnings = append(append([]string{}, warnings...), created.Warnings...)
	writeJSON(w, http.StatusCreated, created)
	return nil
}

// createFailure keeps 404 for the image, or the platform wanted of it: Docker's client
// takes it for a request to pull that. A network, or a container to join, that is not
// there is a bad request.
func createFailure(err error) error {
	status, text := classify(err)
	if status == http.StatusNotFound && !strings.HasPrefix(text, "No such image") && !strings.HasPrefix(text, "image with reference") {
		return invalid("%s", text)
	}
	return err
}

// normalizeNetworks fills in what may be left out, and gives the default network
// its name: clients say "", "default" or "bridge". A container-wide hardware
// address, as old clients send it, is that of the first network.
func normalizeNetworks(request *engine.CreateRequest, mac network.HardwareAddr) {
	if request.HostConfig == nil {
		request.HostConfig = &container.HostConfig{}
	}
	if request.NetworkingConfig == nil {
		request.NetworkingConfig = &network.NetworkingConfig{}
	}
	mode := &request.HostConfig.NetworkMode
	if *mode == "" || mode.IsDefault() {
		*mode = network.NetworkBridge
	}
	endpoints := request.NetworkingConfig.EndpointsConfig
	if settings, found := endpoints[network.NetworkDefault]; found {
		delete(endpoints, network.NetworkDefault)
		if endpoints[network.NetworkBridge] == nil {
			endpoints[network.NetworkBridge] = settings
		}
	}
	if len(mac) == 0 {
		return
	}
	if endpoints == nil {
		endpoints = map[string]*network.EndpointSettings{}
		request.NetworkingConfig.EndpointsConfig = endpoints
	}
	first := endpoints[string(*mode)]
	if first == nil {
		first = &network.EndpointSettings{}
		endpoints[string(*mode)] = first
	}
	if len(first.MacAddress) == 0 {
		first.MacAddress = mac
	}
}

func (s *server) containerInspect(w http.ResponseWriter, r *http.Request) error {
	got, err := s.engine.Inspect(r.Context(), r.PathValue("name"), boolean(r.URL.Query(), "size"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, inspectFor(versionOf(r), got))
	return nil
}

func (s *server) containerRemove(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	err := s.engine.Remove(r.Context(), r.PathValue("name"), engine.RemoveOptions{
		Force: boolean(q, "force"), Volumes: boolean(q, "v"), Link: boolean(q, "link"),
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *server) containerRename(w http.ResponseWriter, r *http.Request) error {
	if err := s.engine.Rename(r.Context(), r.PathValue("name"), r.URL.Query().Get("name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *server) containerStart(w http.ResponseWriter, r *http.Request) error {
	// Old clients send a HostConfig here; Docker refuses it since 1.24.
	var body map[string]any
	if empty, err := readJSON(w, r, &body); err != nil {
		return err
	} else if !empty && len(body) > 0 {
		return invalid("starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")
	}
	if name := r.URL.Query().Get("checkpoint"); name != "" {
		return fmt.Errorf("cannot start from checkpoint %s: %s: %w", name, noCheckpoints, errdefs.ErrNotImplemented)
	}
	s.attaching.wait(r.Context())
	if err := s.engine.Start(r.Context(), r.PathValue("name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// stopOptions reads what stop and restart take.
func stopOptions(r *http.Request) (engine.StopOptions, error) {
	q := r.URL.Query()
	options := engine.StopOptions{Signal: q.Get("signal")}
	seconds, given, err := integer(q, "t")
	if given {
		options.Timeout = &seconds
	}
	return options, err
}

func (s *server) containerStop(w http.ResponseWriter, r *http.Request) error {
	options, err := stopOptions(r)
	if err != nil {
		return err
	}
	if err := s.engine.Stop(r.Context(), r.PathValue("name"), options); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *server) containerRestart(w http.ResponseWriter, r *http.Request) error {
	options, err := stopOptions(r)
	if err != nil {
		return err
	}
	if err := s.engine.Restart(r.Context(), r.PathValue("name"), options); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *server) containerKill(w http.ResponseWriter, r *http.Request) error {
	if err := s.engine.Kill(r.Context(), r.PathValue("name"), r.URL.Query().Get("signal")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// containerWait answers its headers as soon as the wait stands: a client starts
// the container only then. The body is the exit status, later.
func (s *server) containerWait(w http.ResponseWriter, r *http.Request) error {
	condition := container.WaitCondition(r.URL.Query().Get("condition"))
	switch condition {
	case "":
		condition = container.WaitConditionNotRunning
	case container.WaitConditionNotRunning, container.WaitConditionNextExit, container.WaitConditionRemoved:
	default:
		return invalid("invalid condition: %q", condition)
	}
	exit, err := s.engine.Wait(r.Context(), r.PathValue("name"), condition)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	if err := http.NewResponseController(w).Flush(); err != nil {
		return fmt.Errorf("send the headers of a wait: %w", err)
	}
	select {
	case status, ok := <-exit:
		if ok {
			_ = json.NewEncoder(w).Encode(status) // the client is gone
		}
	case <-r.Context().Done():
		// The daemon is stopping, or nobody waits: an answer without a body
		// tells a client to ask again.
	}
	return nil
}
