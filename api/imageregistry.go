package api

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"

	"github.com/fairlead/fairlead/engine"
)

// messages answers with a stream of JSON values, one for each step. Nothing is
// answered before the first, so that what fails at once has a status of its own.
type messages struct {
	s     *server
	w     http.ResponseWriter
	r     *http.Request
	began bool
}

// message is jsonstream's with the error once more, as older clients read it.
type message struct {
	jsonstream.Message
	Text string `json:"error,omitempty"`
}

func (m *messages) send(one jsonstream.Message) {
	out := message{Message: one}
	if one.Error != nil {
		out.Text = one.Error.Message
	}
	if !m.began {
		m.began = true
		m.w.Header().Set("Content-Type", "application/json")
	}
	enc := json.NewEncoder(m.w)
	enc.SetEscapeHTML(false)
	// A client that is gone ends the work by the request's context.
	_ = enc.Encode(out)
	_ = http.NewResponseController(m.w).Flush()
}

// end is the handler's own result: an error that comes too late for a status is the
// last message.
func (m *messages) end(err error) error {
	if err == nil || !m.began {
		return err
	}
	// Where nobody is there to read it, nothing more is said.
	if m.r.Context().Err() == nil {
		status, text := classify(err)
		m.s.log.DebugContext(m.r.Context(), "request failed under way", "path", m.r.URL.Path, "err", err)
		m.send(jsonstream.Message{Error: &jsonstream.Error{Code: status, Message: text}})
	}
	return nil
}

// registryAuth reads the credentials that go with a request: JSON in base64, of the
// alphabet for URLs; old clients use the other and leave out what fills it up.
func registryAuth(r *http.Request) (registry.AuthConfig, error) {
	var auth registry.AuthConfig
	text := r.Header.Get(registry.AuthHeader)
	if text == "" {
		return auth, nil
	}
	text = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(text, "="))
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(raw, &auth)
	}
	if err != nil {
		return auth, invalid("invalid %s header: want credentials in JSON, in base64url: %v", registry.AuthHeader, err)
	}
	return whole(auth)
}

// whole takes user and password out of where some clients have them joined.
func whole(auth registry.AuthConfig) (registry.AuthConfig, error) {
	if auth.Username != "" || auth.Auth == "" {
		return auth, nil
	}
	raw, err := base64.StdEncoding.DecodeString(auth.Auth)
	user, password, joined := strings.Cut(string(raw), ":")
	if err != nil || !joined {
		return auth, invalid("invalid credentials: auth is not USER:PASSWORD in base64")
	}
	auth.Username, auth.Password = user, strings.TrimRight(password, "\x00")
	return auth, nil
}

func (s *server) imagePull(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	auth, err := registryAuth(r)
	if err != nil {
		return err
	}
	// A tag beside a name that has one already, or a digest, wins.
	ref := q.Get("fromImage")
	switch tag := q.Get("tag"); {
	case strings.Contains(tag, ":"):
		ref += "@" + tag
	case tag != "":
		ref = reference(ref, tag)
	}
	m := &messages{s: s, w: w, r: r}
	return m.end(s.engine.ImagePull(r.Context(), engine.PullRequest{Ref: ref, Platform: q.Get("platform"), Auth: auth, Progress: m.send}))
}

func (s *server) imagePush(w http.ResponseWriter, r *http.Request) error {
	auth, err := registryAuth(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	platform, err := platformJSON(q.Get("platform"))
	if err != nil {
		return err
	}
	m := &messages{s: s, w: w, r: r}
	return m.end(s.engine.ImagePush(r.Context(), engine.PushRequest{
		Ref: reference(r.PathValue("name"), q.Get("tag")), Platform: platform, Auth: auth, Progress: m.send,
	}))
}

func (s *server) auth(w http.ResponseWriter, r *http.Request) error {
	var auth registry.AuthConfig
	empty, err := readJSON(w, r, &auth)
	if err != nil {
		return err
	}
	if empty {
		return invalid("the credentials are missing")
	}
	if auth, err = whole(auth); err != nil {
		return err
	}
	token, err := s.engine.Login(r.Context(), auth)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, registry.AuthResponse{Status: "Login Succeeded", IdentityToken: token})
	return nil
}

func (s *server) distributionInspect(w http.ResponseWriter, r *http.Request) error {
	auth, err := registryAuth(r)
	if err != nil {
		return err
	}
	got, err := s.engine.DistributionInspect(r.Context(), r.PathValue("name"), auth)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, got)
	return nil
}
