package look

import (
	"testing"

	"github.com/fairlead/fairlead/doctor"
)

// TestReadNeighbours: of the kernel's tables, in the form of Linux 6.18 and of before
// table_fulls; and no number of what is none.
func TestReadNeighbours(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want doctor.Neighbours
		ok   bool
	}{
		{"entries  allocs   table_fulls\n00000053 0004a9fd 00000004\n00000053 00000000 00000010\n", doctor.Neighbours{Entries: 0x53, Full: 0x14}, true},
		{"entries  allocs\n00000400 0004a9fd\n", doctor.Neighbours{Entries: 1024}, true},
		{"entries allocs\n", doctor.Neighbours{}, false},
		{"entries allocs\nxyz 00\n", doctor.Neighbours{}, false},
		{"", doctor.Neighbours{}, false},
	} {
		if got, ok := readNeighbours(c.text); ok != c.ok || ok && got != c.want {
			t.Errorf("%q: %+v, %v", c.text, got, ok)
		}
	}
	if n := neighbours(); n["IPv4"].Full > 1<<40 || n["IPv6"].Entries > 1<<40 {
		t.Errorf("of this machine: %+v", n)
	}
}
