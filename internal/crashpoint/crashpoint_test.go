package crashpoint

import "testing"

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		name string
		n    int64
		pid  int
	}{
		"":                   {"", 1, 0},
		"attach.veth":        {"attach.veth", 1, 0},
		"attach.veth@3":      {"attach.veth", 3, 0},
		"attach.veth@0":      {"attach.veth", 1, 0},
		"attach.veth:77":     {"attach.veth", 1, 77},
		"attach.veth@2:77":   {"attach.veth", 2, 77},
		"attach.veth@x:some": {"attach.veth", 1, 0},
	} {
		if name, n, pid := parse(text); name != want.name || n != want.n || pid != want.pid {
			t.Errorf("%q: %q, %d, %d; want %+v", text, name, n, pid, want)
		}
	}
}
