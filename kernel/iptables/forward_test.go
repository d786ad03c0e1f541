package iptables_test

import (
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/iptables"
)

// isolate puts the test, and the programs it starts, into a network namespace of
// its own. The thread is never unlocked, so it ends with the test.
func isolate(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace: %v (tests need root)", err)
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

const (
	from = `-A FORWARD -m devgroup --src-group 0xfa1 -m comment --comment "fairlead: from containers" -j ACCEPT`
	to   = `-A FORWARD -m devgroup --dst-group 0xfa1 -m comment --comment "fairlead: to containers" -j ACCEPT`
)

func TestOpenForward(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		command string
		setup   [][]string
		want    string
		lines   int
	}{
		"policy": {
			"iptables-legacy",
			[][]string{{"-A", "FORWARD", "-s", "192.0.2.1", "-j", "DROP"}, {"-P", "FORWARD", "DROP"}},
			"-P FORWARD DROP\n-A FORWARD -s 192.0.2.1/32 -j DROP\n" + from + "\n" + to + "\n", 1,
		},
		"last rule": {
			"ip6tables-legacy",
			[][]string{{"-A", "FORWARD", "-i", "lan0", "-j", "ACCEPT"}, {"-A", "FORWARD", "-m", "comment", "--comment", "the rest", "-j", "REJECT"}},
			"-P FORWARD ACCEPT\n-A FORWARD -i lan0 -j ACCEPT\n" + from + "\n" + to + "\n-A FORWARD -m comment --comment \"the rest\" -j REJECT --reject-with icmp6-port-unreachable\n", 1,
		},
		"ufw that rejects": {
			"ip6tables-legacy",
			[][]string{
				{"-N", "ufw6-reject-forward"},
				{"-A", "FORWARD", "-p", "tcp", "-j", "ACCEPT"},
				{"-A", "FORWARD", "-j", "ufw6-reject-forward"},
				{"-A", "ufw6-reject-forward", "-j", "REJECT"},
			},
			"-P FORWARD ACCEPT\n-A FORWARD -p tcp -j ACCEPT\n" + from + "\n" + to + "\n-A FORWARD -j ufw6-reject-forward\n", 1,
		},
		"conditional drops": {
			"iptables-legacy",
			[][]string{
				{"-N", "LOGDROP"},
				{"-A", "FORWARD", "-i", "lan0", "-j", "LOGDROP"},
				{"-A", "FORWARD", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP"},
				{"-A", "LOGDROP", "-m", "comment", "--comment", "a \"quoted\" -j ACCEPT", "-j", "DROP"},
			},
			"-P FORWARD ACCEPT\n-A FORWARD -i lan0 -j LOGDROP\n-A FORWARD -m conntrack --ctstate INVALID -j DROP\n", 0,
		},
		"accepts": {
			"iptables-legacy",
			[][]string{{"-A", "FORWARD", "-s", "192.0.2.1", "-j", "DROP"}},
			"-P FORWARD ACCEPT\n-A FORWARD -s 192.0.2.1/32 -j DROP\n", 0,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			isolate(t)
			for _, args := range tt.setup {
				run(t, tt.command, append([]string{"-w"}, args...)...)
			}
			before := run(t, tt.command, "-w", "-S", "FORWARD")
			f := iptables.Forward{Tag: "fairlead", Group: 0xfa1}
			for round := range 2 {
				found, err := iptables.OpenForward(t.Context(), f)
				if err != nil {
					t.Fatal(err)
				}
				if len(found) != tt.lines {
					t.Errorf("round %d: found %q, want %d", round, found, tt.lines)
				}
				if diff := cmp.Diff(tt.want, run(t, tt.command, "-w", "-S", "FORWARD")); diff != "" {
					t.Errorf("round %d: FORWARD is not as wanted (-):\n%s", round, diff)
				}
			}
			if err := iptables.CloseForward(t.Context(), f.Tag); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, run(t, tt.command, "-w", "-S", "FORWARD")); diff != "" {
				t.Errorf("after closing FORWARD is not as before (-):\n%s", diff)
			}
		})
	}
}

