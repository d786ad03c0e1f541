package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/internal/wellformed"
)

// maxBody bounds a JSON body, in bytes. The largest a client has reason to send
// is a create request with a few thousand ports and labels.
const maxBody = 8 << 20

// bodyTime is how long a client may take to send a JSON body.
const bodyTime = 30 * time.Second

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
	return readJSONWithin(w, r, v, bodyTime)
}

// readJSONWithin is readJSON for a client that has so long to send the body.
func readJSONWithin(w http.ResponseWriter, r *http.Request, v any, limit time.Duration) (empty bool, err error) {
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return true, nil
	}
	if err := checkJSONType(r.Header.Get("Content-Type")); err != nil {
		return false, err
	}
	// A client that never sends the rest must not be waited for.
	deadline := http.NewResponseController(w)
	if err := deadline.SetReadDeadline(time.Now().Add(limit)); err == nil {
		defer func() { _ = deadline.SetReadDeadline(time.Time{}) }()
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	if err := dec.Decode(v); err != nil {
		return false, badJSON(err, v)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) || errors.Is(err, os.ErrDeadlineExceeded) {
			return false, badJSON(err, v)
		}
		return false, invalid("unexpected content after JSON")
	}
	return false, wellformed.Check(v)
}

// badJSON says what is wrong with a body that was to be decoded into v, in the words of JSON and not of Go.
func badJSON(err error, v any) error {
	var tooLarge *http.MaxBytesError
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &tooLarge):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return invalid("the request's body did not come in time")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return invalid("invalid JSON: got EOF while reading request body")
	case errors.As(err, &syntax):
		return invalid("invalid JSON: at byte %d: %v", syntax.Offset, syntax)
	case errors.As(err, &kind):
		where := jsonPath(reflect.TypeOf(v), kind.Field)
		if where == "" {
			where = "the request's body"
		}
		return invalid("invalid JSON: %s: want %s, got %s", where, jsonKind(kind.Type), kind.Value)
	}
	return invalid("invalid JSON: %v", err)
}

// jsonPath is the path of a field without the names of Go's embedded types, which are
// not in the JSON.
func jsonPath(t reflect.Type, path string) string {
	var out []string
	for _, name := range strings.Split(path, ".") {
		for t != nil && t.Kind() != reflect.Struct {
			switch t.Kind() {
			case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
				t = t.Elem()
			default:
				t = nil
			}
		}
		if t == nil {
			out = append(out, name)
			continue
		}
		f, found := t.FieldByNameFunc(func(s string) bool { return strings.EqualFold(s, name) })
		if !found || !f.Anonymous {
			out = append(out, name)
		}
		t = f.Type // nil where it was not found
	}
	return strings.Join(out, ".")
}

// jsonKind is what JSON calls the values of a type.
func jsonKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "an object"
	case reflect.Pointer:
		return jsonKind(t.Elem())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return fmt.Sprintf("a whole number of %d bits", t.Bits())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return fmt.Sprintf("a whole number of %d bits that is not negative", t.Bits())
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	return "another kind of value"
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
