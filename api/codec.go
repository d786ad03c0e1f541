package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// maxBody bounds a JSON body, in bytes. The largest a client has reason to send
// is a create request with a few thousand ports and labels.
const maxBody = 8 << 20

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // the client is gone: there is nobody to tell
}

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrInvalidArgument)...)
}

// readJSON decodes a request's body, which must be one JSON value and say that
// it is. An absent body leaves v as it is, and empty is true.
func readJSON(w http.ResponseWriter, r *http.Request, v any) (empty bool, err error) {
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return true, nil
	}
	if err := checkJSONType(r.Header.Get("Content-Type")); err != nil {
		return false, err
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	if err := dec.Decode(v); err != nil {
		var tooLarge *http.MaxBytesError
		switch {
		case errors.As(err, &tooLarge):
			return false, err
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return false, invalid("invalid JSON: got EOF while reading request body")
		}
		return false, invalid("invalid JSON: %v", err)
	}
	if dec.More() {
		return false, invalid("unexpected content after JSON")
	}
	return false, nil
}

func checkJSONType(header string) error {
	mediaType, _, err := mime.ParseMediaType(header)
	if err != nil && header != "" {
		return invalid("malformed Content-Type header (%s)", header)
	}
	if mediaType != "application/json" {
		return invalid("unsupported Content-Type header (%s): must be 'application/json'", header)
	}
	return nil
}

// boolean is Docker's: anything but "", 0, no, false and none is true.
func boolean(q url.Values, key string) bool {
	switch strings.ToLower(strings.TrimSpace(q.Get(key))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// integer reads a number that may be left out, then given is false.
func integer(q url.Values, key string) (n int, given bool, err error) {
	text := q.Get(key)
	if text == "" {
		return 0, false, nil
	}
	if n, err = strconv.Atoi(text); err != nil {
		return 0, false, invalid("invalid %s %q: not a number", key, text)
	}
	return n, true, nil
}

// size reads the height and width of a terminal, in characters.
func size(q url.Values) (height, width uint, err error) {
	for _, side := range []struct {
		key string
		to  *uint
	}{{"h", &height}, {"w", &width}} {
		n, err := strconv.ParseUint(q.Get(side.key), 10, 16)
		if err != nil {
			return 0, 0, invalid("invalid terminal size %s=%q: want 0 to 65535", side.key, q.Get(side.key))
		}
		*side.to = uint(n)
	}
	return height, width, nil
}

// filters reads {"key":{"value":true}} and its older form {"key":["value"]}.
func filters(q url.Values) (map[string][]string, error) {
	text := q.Get("filters")
	if text == "" {
		return nil, nil
	}
	var sets map[string]map[string]bool
	if err := json.Unmarshal([]byte(text), &sets); err == nil {
		out := map[string][]string{}
		for key, values := range sets {
			for value, on := range values {
				if on {
					out[key] = append(out[key], value)
				}
			}
			slices.Sort(out[key])
		}
		return out, nil
	}
	var lists map[string][]string
	if err := json.Unmarshal([]byte(text), &lists); err != nil {
		return nil, invalid("invalid filters %q", text)
	}
	return lists, nil
}
