package jsonlog

import (
	"encoding/json"
	"testing"
)

// FuzzEntry: whatever a file has, what the fast way reads is what encoding/json does.
func FuzzEntry(f *testing.F) {
	for _, seed := range []string{
		`{"log":"a\n","stream":"stdout","time":"2026-01-02T03:04:05.6Z"}`, `{"log":"\u001b[1m\"\\\t","stream":"stderr","time":"2026-01-02T03:04:05Z"}`,
		`{"log":"\ud83d\ude00","stream":"stdout","attrs":{"a":"b"},"time":"2026-01-02T03:04:05Z"}`, `{"log":"`, `{"log":"\u00`, `null`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var buf []byte
		got, ok := parseOwn(line, &buf)
		var want entry
		if !ok || json.Unmarshal(line, &want) != nil {
			return // the one is for what the other cannot read
		}
		// Bytes that are not UTF-8 are passed on as they are.
		if again, _ := json.Marshal(string(got.text)); want.Stream != got.Stream || !want.Time.Equal(got.Time) || !sameText(again, want.Log) {
			t.Errorf("%q: %+v, want %+v", line, got, want)
		}
	})
}

func sameText(encoded []byte, want string) bool {
	var got string
	return json.Unmarshal(encoded, &got) == nil && got == want
}
