package daemon

import (
	"strings"
	"testing"
)

func TestAcceptMark(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][2]uint32{
		"": {}, "1": {1, 0xffffffff}, "0x10/0xf0": {0x10, 0xf0}, "0": {0, 0xffffffff},
	} {
		m, err := (&Config{AcceptFWMark: text}).acceptMark()
		if err != nil || [2]uint32{m.Value, m.Mask} != want {
			t.Errorf("%q is %v, %v; want %v", text, m, err, want)
		}
	}
	for text, say := range map[string]string{
		"red": "no number", "1/": "no number", "1/x": "no number", "1/0": "every packet", "3/1": "no packet", "0x100000000": "no number", "1_0": "no number", "-1": "no number",
	} {
		_, err := (&Config{AcceptFWMark: text}).acceptMark()
		if err == nil || !strings.Contains(err.Error(), say) || !strings.Contains(err.Error(), "--bridge-accept-fwmark") || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: err = %v; want one that names it and says %q", text, err, say)
		}
	}
}
