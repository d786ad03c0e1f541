package spawn

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// residentFile is how much of the files this process has mapped is resident, in
// KiB.
func residentFile(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "RssFile:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestSaveMemory(t *testing.T) {
	before := residentFile(t)
	if err := SaveMemory(helperGarbage); err != nil {
		t.Fatal(err)
	}
	// The code still runs; what this takes has come back already.
	if after := residentFile(t); after >= before {
		t.Errorf("%d KiB of files resident, before it were %d", after, before)
	}
}

func TestCleanParts(t *testing.T) {
	t.Parallel()
	const smaps = `00400000-00600000 r-xp 00000000 fe:00 1234   /usr/bin/fairlead
Size:               2048 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
00600000-00700000 r--p 00200000 fe:00 1234   /usr/bin/fairlead
Anonymous:             0 kB
00700000-00800000 r--p 00300000 fe:00 1234   /usr/lib/relocated.so
Anonymous:             8 kB
00800000-00900000 rw-p 00400000 fe:00 1234   /usr/bin/fairlead
Anonymous:             0 kB
c000000000-c000400000 rw-p 00000000 00:00 0
Anonymous:             0 kB
7fcd15956000-7fcd15998000 r--s 00001000 00:0e 12    anon_inode:bpf-map
Anonymous:             0 kB
7fcd15998000-7fcd159a0000 r--s 00000000 fe:00 77    /var/lib/fairlead/store.db
Anonymous:             0 kB
00900000-00a00000 r--p 00500000 fe:00 1234   /usr/bin/fairlead
Anonymous:             4 kB
7fff0000-7fff2000 r-xp 00000000 00:00 0      [vdso]
Anonymous:             0 kB
`
	want := []extent{{0x400000, 0x200000}, {0x600000, 0x100000}}
	if got := cleanParts(smaps, "/usr/bin/fairlead"); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
