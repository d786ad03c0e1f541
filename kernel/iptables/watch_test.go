package iptables_test

import (
	"testing"

	"github.com/fairlead/fairlead/kernel/iptables"
)

func TestFingerprint(t *testing.T) {
	t.Parallel()
	isolate(t)
	take := func() uint64 {
		t.Helper()
		f, err := iptables.Fingerprint("filter")
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	if f := take(); f != 0 {
		t.Errorf("with no table: %d", f)
	}
	run(t, "ip", "link", "set", "lo", "up")
	seen := map[uint64]string{0: "no table"}
	for _, command := range []string{"iptables-legacy", "ip6tables-legacy"} {
		for _, args := range [][]string{
			{"-A", "INPUT", "-j", "ACCEPT"},
			{"-A", "FORWARD", "-i", "lan0", "-j", "ACCEPT"},
			{"-P", "FORWARD", "DROP"},
			{"-R", "FORWARD", "1", "-i", "lan1", "-j", "ACCEPT"},
			{"-N", "MINE"},
		} {
			run(t, command, append([]string{"-w"}, args...)...)
			f := take()
			if other, there := seen[f]; there {
				t.Errorf("%s %q: as after %s", command, args, other)
			}
			seen[f] = command
			run(t, "ping", "-c1", "-W1", "127.0.0.1") // counters do not count
			run(t, "ping", "-c1", "-W1", "::1")
			if again := take(); again != f {
				t.Errorf("%s %q: another without a change", command, args)
			}
		}
	}
}
