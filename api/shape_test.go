package api

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReshape: what a version has not goes, what it has and we lack comes, and the
// rest stays as it is.
func TestReshape(t *testing.T) {
	t.Parallel()
	fields := []field{
		{path: "Old", to: 43, missing: jsonZero},
		{path: "New", from: 44},
		{path: "Kept", to: 43, kept: true, missing: jsonText},
		{path: "Deep.*.Gone", from: 50},
		{path: "List.*.More", to: 43, missing: jsonList},
		{path: "Made", to: 43, missing: jsonObject},
		{path: "Made.Inside", to: 43, missing: jsonNull},
		{path: "Nowhere.At.All", to: 43, missing: jsonNull},
	}
	type answer struct {
		New   int
		Kept  string                    `json:",omitempty"`
		Deep  map[string]map[string]any `json:",omitempty"`
		List  []map[string]any          `json:",omitempty"`
		Large int64
	}
	full := answer{1, "k", map[string]map[string]any{"a": {"Gone": 1, "Stays": 2}, "b": nil}, []map[string]any{{"x": 1}, nil}, 1<<62 + 1}
	for _, tt := range []struct {
		version minor
		answer  any
		want    string
	}{
		{43, full, `{"Deep":{"a":{"Stays":2},"b":null},"Kept":"k","Large":4611686018427387905,"List":[{"More":[],"x":1},null],"Made":{"Inside":null},"Old":0}`},
		{44, full, `{"Deep":{"a":{"Stays":2},"b":null},"Kept":"k","Large":4611686018427387905,"List":[{"x":1},null],"New":1}`},
		{50, full, `{"Deep":{"a":{"Gone":1,"Stays":2},"b":null},"Kept":"k","Large":4611686018427387905,"List":[{"x":1},null],"New":1}`},
		{43, answer{}, `{"Kept":"","Large":0,"Made":{"Inside":null},"Old":0}`},
		{44, []answer(nil), `null`},
		{44, "text", `"text"`},
	} {
		got, err := json.Marshal(reshape(tt.version, tt.answer, fields))
		if diff := cmp.Diff(tt.want, string(got)); diff != "" || err != nil {
			t.Errorf("1.%d: %v -want +got\n%s", tt.version, err, diff)
		}
	}
}

// TestFields: every field that is filled in is JSON, and a range is no nonsense.
func TestFields(t *testing.T) {
	t.Parallel()
	for _, f := range slices.Concat(inspectFields, listFields, infoFields, networkFields, networksFields, imageFields, imagesFields) {
		if f.missing != nil && !json.Valid(f.missing) {
			t.Errorf("%s: %s", f.path, f.missing)
		}
		if f.to != 0 && f.to < f.from {
			t.Errorf("%s: %d to %d", f.path, f.from, f.to)
		}
	}
}
