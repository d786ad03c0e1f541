package api

import (
	"encoding/json"
	"net/http"

	"github.com/containerd/platforms"
	"github.com/moby/moby/api/types/jsonstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fairlead/fairlead/engine"
)

// imageLoad answers with a message for each step as it is taken, unless told to
// be quiet, and one for each image there then is.
func (s *server) imageLoad(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	platform, err := onePlatform(q["platform"])
	if err != nil {
		return err
	}
	quiet := boolean(q, "quiet")
	m := &messages{s: s, w: w, r: r}
	err = s.engine.ImageLoad(r.Context(), engine.LoadRequest{Archive: r.Body, Platform: platform, Progress: func(one jsonstream.Message) {
		if one.Stream != "" || !quiet {
			m.send(one)
		}
	}})
	drain(w, r, err)
	return m.end(err)
}

// imageSave answers with an archive of one image or of several. Once it has begun a
// failure can only be told by cutting it off.
func (s *server) imageSave(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	refs := q["names"]
	if name := r.PathValue("name"); name != "" {
		refs = []string{name}
	}
	platform, err := onePlatform(q["platform"])
	if err != nil {
		return err
	}
	a := &answered{ResponseWriter: w}
	err = s.engine.ImageSave(r.Context(), refs, platform, a)
	if err == nil || !a.began {
		return err
	}
	s.log.ErrorContext(r.Context(), "saving images failed under way", "operation", "save", "images", refs, "err", err)
	panic(http.ErrAbortHandler)
}

// answered is a tar archive being sent.
type answered struct {
	http.ResponseWriter
	began bool
}

func (a *answered) Write(b []byte) (int, error) {
	if !a.began {
		a.began = true
		a.Header().Set("Content-Type", "application/x-tar")
	}
	return a.ResponseWriter.Write(b)
}

// onePlatform reads the platforms that a request may name, of which one is taken.
func onePlatform(texts []string) (string, error) {
	switch len(texts) {
	case 0:
		return "", nil
	case 1:
		return platformJSON(texts[0])
	}
	return "", invalid("several platforms are asked for: name one, or none for all that there are")
}

// platformJSON reads a platform as newer requests have it, a descriptor's in JSON,
// and gives the short form; "" stays that.
func platformJSON(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	var p ocispec.Platform
	if err := json.Unmarshal([]byte(text), &p); err != nil || p.OS == "" || p.Architecture == "" {
		return "", invalid("invalid platform %q: want JSON with os and architecture", text)
	}
	return platforms.Format(p), nil
}

func (s *server) imageHistory(w http.ResponseWriter, r *http.Request) error {
	platform, err := platformJSON(r.URL.Query().Get("platform"))
	if err != nil {
		return err
	}
	got, err := s.engine.ImageHistory(r.Context(), r.PathValue("name"), platform)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, got)
	return nil
}

func (s *server) imagePrune(w http.ResponseWriter, r *http.Request) error {
	chosen, err := filters(r.URL.Query())
	if err != nil {
		return err
	}
	got, err := s.engine.ImagePrune(r.Context(), chosen)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, got)
	return nil
}