// A drop put in front of ours later moves ours up; a foreign bridge is named.
func TestOpenForwardMovesUp(t *testing.T) {
	t.Parallel()
	isolate(t)
	run(t, "iptables-legacy", "-w", "-P", "FORWARD", "DROP")
	f := iptables.Forward{Tag: "fairlead", Group: 0xfa1, Bridges: []string{"bridge0"}}
	if _, err := iptables.OpenForward(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	run(t, "iptables-legacy", "-w", "-I", "FORWARD", "2", "-j", "DROP")
	if _, err := iptables.OpenForward(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	want := "-P FORWARD DROP\n" + from + "\n" + to + `
-A FORWARD -i bridge0 -m comment --comment "fairlead: from bridge0" -j ACCEPT
-A FORWARD -o bridge0 -m comment --comment "fairlead: to bridge0" -j ACCEPT
-A FORWARD -j DROP
`
	if diff := cmp.Diff(want, run(t, "iptables-legacy", "-w", "-S", "FORWARD")); diff != "" {
		t.Errorf("FORWARD is not as wanted (-):\n%s", diff)
	}
}

// A chain of the owner's that drops gets our rules itself, and those behind another
// wall as well; guests of others stay shut off.
func TestOthers(t *testing.T) {
	t.Parallel()
	isolate(t)
	for _, line := range []string{
		"-N MINE", "-A FORWARD -i eth0 -j MINE", "-A MINE -s 192.0.2.9 -j DROP", "-A MINE -o virbr0 -j ACCEPT", "-A MINE -m conntrack --ctstate NEW -j DROP",
		"-A FORWARD ! -o lan0 -i virbr1 -j ACCEPT", "-A FORWARD -i shut0 -j DROP", "-A FORWARD -o answers0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-A INPUT -i in0 -j ACCEPT", "-P FORWARD DROP",
	} {
		run(t, "iptables-legacy", append([]string{"-w"}, strings.Fields(line)...)...)
	}
	before := run(t, "iptables-legacy", "-w", "-S")
	f := iptables.Forward{Tag: "fairlead", Group: 0xfa1, Others: []string{"virbr0"}}
	for range 2 {
		if found, err := iptables.OpenForward(t.Context(), f); err != nil || len(found) != 1 {
			t.Fatalf("found %q, %v", found, err)
		}
	}
	not := `-o virbr0 -m devgroup --src-group 0xfa1 -m comment --comment "fairlead: not to virbr0" -j DROP` + "\n"
	want := "-P FORWARD DROP\n-A FORWARD -i eth0 -j MINE\n-A FORWARD -i virbr1 ! -o lan0 -j ACCEPT\n-A FORWARD -i shut0 -j DROP\n-A FORWARD -o answers0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A FORWARD " + not + from + "\n" + to + "\n"
	if diff := cmp.Diff(want, run(t, "iptables-legacy", "-w", "-S", "FORWARD")); diff != "" {
		t.Errorf("FORWARD is not as wanted (-):\n%s", diff)
	}
	ours := strings.ReplaceAll("-A FORWARD "+not+from+"\n"+to+"\n", "FORWARD", "MINE")
	want = "-N MINE\n-A MINE -s 192.0.2.9/32 -j DROP\n-A MINE -o virbr0 -j ACCEPT\n" + ours + "-A MINE -m conntrack --ctstate NEW -j DROP\n"
	if diff := cmp.Diff(want, run(t, "iptables-legacy", "-w", "-S", "MINE")); diff != "" {
		t.Errorf("MINE is not as wanted (-):\n%s", diff)
	}
	served, err := iptables.Served(t.Context(), "fairlead", nil)
	if diff := cmp.Diff([]string{"virbr0", "virbr1"}, served); diff != "" || err != nil {
		t.Errorf("served (- wanted): %v\n%s", err, diff)
	}
	if err := iptables.CloseForward(t.Context(), "fairlead"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, run(t, "iptables-legacy", "-w", "-S")); diff != "" {
		t.Errorf("after closing the table is not as before (-):\n%s", diff)
	}
}

// Where no legacy table is in use, looking does not bring one into use.
func TestOpenForwardLeavesNoTrace(t *testing.T) {
	t.Parallel()
	isolate(t)
	found, err := iptables.OpenForward(t.Context(), iptables.Forward{Tag: "fairlead", Group: 0xfa1})
	if err != nil || len(found) != 0 {
		t.Errorf("found %q, %v; want nothing", found, err)
	}
	if names := run(t, "cat", "/proc/self/net/ip_tables_names"); names != "" {
		t.Errorf("tables in use afterwards: %q", names)
	}
}
