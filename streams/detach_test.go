package streams

import "testing"

func TestDetector(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		keys, in, out string
		detached      bool
	}{
		{"", "anything", "anything", false},
		{"\x10\x11", "ls\n", "ls\n", false},
		{"\x10\x11", "a\x10\x11b", "a", true},
		{"\x10\x11", "\x10\x10\x11", "\x10", true},
		{"\x10\x11", "\x10", "", false}, // held back
		{"\x10\x11", "\x10x", "\x10x", false},
		{"aab", "aaab", "a", true},
		{"aab", "aac", "aac", false},
		{"abab", "abaabab", "aba", true},
		{"q", "yesq", "yes", true},
	} {
		// Whole, and a byte at a time.
		for _, step := range []int{len(tc.in), 1} {
			d := detector{keys: []byte(tc.keys)}
			var out []byte
			detached := false
			for i := 0; i < len(tc.in) && !detached; i += step {
				var o []byte
				o, detached = d.filter([]byte(tc.in[i : i+step]))
				out = append(out, o...)
			}
			if string(out) != tc.out || detached != tc.detached {
				t.Errorf("keys %q, %q by %d: %q, %v", tc.keys, tc.in, step, out, detached)
			}
		}
	}
}
