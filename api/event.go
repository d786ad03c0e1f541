package api

import (
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types"
	"github.com/moby/moby/api/types/events"

	"github.com/fairlead/fairlead/engine"
)

// legacyEvent is a message with what clients of 1.21 and older read of it. Docker leaves
// that out from 1.52 on; but programs that take whatever version a daemon has, as
// docker-compose 1 does, end where it is not there.
type legacyEvent struct {
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
	events.Message
}

// eventFor gives a message the fields that clients read.
func eventFor(m events.Message) any {
	if m.Type != events.ContainerEventType && m.Type != events.ImageEventType {
		return m
	}
	out := legacyEvent{Status: string(m.Action), ID: m.Actor.ID, Message: m}
	if m.Type == events.ContainerEventType {
		out.From = m.Actor.Attributes["image"]
	}
	return out
}

// events answers GET /events: its headers when nothing can be missed any more, then a
// JSON value for each message.
func (s *server) events(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	chosen, err := filters(q)
	if err != nil {
		return err
	}
	mediaType := eventsType(versionOf(r), r.Header.Values("Accept"))
	out := json.NewEncoder(w)
	begun := false
	options := engine.EventsOptions{Since: q.Get("since"), Until: q.Get("until"), Filters: chosen}
	err = s.engine.Events(r.Context(), options, func(messages []events.Message) error {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", mediaType)
			w.WriteHeader(http.StatusOK)
		} else if len(messages) == 0 {
			return nil
		}
		for _, m := range messages {
			if mediaType == types.MediaTypeJSONSequence {
				if _, err := io.WriteString(w, "\x1e"); err != nil {
					return err
				}
			}
			if err := out.Encode(eventFor(m)); err != nil {
				return err
			}
		}
		return http.NewResponseController(w).Flush()
	})
	if err != nil && begun {
		return nil // the client is gone: there is nobody to tell
	}
	return err
}

// eventsType is how the messages are told apart: the form the client likes best of
// those that the version has.
func eventsType(version minor, accept []string) string {
	best, weight := types.MediaTypeJSON, 0.0
	for _, text := range strings.Split(strings.Join(accept, ","), ",") {
		offer, params, err := mime.ParseMediaType(text)
		if err != nil {
			continue
		}
		switch offer {
		case types.MediaTypeJSON:
		case types.MediaTypeNDJSON, types.MediaTypeJSONSequence:
			if version < 52 {
				continue
			}
		case types.MediaTypeJSONLines:
			if version < 53 {
				continue
			}
		default:
			continue
		}
		q := 1.0
		if given, err := strconv.ParseFloat(params["q"], 64); err == nil {
			q = given
		}
		if q > weight {
			best, weight = offer, q
		}
	}
	return best
}
